// Batches: calls that a function takes together, each with its row of the marks and its own answer;
// what stops one of them, and what stops all; what breaks the rules.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;

struct Batch {
  std::vector<std::uint64_t> calls;  // in the rows 1, 2, …
  std::uint64_t id() const { return calls.front(); }
};
std::string announce(std::uint64_t call, std::size_t calls) {
  std::string bytes;
  wire::append_batch(bytes, call, static_cast<std::uint32_t>(calls));
  return bytes;
}
// As one run of bytes. The calls' numbers are the next ones.
std::string encode(Peer& peer, const std::string& function,
                   const std::vector<std::string>& payloads, Batch& batch) {
  std::string bytes = announce(peer.next_call(), payloads.size());
  for (const std::string& payload : payloads) {
    batch.calls.push_back(peer.skip_call());
    const auto row = static_cast<std::uint16_t>(batch.calls.size());
    bytes +=
        Peer::encode(batch.calls.back(), {.function = function, .payload = payload, .row = row});
  }
  return bytes;
}
Batch send(Peer& peer, const std::string& function, const std::vector<std::string>& payloads) {
  Batch batch;
  peer.send(encode(peer, function, payloads, batch));
  return batch;
}
std::map<std::uint64_t, Reply> replies(Peer& peer, const Batch& batch) {
  std::map<std::uint64_t, Reply> found;
  for (std::size_t i = 0; i < batch.calls.size(); ++i) {
    Reply reply = peer.reply();
    EXPECT_FALSE(found.contains(reply.call)) << "two answers to " << reply.call;
    found[reply.call] = std::move(reply);
  }
  return found;
}

// Goal: one run, and each call has its own answer: a result, an error, a refusal. The marks say
// which of them began.
TEST_P(Protocol, AnswersEachCallOfABatch) {
  auto peer = ready();
  const Batch batch =
      send(*peer, "gather", {"[1]", "[2,\"raise\"]", R"({"ms":3})", "{}", "[5,\"\"]"});
  auto found = replies(*peer, batch);
  expect_result(found[batch.calls[0]], 1);
  expect_error(found[batch.calls[1]], ErrorKind::kError, "ValueError", "this call was to fail");
  expect_result(found[batch.calls[2]], 3);
  expect_error(found[batch.calls[3]], ErrorKind::kBadRequest, "TypeError");
  expect_result(found[batch.calls[4]], 5);
  for (std::uint16_t row = 1; row <= 5; ++row) {
    const std::uint64_t begun = row == 4 ? 0 : batch.calls[row - 1U];
    EXPECT_EQ(peer->row_mark(row, wire::kRowStarted), begun);
    EXPECT_EQ(peer->row_mark(row, wire::kRowEnded), begun);
  }
  EXPECT_EQ(peer->mark(wire::kMarkStarted), batch.id());
  EXPECT_EQ(peer->mark(wire::kMarkEnded), batch.id());
  expect_result(peer->call("echo", {"alone"}), "alone");
}

// Goal: in whatever packets a batch comes, and one batch after another.
TEST_P(Protocol, ReadsBatchesFromAnyPackets) {
  auto peer = ready();
  for (int round = 0; round < 3; ++round) {
    std::vector<std::string> payloads;
    for (int i = 0; i < 32; ++i) {
      payloads.push_back("[" + std::to_string(i % 4) + "," +
                         Json(std::string(static_cast<std::size_t>(i * 3000), 'x')).dump() + "]");
    }
    Batch batch;
    const std::string bytes = encode(*peer, "gather", payloads, batch);
    std::vector<std::string> packets;
    for (std::size_t at = 0, size = 1; at < bytes.size(); at += size, size = size * 3 % 50'021) {
      packets.push_back(bytes.substr(at, size));
    }
    peer->send_packets(packets);
    auto found = replies(*peer, batch);
    for (std::size_t i = 0; i < 32; ++i) expect_result(found[batch.calls[i]], i % 4);
  }
}

// Goal: a list of another length is an error of all calls.
TEST_P(Protocol, AListOfAnotherLengthIsAnErrorOfTheWholeBatch) {
  auto peer = ready();
  const Batch batch = send(*peer, "gather", {"[1]", "[1,\"short\"]", "[1]"});
  for (const auto& [call, reply] : replies(*peer, batch)) {
    expect_error(reply, ErrorKind::kError, "TypeError", "a batch of 3 calls");
  }
}

// Goal: a call that is cancelled before the batch begins is left out, and the others run. If all
// are, nothing runs.
TEST_P(Protocol, LeavesOutOfABatchWhatWasCancelledBefore) {
  auto peer = ready();
  peer->cancel(peer->next_call() + 1, 2);
  const Batch batch = send(*peer, "gather", {"[1]", "[2]", "[3]"});
  auto found = replies(*peer, batch);
  expect_result(found[batch.calls[0]], 1);
  expect_error(found[batch.calls[1]], ErrorKind::kCancelled, "keelback.Cancelled");
  expect_result(found[batch.calls[2]], 3);
  EXPECT_NE(peer->row_mark(2, wire::kRowStarted), batch.calls[1]);

  peer->cancel(peer->next_call(), 1);
  const Batch none = send(*peer, "gather", {"[600000]"});
  expect_error(peer->reply(), ErrorKind::kCancelled, "keelback.Cancelled");
  EXPECT_NE(peer->mark(wire::kMarkStarted), none.id());
}

// Goal: a batch that runs ends early when none of its calls is wanted any more, and not before.
TEST_P(Protocol, ABatchHeedsCancelWhenAllItsCallsAreCancelled) {
  auto peer = ready();
  const Batch batch = send(*peer, "gather", {kLong, "[1]"});
  ASSERT_TRUE(peer->await_started(batch.calls[1], 2));
  ASSERT_TRUE(peer->await_started(batch.id()));
  peer->cancel(batch.calls[1], 2);
  peer->ping();
  EXPECT_EQ(peer->pong().running, batch.id());
  EXPECT_EQ(peer->waiting(), 0u);
  peer->cancel(batch.calls[0], 1);
  for (const auto& [call, reply] : replies(*peer, batch)) {
    expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled");
  }
}

// Goal: the interrupt names the batch and ends it as a whole; its last answer says so.
TEST_P(Protocol, AnInterruptEndsTheWholeBatch) {
  auto peer = ready();
  const Batch batch = send(*peer, "gather", {kLong, "[1]", "[2]"});
  ASSERT_TRUE(peer->await_started(batch.id()));
  std::size_t flagged = 0;
  Reply reply = peer->interrupted_reply(batch.id());
  for (std::size_t i = 0;;) {
    expect_error(reply, ErrorKind::kCancelled, "KeyboardInterrupt");
    flagged += reply.interrupted ? 1 : 0;
    if (++i == batch.calls.size()) break;
    EXPECT_FALSE(reply.interrupted);
    reply = peer->reply();
  }
  EXPECT_EQ(flagged, 1u);
  expect_result(peer->call("echo", {"next"}), "next");
}

// Goal: the supervisor says how calls go, and not the function: functions change when an
// application is loaded anew, and calls wait meanwhile.
TEST_P(Protocol, RunsABatchAsItComesAndOneCallToo) {
  auto peer = ready();
  expect_result(peer->call("gather", {1}), 1);
  expect_error(peer->call("gather", {1, "raise"}), ErrorKind::kError, "ValueError");
  expect_result(peer->call({.function = "gather", .payload = "[2]", .row = 3}), 2);
  const Batch batch = send(*peer, "echo", {"[\"a\"]", "[]", "[\"c\"]"});
  auto found = replies(*peer, batch);
  expect_result(found[batch.calls[0]], "a");
  expect_error(found[batch.calls[1]], ErrorKind::kBadRequest, "TypeError");
  expect_result(found[batch.calls[2]], "c");
  const Batch unknown = send(*peer, "nosuch", {"[]", "[]"});
  for (const auto& [call, reply] : replies(*peer, unknown)) {
    expect_error(reply, ErrorKind::kUnknownFunction, "LookupError");
  }
}

// Goal: a call without a row, in the row of another, of a session, or in place of which something
// else comes is no part of a batch. Who sends that is given up.
TEST_P(Protocol, GivesUpASupervisorWhoseBatchIsNone) {
  const auto wrong = [this](const char* what, const Ask& ask) {
    SCOPED_TRACE(what);
    auto peer = ready();
    const auto call = peer->next_call();
    peer->send(announce(call, 2) + Peer::encode(peer->skip_call(), ask));
    const auto status = peer->status();
    ASSERT_TRUE(status);
    EXPECT_EQ(*status, 1 << 8);
  };
  wrong("no row", {.function = "gather", .payload = "[1]"});
  wrong("a session", {.function = "gather",
                      .payload = "[1]",
                      .session = "s",
                      .birth = kBirth,
                      .opens = true,
                      .row = 1});
  const auto given_up = [](Peer& peer) {
    const auto status = peer.status();
    ASSERT_TRUE(status);
    EXPECT_EQ(*status, 1 << 8);
  };
  auto peer = ready();
  std::string bytes = announce(peer->next_call(), 1);
  wire::append_shutdown(bytes);
  peer->send(bytes);
  given_up(*peer);

  peer = ready();
  const Ask in_row_2{.function = "gather", .payload = "[1]", .row = 2};
  bytes = announce(peer->next_call(), 2);
  bytes += Peer::encode(peer->skip_call(), in_row_2) + Peer::encode(peer->skip_call(), in_row_2);
  peer->send(bytes);
  given_up(*peer);
}

}  // namespace
}  // namespace keelback::conformance
