// What belongs to each shared call: its session and that one's state, its stream, its attachments.
#include <algorithm>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;
using wire::StateFormat;

// A long call, so that other calls run beside one; its row.
constexpr std::uint16_t kNeighbour = 100;
std::unique_ptr<Peer> with_neighbour(std::unique_ptr<Peer> peer) {
  const auto call = peer->send_call({.function = "together", .payload = kLong, .row = kNeighbour});
  EXPECT_TRUE(peer->await_started(call, kNeighbour));
  return peer;
}

Ask count(std::uint16_t row, const std::string& session, bool opens) {
  return {.function = "counter",
          .session = session,
          .birth = kBirth,
          .epoch = 1,
          .opens = opens,
          .row = row};
}
Ask saved_count(std::uint16_t row, const std::string& session, bool opens) {
  Ask ask = count(row, session, opens);
  ask.saves = true;
  return ask;
}

std::string restore(std::uint64_t call, std::string_view state) {
  std::string bytes;
  wire::append_restore_head(bytes, call, StateFormat::kJson, state.size());
  return bytes.append(state);
}

std::string attach(std::uint64_t call, const std::string& name, const std::string& data) {
  std::string bytes;
  EXPECT_TRUE(wire::append_attachment_head(bytes, wire::Type::kAttach,
                                           {.call = call, .bytes = data.size(), .name = name}));
  return bytes + data;
}

// ---- sessions

TEST_P(Protocol, KeepsTheSessionsOfSharedCalls) {
  auto peer = with_neighbour(ready());
  expect_result(peer->call(count(1, "ann", true)), 1);
  expect_result(peer->call(count(2, "bob", true)), 1);
  // Both at once.
  const auto ann = peer->send_call(count(1, "ann", false));
  const auto bob = peer->send_call(count(2, "bob", false));
  expect_result(peer->reply_of(bob), 2);
  expect_result(peer->reply_of(ann), 2);
  Ask together = count(3, "ann", false);
  together.function = "count_together";
  expect_result(peer->call(together), 3);
  Ask wrong = count(1, "ann", false);
  wrong.epoch = 2;
  expect_error(peer->call(wrong), ErrorKind::kError, "keelback.SessionNotHere");
  EXPECT_NE(peer->row_mark(1, wire::kRowStarted), peer->next_call() - 1);
  Ask none = count(1, "", false);
  expect_error(peer->call(none), ErrorKind::kError, "RuntimeError", "session");
}

// Goal: between shared calls and calls that run alone nothing is lost.
TEST_P(Protocol, SharesItsSessionsWithCallsThatRunAlone) {
  auto peer = ready();
  expect_result(peer->call(count(0, "ann", true)), 1);
  expect_result(peer->call(count(5, "ann", false)), 2);
  expect_result(peer->call(count(0, "ann", false)), 3);
  Ask in_thread = count(6, "ann", false);
  in_thread.function = "peek";
  expect_result(peer->call(in_thread), 3);
}

TEST_P(Protocol, EndsASessionBesideSharedCalls) {
  auto peer = with_neighbour(ready());
  expect_result(peer->call(count(1, "ann", true)), 1);
  std::string end;
  ASSERT_TRUE(wire::append_session_end(
      end, {.birth = kBirth, .reason = wire::SessionEnd::kMoved, .session = "ann"}));
  peer->send(end);
  expect_error(peer->call(count(1, "ann", false)), ErrorKind::kError, "keelback.SessionNotHere");
  expect_result(peer->call({.function = "ended", .row = 1}), Json::parse(R"([["ann","moved"]])"));
}

TEST_P(Protocol, ASharedCallTakesTheNameOfAnOldSession) {
  auto peer = with_neighbour(ready());
  expect_result(peer->call(count(1, "ann", true)), 1);
  Ask anew = count(1, "ann", true);
  anew.epoch = 2;
  expect_result(peer->call(anew), 1);
  expect_result(peer->call({.function = "ended", .row = 1}), Json::parse(R"([["ann","lost"]])"));
}

// ---- states

TEST_P(Protocol, SendsTheStateWithTheAnswerOfASharedCall) {
  auto peer = with_neighbour(ready());
  Reply reply = peer->call(saved_count(1, "ann", true));
  expect_result(reply, 1);
  EXPECT_TRUE(reply.saved);
  EXPECT_EQ(reply.format, StateFormat::kJson);
  EXPECT_EQ(reply.state, R"({"calls":1})");
  EXPECT_EQ(peer->row_mark(1, wire::kRowEnded), reply.call) << "written before it was sent";
  Ask fails = saved_count(1, "ann", false);
  fails.function = "fail";
  fails.payload = R"(["no"])";
  reply = peer->call(fails);
  expect_error(reply, ErrorKind::kError, "ValueError", "no");
  EXPECT_TRUE(reply.saved);
  Ask streams = saved_count(1, "ann", false);
  streams.function = "together_stream";
  streams.payload = "[3]";
  streams.stream = true;
  reply = peer->call(streams);
  EXPECT_EQ(reply.type, wire::Type::kEnd);
  EXPECT_EQ(reply.items.size(), 3u);
  EXPECT_TRUE(reply.saved);
  Ask spoils = saved_count(1, "ann", false);
  spoils.function = "spoil";
  reply = peer->call(spoils);
  EXPECT_TRUE(reply.saved);
  EXPECT_EQ(reply.format, StateFormat::kNone);
}

// Goal: a cancelled call's state may be half changed, and is sent all the same.
TEST_P(Protocol, SendsTheStateOfASharedCallThatWasStopped) {
  auto peer = ready();
  for (const char* function : {"together", "threads", "spin"}) {
    Ask ask = saved_count(1, function, true);
    ask.function = function;
    ask.payload = kLong;
    const auto call = peer->send_call(ask);
    ASSERT_TRUE(peer->await_started(call, 1));
    peer->cancel(call, 1);
    if (ask.function == "spin") peer->interrupt_shared(call);
    const Reply reply = peer->reply();
    EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
    EXPECT_TRUE(reply.saved);
    EXPECT_EQ(reply.interrupted, ask.function == "spin");
  }
}

// Goal: a call that has not begun has no state to tell.
TEST_P(Protocol, SendsNoStateOfASharedCallThatHasNotBegun) {
  auto peer = with_neighbour(ready());
  Ask wrong = saved_count(1, "ann", true);
  wrong.payload = "[1,2,3]";
  EXPECT_FALSE(peer->call(wrong).saved);
  expect_result(peer->call(count(1, "ann", true)), 1);
  for (const char* function : {"counter", "count_together"}) {
    peer->set_mark(wire::row_offset(1) + wire::kRowCancel, peer->next_call());
    Ask ask = saved_count(1, "ann", false);
    ask.function = function;
    const Reply reply = peer->call(ask);
    expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled", "before it started");
    EXPECT_FALSE(reply.saved);
  }
  expect_result(peer->call(count(1, "ann", false)), 2);
}

TEST_P(Protocol, AnswersWhatASessionsStateIsBesideSharedCalls) {
  auto peer = with_neighbour(ready());
  expect_result(peer->call(count(1, "ann", true)), 1);
  std::string bytes;
  ASSERT_TRUE(wire::append_save(bytes, {.birth = kBirth, .epoch = 1, .session = "ann"}));
  peer->send(bytes);
  const auto answer = peer->next();
  ASSERT_TRUE(answer && answer->type() == wire::Type::kSnapshot);
  const auto snapshot = wire::decode_snapshot({answer->header, answer->body});
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->state, R"({"calls":1})");
  expect_result(peer->call(count(1, "ann", false)), 2);
}

TEST_P(Protocol, ChecksItsHealthBesideSharedCalls) {
  auto peer = with_neighbour(ready());
  std::string bytes;
  wire::append_check(bytes);
  peer->send(bytes);
  const auto answer = peer->next();
  ASSERT_TRUE(answer && answer->type() == wire::Type::kChecked);
  const auto checked = wire::decode_checked({answer->header, answer->body});
  ASSERT_TRUE(checked);
  EXPECT_TRUE(checked->healthy);
}

// Goal: of two that restore at once each finds its own state; what stands between RESTORE and CALL
// may only be a CREDIT.
TEST_P(Protocol, RestoresTheSessionsOfSharedCalls) {
  for (const bool beside : {false, true}) {
    auto peer = beside ? with_neighbour(ready()) : ready();
    const auto ann = peer->skip_call(), bob = peer->skip_call();
    Ask of_ann = saved_count(1, "ann", false), of_bob = saved_count(2, "bob", false);
    of_ann.restores = of_bob.restores = true;
    std::string credit;
    wire::append_credit(credit, 12345, 1);
    peer->send(restore(ann, R"({"calls":41})") + credit + Peer::encode(ann, of_ann));
    peer->send(restore(bob, R"({"calls":7})") + Peer::encode(bob, of_bob));
    const Reply answer = peer->reply_of(ann);
    expect_result(answer, 42);
    EXPECT_EQ(answer.state, R"({"calls":42})");
    expect_result(peer->reply_of(bob), 8);
    expect_result(peer->call(count(3, "ann", false)), 43);

    Ask cid = saved_count(1, "cid", false);
    cid.restores = true;
    expect_error(peer->call(cid), ErrorKind::kError, "keelback.SessionNotHere", "restore");
  }
}

// ---- streams

// The next frames are so many items of these calls, each call's in order, from next[call] on.
void expect_items(Peer& peer, std::map<std::uint64_t, int>& next, int n) {
  for (int i = 0; i < n; ++i) {
    const auto item = peer.next();
    ASSERT_TRUE(item);
    ASSERT_EQ(item->type(), wire::Type::kItem);
    ASSERT_TRUE(next.contains(item->header.call));
    ASSERT_EQ(item->body, std::to_string(next[item->header.call]++));
  }
}
void expect_all_starved(Peer& peer) {
  ASSERT_TRUE(peer.await_quiet());
  EXPECT_EQ(peer.waiting(), 0u) << "an item without credit";
}

// Goal: each stream has its own credit; one that has none delays neither another nor a call.
TEST_P(Protocol, StreamsBesideOtherCallsWithinTheCreditOfEach) {
  auto peer = ready();
  Ask stream = {.function = "together_stream", .payload = "[40]", .stream = true};
  stream.row = 1;
  const auto first = peer->send_call(stream);
  stream.row = 2;
  const auto second = peer->send_call(stream);
  stream.row = 3;
  stream.function = "items";  // a generator in a thread
  const auto third = peer->send_call(stream);
  std::map<std::uint64_t, int> next = {{first, 0}, {second, 0}, {third, 0}};
  expect_items(*peer, next, 3 * 16);
  expect_all_starved(*peer);
  for (const auto& [call, items] : next) EXPECT_EQ(items, 16);

  credit(*peer, third, 0);
  credit(*peer, third, 3);
  expect_items(*peer, next, 3);
  expect_all_starved(*peer);
  EXPECT_EQ(next[third], 19);
  expect_result(peer->call({.function = "together", .payload = "[1]", .row = 9}), 1);

  credit(*peer, first, 4);
  credit(*peer, first, 1000);
  expect_items(*peer, next, 24);
  EXPECT_EQ(next[first], 40);
  auto end = peer->next();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->type(), wire::Type::kEnd);
  EXPECT_EQ(end->header.call, first);
  EXPECT_EQ(peer->row_mark(1, wire::kRowEnded), first);
  credit(*peer, first, 5);  // late: the stream is over
  expect_all_starved(*peer);

  // A cancel wakes the one that waits for credit.
  peer->cancel(second, 2);
  credit(*peer, second, 0);
  Reply reply = peer->reply();
  EXPECT_EQ(reply.call, second);
  EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
  EXPECT_TRUE(reply.items.empty());
  expect_all_starved(*peer);
  peer->interrupt_shared(third);
  reply = peer->reply();
  EXPECT_EQ(reply.call, third);
  EXPECT_EQ(reply.kind, ErrorKind::kCancelled);
  EXPECT_TRUE(reply.items.empty());
}

// Goal: credit that comes right behind its call counts, however soon that is.
TEST_P(Protocol, CountsCreditThatComesRightBehindItsSharedCall) {
  for (const auto& [function, payload] :
       {std::pair("together_stream", "[40, 1]"), std::pair("items", "[40]")}) {
    auto peer = ready();
    Ask stream = {.function = function, .payload = payload, .stream = true};
    stream.row = 1;
    const auto call = peer->skip_call();
    std::string credit;
    wire::append_credit(credit, call, 1000);
    peer->send(Peer::encode(call, stream) + credit);
    std::map<std::uint64_t, int> next = {{call, 0}};
    expect_items(*peer, next, 40);
    EXPECT_EQ(next[call], 40) << function;
    const auto end = peer->next();
    ASSERT_TRUE(end);
    EXPECT_EQ(end->type(), wire::Type::kEnd);
  }
}

TEST_P(Protocol, AnswersAListWhereASharedCallTakesNoStream) {
  auto peer = with_neighbour(ready());
  for (const char* function : {"together_stream", "items"}) {
    const Reply reply = peer->call({.function = function, .payload = "[20]", .row = 1});
    ASSERT_EQ(reply.type, wire::Type::kResult);
    EXPECT_EQ(reply.value.size(), 20u);
    EXPECT_TRUE(reply.items.empty());
  }
  expect_result(peer->call({.function = "together", .payload = "[4]", .stream = true, .row = 1}),
                4);
}

// ---- attachments

std::uint64_t send_attached(Peer& peer, std::uint16_t row, const std::string& function,
                            const std::vector<std::string>& all) {
  const auto call = peer.skip_call();
  std::string bytes;
  for (const std::string& each : all) bytes += attach(call, "", each);
  peer.send(bytes + Peer::encode(call, {.function = function, .attached = true, .row = row}));
  return call;
}

// Goal: of whatever size, they lie in the frames, both ways; slabs are not touched.
TEST_P(Protocol, CarriesTheAttachmentsOfSharedCallsInFrames) {
  auto peer = ready();
  peer->give_slab(1, 1 << 20);
  std::map<std::uint64_t, std::string> sent;
  for (std::uint16_t row = 1; row <= 8; ++row) {
    const std::string bytes(row * 40'000U, static_cast<char>('a' + row));
    sent[send_attached(*peer, row, "attach_echo", {bytes, "small"})] = bytes;
  }
  while (!sent.empty()) {
    const Reply reply = peer->reply();
    ASSERT_TRUE(sent.contains(reply.call));
    expect_result(reply, Json::parse(R"([{"$attachment":"0"},{"$attachment":"1"}])"));
    EXPECT_TRUE(reply.wanted.empty());
    ASSERT_EQ(reply.attached.size(), 2u);
    EXPECT_EQ(reply.attached[0].slab, 0u);
    EXPECT_EQ(reply.attached[0].inlined, sent[reply.call]);
    EXPECT_EQ(reply.attached[1].inlined, "small");
    sent.erase(reply.call);
  }
  const Reply made = peer->call({.function = "attach_make", .payload = "[2,100000]", .row = 1});
  ASSERT_EQ(made.attached.size(), 2u);
  EXPECT_EQ(made.attached[1].inlined, std::string(100'000, 'b'));
  expect_result(peer->call({.function = "attach_echo", .row = 1}), Json::array());
  // Those of a call that does not run are nobody's.
  EXPECT_EQ(peer->reply_of(send_attached(*peer, 1, "no_such_function", {"abc"})).kind,
            ErrorKind::kUnknownFunction);
  expect_result(peer->reply_of(send_attached(*peer, 1, "attach_sum", {"d"})),
                Json::array({{1, 'd'}}));
  expect_result(peer->call("attach_sum", Json::array()), Json::array());
}

TEST_P(Protocol, AnswersTooManyAttachedBytesOfASharedCallWithAnError) {
  auto peer = with_neighbour(ready());
  peer->set_mark(wire::kMarkAttachedMax, 1000);
  Reply reply = peer->call({.function = "attach_make", .payload = "[2,501]", .row = 1});
  expect_error(reply, ErrorKind::kError, "keelback.ResultError", "attachments.max is 1000");
  EXPECT_TRUE(reply.attached.empty());
  reply = peer->call({.function = "attach_make", .payload = "[2,500]", .row = 1});
  EXPECT_EQ(reply.attached.size(), 2u);
}

TEST_P(Protocol, RestoresASessionForASharedCallWithAttachments) {
  auto peer = with_neighbour(ready());
  const auto call = peer->skip_call();
  Ask ask = count(1, "ann", false);
  ask.function = "attach_sum";
  ask.restores = ask.attached = true;
  peer->send(restore(call, R"({"calls":41})") + attach(call, "x", "\1\2") +
             Peer::encode(call, ask));
  expect_result(peer->reply(), Json::array({{2, 3}}));
  expect_result(peer->call(count(1, "ann", false)), 42);
}

// Goal: slabs belong to calls that run alone; and what is attached is attached to a call.
TEST_P(Protocol, EndsWhenAttachmentsBreakTheRules) {
  for (const bool beside : {false, true}) {
    auto peer = ready();
    peer->give_slab(1, 1 << 20);
    expect_result(peer->call("echo", {1}), 1);
    if (beside) peer = with_neighbour(std::move(peer));
    const auto call = peer->skip_call();
    std::string bytes;
    ASSERT_TRUE(wire::append_attachment_head(
        bytes, wire::Type::kAttach,
        {.call = call, .slab = 1, .offset = 0, .bytes = 100'000, .name = "x"}));
    peer->send(bytes + Peer::encode(call, {.function = "attach_sum", .attached = true, .row = 1}));
    EXPECT_EQ(peer->status(), 1 << 8);
  }
  for (const bool beside : {false, true}) {
    auto peer = beside ? with_neighbour(ready()) : ready();
    std::string check;
    wire::append_check(check);
    peer->send(attach(peer->next_call(), "x", "abc") + check);
    EXPECT_EQ(peer->status(), 1 << 8);
  }
}

}  // namespace
}  // namespace keelback::conformance
