// Shared calls: many at once in one worker, each with its row of the marks, its own end and its own
// cancel; pings of the event loop; what breaks the rules.
#include <signal.h>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;
constexpr const char* kTaskCancelled = "asyncio.exceptions.CancelledError";

Ask in_row(std::uint16_t row, std::string function, std::string payload = "[]") {
  return {.function = std::move(function), .payload = std::move(payload), .row = row};
}
// Sends it, and waits until its user code runs.
std::uint64_t begin(Peer& peer, const Ask& ask) {
  const auto call = peer.send_call(ask);
  EXPECT_TRUE(peer.await_started(call, ask.row));
  return call;
}
bool runs(const Peer& peer, std::uint64_t call, std::uint16_t row) {
  return peer.row_mark(row, wire::kRowStarted) == call &&
         peer.row_mark(row, wire::kRowEnded) != call;
}
void expect_exit_1(Peer& peer) {
  const auto status = peer.status();
  ASSERT_TRUE(status);
  EXPECT_EQ(*status, 1 << 8);
}
// The next pong.
void expect_pong(Peer& peer, std::uint64_t token, bool loop) {
  const auto message = peer.next_control();
  ASSERT_TRUE(message && message->type() == wire::Type::kPong);
  EXPECT_EQ(message->header.flags, loop ? wire::kFlagLoop : 0);
  EXPECT_EQ(wire::decode_pong({message->header, message->body}),
            (wire::PongMessage{.token = token, .running = 0}));
}

// ---- beside each other

// Goal: all of them are under way at once, and who ends first is answered first.
TEST_P(Protocol, RunsSharedCallsBesideEachOther) {
  auto peer = ready();
  std::vector<std::uint64_t> calls;
  for (std::uint16_t row = 1; row <= 20; ++row) {
    calls.push_back(peer->send_call(in_row(row, row % 4 == 0 ? "threads" : "together", kLong)));
  }
  for (std::uint16_t row = 1; row <= 20; ++row) {
    EXPECT_TRUE(peer->await_started(calls[row - 1U], row));
  }
  expect_result(peer->call(in_row(21, "together", "[1]")), 1);
  expect_result(peer->call(in_row(21, "threads", "[2]")), 2);
  for (std::uint16_t row = 20; row >= 1; --row) {
    EXPECT_TRUE(runs(*peer, calls[row - 1U], row));
    peer->cancel(calls[row - 1U], row);
    const Reply reply = peer->reply();
    EXPECT_EQ(reply.call, calls[row - 1U]);
    EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
  }
  expect_result(peer->call("echo", {"alone"}), "alone");
}

// Goal: as many as are sent at once, in whatever packets: each is answered, once, with its own.
TEST_P(Protocol, AnswersEachOfManySharedCalls) {
  auto peer = ready();
  std::map<std::uint64_t, Json> expected;
  std::string bytes;
  std::uint16_t row = 0;
  const auto add = [&](const char* function, const Json& value) {
    const auto call = peer->skip_call();
    expected[call] = value;
    bytes += Peer::encode(call, in_row(++row, function, Json::array({value}).dump()));
  };
  for (int i = 0; i < 64; ++i) add("together", i % 5);
  for (int i = 0; i < 8; ++i) add("threads", i % 3);
  for (int i = 0; i < 30; ++i) add("echo", std::string(static_cast<std::size_t>(i * 5000), 'e'));
  std::vector<std::string> packets;
  for (std::size_t at = 0, size = 1; at < bytes.size(); at += size, size = size * 3 % 50'021) {
    packets.push_back(bytes.substr(at, size));
  }
  peer->send_packets(packets);
  while (!expected.empty()) {
    const Reply reply = peer->reply();
    ASSERT_TRUE(expected.contains(reply.call)) << reply.call;
    expect_result(reply, expected[reply.call]);
    expected.erase(reply.call);
  }
  peer->ping();
  peer->pong();
  EXPECT_EQ(peer->waiting(), 0u);
}

// Goal: the row says how a call runs, and not its function: functions change when an application is
// loaded anew, and calls wait meanwhile.
TEST_P(Protocol, RunsACallAsItsRowSays) {
  auto peer = ready();
  const auto nap = begin(*peer, in_row(2, "sleep", kLong));  // without concurrency
  expect_result(peer->call(in_row(1, "pid")), peer->pid());
  peer->cancel(nap, 2);
  expect_error(peer->reply(), ErrorKind::kCancelled, "keelback.Cancelled");

  expect_result(peer->call("together", {1}), 1);
  const auto alone = peer->send_call({.function = "together", .payload = kLong});
  ASSERT_TRUE(peer->await_started(alone));
  peer->ping();
  EXPECT_EQ(peer->pong().running, alone);
  peer->interrupt(alone);  // a coroutine is not interrupted
  peer->cancel(alone);
  const Reply reply = peer->reply();
  expect_error(reply, ErrorKind::kCancelled, kTaskCancelled);
  EXPECT_FALSE(reply.interrupted);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), alone);
}

TEST_P(Protocol, RunsExclusiveCallsBetweenSharedOnes) {
  auto peer = ready();
  for (int i = 0; i < 20; ++i) {
    expect_result(peer->call(in_row(1, "together", "[0]")), 0);
    expect_result(peer->call("echo", {i}), i);
    expect_result(peer->call(in_row(1, "threads", "[0]")), 0);
    expect_result(peer->call("echo", {i}), i);
  }
}

TEST_P(Protocol, TellsTheErrorsOfSharedCallsApart) {
  auto peer = ready();
  const auto neighbour = begin(*peer, in_row(9, "together", kLong));
  expect_error(peer->call(in_row(1, "fail", R"(["it broke"])")), ErrorKind::kError, "ValueError",
               "it broke");
  expect_error(peer->call(in_row(1, "nobody")), ErrorKind::kUnknownFunction, "LookupError",
               "nobody");
  expect_error(peer->call(in_row(1, "together", "[1,2]")), ErrorKind::kBadRequest, "TypeError");
  expect_error(peer->call(in_row(1, "threads", "[NaN]")), ErrorKind::kBadRequest, "ValueError");
  expect_error(peer->call(in_row(1, "unserialisable")), ErrorKind::kError, "keelback.ResultError",
               "JSON cannot write");
  peer->set_mark(wire::kMarkResultMax, 1000);
  expect_error(peer->call(in_row(1, "blob", "[999]")), ErrorKind::kError, "keelback.ResultError",
               "calls.payload_max is 1000");
  EXPECT_EQ(peer->call(in_row(1, "blob", "[998]")).type, wire::Type::kResult);
  const Reply litter = peer->call(in_row(1, "litter"));
  expect_result(litter, nullptr);
  EXPECT_FALSE(litter.unclean) << "whose a thread is, nobody knows";
  EXPECT_TRUE(runs(*peer, neighbour, 9));
}

// ---- marks

// Goal: the first row, the last one and one amid them; page 0 is that of calls that run alone.
TEST_P(Protocol, MarksASharedCallInItsRow) {
  auto peer = ready();
  for (const std::uint16_t row : {std::uint16_t{1}, std::uint16_t{517}, wire::kRowsMax}) {
    for (const char* function : {"together", "threads"}) {
      const auto call = begin(*peer, in_row(row, function, kLong));
      EXPECT_TRUE(runs(*peer, call, row));
      peer->cancel(call, row);
      EXPECT_EQ(peer->reply().call, call);
      EXPECT_EQ(peer->row_mark(row, wire::kRowEnded), call);
    }
  }
  for (int i = 0; i < 100; ++i) {
    const std::uint16_t row = i % 2 == 0 ? 1 : 2;
    const char* function = i % 4 < 2 ? "together" : "threads";
    const auto call = peer->call(in_row(row, function, "[0]")).call;
    ASSERT_EQ(peer->row_mark(row, wire::kRowStarted), call);
    ASSERT_EQ(peer->row_mark(row, wire::kRowEnded), call) << "at the answer, not some time later";
  }
  const auto failed = peer->call(in_row(3, "fail", "[1]")).call;
  EXPECT_EQ(peer->row_mark(3, wire::kRowEnded), failed);
  EXPECT_EQ(peer->mark(wire::kMarkStarted), 0u);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), 0u);
  peer->ping();
  EXPECT_EQ(peer->pong().running, 0u);
}

// Goal: `effect: none` is true: what does not run user code writes no started mark.
TEST_P(Protocol, WritesNoStartedMarkForASharedCallThatRunsNothing) {
  auto peer = ready();
  const auto ran = peer->call(in_row(1, "together", "[0]")).call;
  (void)peer->call(in_row(1, "nobody"));
  (void)peer->call(in_row(1, "together"));
  (void)peer->call(in_row(1, "together", "{"));
  Ask lost = in_row(1, "counter");
  lost.session = "ann";
  lost.birth = kBirth;
  lost.epoch = 1;
  expect_error(peer->call(lost), ErrorKind::kError, "keelback.SessionNotHere", "ann");
  for (const char* function : {"together", "threads", "echo"}) {
    peer->set_mark(wire::row_offset(1) + wire::kRowCancel, peer->next_call());
    expect_error(peer->call(in_row(1, function, "[1]")), ErrorKind::kCancelled,
                 "keelback.Cancelled", "before it started");
    EXPECT_EQ(peer->row_mark(1, wire::kRowStarted), ran);
    EXPECT_EQ(peer->row_mark(1, wire::kRowEnded), ran);
  }
  expect_result(peer->call(in_row(1, "threads", "[0]")), 0);
}

TEST_P(Protocol, LeavesTheMarksOfAllRowsStandingWhenItDies) {
  auto peer = ready();
  const auto first = begin(*peer, in_row(1, "together", kLong));
  const auto second = begin(*peer, in_row(2, "threads", kLong));
  const auto over = peer->call(in_row(3, "together", "[0]")).call;
  const auto deadly = peer->send_call(in_row(4, "together_die", "[0]"));
  EXPECT_EQ(peer->status(), SIGKILL);
  EXPECT_TRUE(runs(*peer, first, 1));
  EXPECT_TRUE(runs(*peer, second, 2));
  EXPECT_TRUE(runs(*peer, deadly, 4));
  EXPECT_EQ(peer->row_mark(3, wire::kRowEnded), over);
}

// ---- stopping one

TEST_P(Protocol, CancelsOneOfManySharedCalls) {
  auto peer = ready();
  const auto task = begin(*peer, in_row(1, "together", kLong));
  const auto thread = begin(*peer, in_row(2, "threads", kLong));
  const auto other_task = begin(*peer, in_row(3, "together", kLong));
  const auto other_thread = begin(*peer, in_row(4, "threads", kLong));
  peer->cancel(task, 1);
  Reply reply = peer->reply();
  EXPECT_EQ(reply.call, task);
  expect_error(reply, ErrorKind::kCancelled, kTaskCancelled);
  EXPECT_FALSE(reply.interrupted);
  peer->cancel(thread, 2);
  reply = peer->reply();
  EXPECT_EQ(reply.call, thread);
  expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled");
  EXPECT_FALSE(reply.interrupted);
  EXPECT_TRUE(runs(*peer, other_task, 3));
  EXPECT_TRUE(runs(*peer, other_thread, 4));
  // The rows are free again, and their old marks mean nothing.
  expect_result(peer->call(in_row(1, "together", "[1]")), 1);
  expect_result(peer->call(in_row(2, "threads", "[1]")), 1);
}

TEST_P(Protocol, InterruptsOneOfManySharedCalls) {
  auto peer = ready();
  const auto task = begin(*peer, in_row(1, "together", kLong));
  const auto neighbour = begin(*peer, in_row(2, "threads", kLong));
  for (const char* function : {"spin", "threads"}) {
    const auto call = begin(*peer, in_row(3, function, kLong));
    peer->interrupt_shared(call);  // needs no cancel mark
    const Reply reply = peer->reply();
    EXPECT_EQ(reply.call, call);
    expect_error(reply, ErrorKind::kCancelled, "keelback.Interrupted");
    EXPECT_TRUE(reply.interrupted);
    EXPECT_FALSE(reply.unclean);
    const Reply next = peer->call(in_row(3, function, "[1]"));
    expect_result(next, 1);
    EXPECT_FALSE(next.interrupted) << "only the call that it was raised in";
  }
  EXPECT_TRUE(runs(*peer, neighbour, 2));
  peer->interrupt_shared(task);
  const Reply reply = peer->reply();
  EXPECT_EQ(reply.call, task);
  expect_error(reply, ErrorKind::kCancelled, kTaskCancelled);
  EXPECT_FALSE(reply.interrupted) << "a coroutine is cancelled";
  EXPECT_TRUE(runs(*peer, neighbour, 2));
}

// Goal: whoever returns a result after all is answered with it.
TEST_P(Protocol, AResultOfASharedCallThatWasToldToStopCounts) {
  auto peer = ready();
  for (const char* function : {"together_stuck", "together_block", "nap", "spin"}) {
    const auto call = begin(*peer, in_row(1, function, "[60]"));
    peer->cancel(call, 1);
    const Reply reply = peer->reply();
    expect_result(reply, 60);
    EXPECT_FALSE(reply.interrupted);
  }
  const auto stuck = begin(*peer, in_row(1, "together_stuck", "[60]"));
  peer->interrupt_shared(stuck);
  const Reply reply = peer->reply();
  expect_result(reply, 60);
  EXPECT_FALSE(reply.interrupted);
}

// Goal: orders about calls that are over, are yet to come, or run in another row do nothing; nor
// does SIGINT, which is for a call that runs alone.
TEST_P(Protocol, StopsNoOtherSharedCall) {
  auto peer = ready();
  const auto over = peer->call(in_row(1, "threads", "[0]")).call;
  const auto thread = begin(*peer, in_row(1, "threads", kLong));
  const auto task = begin(*peer, in_row(2, "together", kLong));
  for (const std::uint64_t other : {over, task + 1, task + 1'000'000}) {
    peer->cancel(other, 1);
    peer->cancel(other, 2);
    peer->cancel(other);
    peer->interrupt_shared(other);
  }
  for (const std::uint64_t call : {thread, task}) {
    peer->set_mark(wire::kMarkCancel, call);  // the mark of calls that run alone
    peer->interrupt(call);
  }
  peer->ping();
  EXPECT_EQ(peer->pong().running, 0u);
  expect_result(peer->call(in_row(3, "together", "[20]")), 20);
  EXPECT_TRUE(runs(*peer, thread, 1));
  EXPECT_TRUE(runs(*peer, task, 2));
  EXPECT_EQ(peer->waiting(), 0u);
}

// ---- the event loop

TEST_P(Protocol, AnswersForItsLoopWhileCallsWait) {
  auto peer = ready();
  expect_pong(*peer, peer->ping(/*loop=*/true), true);  // there is none yet
  const auto task = begin(*peer, in_row(1, "together", kLong));
  expect_pong(*peer, peer->ping(/*loop=*/true), true);
  const auto thread = begin(*peer, in_row(2, "spin", kLong));
  expect_pong(*peer, peer->ping(/*loop=*/true), true);
  expect_pong(*peer, peer->ping(), false);
  peer->cancel(task, 1);
  EXPECT_EQ(peer->reply().call, task);
  peer->interrupt_shared(thread);
  EXPECT_EQ(peer->reply().call, thread);
  expect_pong(*peer, peer->ping(/*loop=*/true), true);
}

// Goal: while a call holds the loop up, the control thread answers and the loop does not.
TEST_P(Protocol, DoesNotAnswerForItsLoopWhileACallHoldsItUp) {
  auto peer = ready();
  const auto call = begin(*peer, in_row(1, "together_block", kLong));
  peer->ping(/*loop=*/true);
  expect_pong(*peer, peer->ping(), false);  // which came later
  EXPECT_EQ(peer->waiting_control(), 0u);
  EXPECT_TRUE(runs(*peer, call, 1));
}

TEST_P(Protocol, AnswersForItsLoopWhenItIsFreeAgain) {
  auto peer = ready();
  const auto call = begin(*peer, in_row(1, "together_block", "[200]"));
  const auto token = peer->ping(/*loop=*/true);
  expect_pong(*peer, token, true);
  EXPECT_EQ(peer->row_mark(1, wire::kRowEnded), call) << "the loop has answered too early";
  expect_result(peer->reply(), 200);
}

// Goal: a coroutine that could not begin before its cancel never begins.
TEST_P(Protocol, ACallThatWasCancelledBehindABlockedLoopDoesNotStart) {
  auto peer = ready();
  // A slow machine needs a longer block.
  bool in_time = false;
  for (int ms = 200; !in_time && ms < 60'000; ms *= 4) {
    const auto block = begin(*peer, in_row(1, "together_block", "[" + std::to_string(ms) + "]"));
    const auto call = peer->send_call(in_row(2, "together", kLong));
    peer->cancel(call, 2);
    in_time = runs(*peer, block, 1);
    expect_result(peer->reply_of(block), ms);
    const Reply reply = peer->reply_of(call);
    EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
    if (!in_time) continue;
    expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled", "before it started");
    EXPECT_NE(peer->row_mark(2, wire::kRowStarted), call);
  }
  EXPECT_TRUE(in_time);
}

// ---- evidence

TEST_P(Protocol, DumpsTheStacksOfSharedCalls) {
  auto peer = ready();
  const auto call = begin(*peer, in_row(7, "nap", kLong));
  ASSERT_TRUE(peer->await_quiet()) << "a dump is of no thread that runs beside it";
  EXPECT_THAT(peer->dump_until("in nap"), HasSubstr("most recent call first"));
  expect_result(peer->call(in_row(2, "threads", "[0]")), 0);
  EXPECT_THAT(peer->dump(), HasSubstr("in nap")) << "another call runs: it can still be read";
  EXPECT_TRUE(runs(*peer, call, 7));

  auto other = ready();
  ASSERT_TRUE(other->await_quiet());
  EXPECT_THAT(other->dump_until("\n"), HasSubstr("most recent call first"));
  expect_result(other->call(in_row(1, "threads", "[0]")), 0);
  EXPECT_EQ(other->dump(), "");
}

// ---- the end, and what breaks the rules

TEST_P(Protocol, LeavesWhenItIsToldToAfterSharedCalls) {
  auto peer = ready();
  expect_result(peer->call(in_row(1, "together", "[0]")), 0);
  expect_result(peer->call(in_row(1, "threads", "[0]")), 0);
  std::string bytes;
  wire::append_shutdown(bytes);
  peer->send(bytes);
  EXPECT_EQ(peer->status(), 0);
}

TEST_P(Protocol, EndsWithItsDataSocketWhileSharedCallsRun) {
  auto peer = ready();
  begin(*peer, in_row(1, "together", kLong));
  begin(*peer, in_row(2, "threads", kLong));
  peer->close_data();
  expect_exit_1(*peer);
}

// Goal: a row that is none, a row where none belongs, and a call that runs already, whether other
// shared calls run or not.
TEST_P(Protocol, EndsWhenARowIsWrong) {
  const auto with_row = [](std::string bytes, std::uint16_t row) {
    bytes[6] = static_cast<char>(row & 0xff);
    bytes[7] = static_cast<char>(row >> 8);
    return bytes;
  };
  std::string credit, save, check, restore;
  wire::append_credit(credit, 1, 1);
  ASSERT_TRUE(wire::append_save(save, {.birth = 1, .epoch = 1, .session = "ann"}));
  wire::append_check(check);
  wire::append_restore_head(restore, 1, wire::StateFormat::kJson, 2);
  const Ask ask = {.function = "together", .payload = kLong};
  const std::string call = Peer::encode(1000, ask);
  for (const std::string& wrong :
       {with_row(call, wire::kRowsMax + 1), with_row(call, 0xffff), with_row(credit, 1),
        with_row(save, 1), with_row(check, 7), with_row(restore + "{}", 3)}) {
    for (const bool beside : {false, true}) {
      auto peer = ready();
      if (beside) begin(*peer, in_row(1, "together", kLong));
      peer->send(wrong);
      SCOPED_TRACE(::testing::PrintToString(wrong));
      expect_exit_1(*peer);
    }
  }
  auto peer = ready();
  const auto twice = begin(*peer, in_row(1, "together", kLong));
  peer->send(Peer::encode(twice, in_row(2, "together", kLong)));
  expect_exit_1(*peer);
}

}  // namespace
}  // namespace keelback::conformance
