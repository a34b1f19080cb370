// Streams: credit, starvation, wake-ups, cancellation.
#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;

Ask items(int n) {
  return {.function = "items", .payload = "[" + std::to_string(n) + "]", .stream = true};
}
// The next `n` frames are the items from `first` on.
void expect_items(Peer& peer, std::uint64_t call, int first, int n) {
  for (int i = first; i < first + n; ++i) {
    const auto item = peer.next();
    ASSERT_TRUE(item);
    ASSERT_EQ(item->type(), wire::Type::kItem) << "in place of item " << i;
    ASSERT_EQ(item->header.call, call);
    ASSERT_EQ(item->body, std::to_string(i));
  }
}
// The worker waits in the kernel and has sent nothing more.
void expect_starved(Peer& peer) {
  ASSERT_TRUE(peer.await_asleep());
  EXPECT_EQ(peer.waiting(), 0u) << "an item without credit";
}

TEST_P(Protocol, StreamsWithinTheFirstCredit) {
  auto peer = ready();
  for (const int n : {0, 1, 15, 16}) {
    const auto call = peer->send_call(items(n));
    expect_items(*peer, call, 0, n);
    const auto end = peer->next();
    ASSERT_TRUE(end);
    EXPECT_EQ(end->type(), wire::Type::kEnd) << n;
    EXPECT_EQ(end->header.call, call);
    EXPECT_EQ(peer->mark(wire::kMarkEnded), call);
  }
  expect_result(peer->call("echo", {1}), 1);
}

// Goal: sixteen items come unasked and not one more; each credit is worth one item; credit adds up.
TEST_P(Protocol, SendsAsManyItemsAsItHasCreditFor) {
  auto peer = ready();
  const auto call = peer->send_call(items(40));
  expect_items(*peer, call, 0, 16);
  expect_starved(*peer);
  int next = 16;
  for (const int n : {1, 1, 3, 2}) {
    credit(*peer, call, static_cast<std::uint32_t>(n));
    expect_items(*peer, call, next, n);
    next += n;
    expect_starved(*peer);
  }
  credit(*peer, call, 4);
  credit(*peer, call, 5);
  expect_items(*peer, call, next, 9);
  next += 9;
  expect_starved(*peer);
  credit(*peer, call, 1'000'000);
  expect_items(*peer, call, next, 40 - next);
  const auto end = peer->next();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->type(), wire::Type::kEnd);
}

TEST_P(Protocol, IgnoresCreditOfAnotherStream) {
  auto peer = ready();
  const auto call = peer->send_call(items(20));
  expect_items(*peer, call, 0, 16);
  credit(*peer, call + 1, 10);
  credit(*peer, call - 1, 10);
  credit(*peer, call, 2);  // once this has had its effect, the others have been read
  expect_items(*peer, call, 16, 2);
  expect_starved(*peer);
  credit(*peer, call, 2);
  expect_items(*peer, call, 18, 2);
  EXPECT_EQ(peer->next()->type(), wire::Type::kEnd);
  credit(*peer, call, 5);  // late: the stream is over
  expect_result(peer->call("echo", {1}), 1);
}

// Goal: a credit of 0 allows nothing; it makes a starved worker look at its cancel mark.
TEST_P(Protocol, WakesWithoutCreditToSeeThatItIsCancelled) {
  auto peer = ready();
  const auto call = peer->send_call(items(1'000'000));
  expect_items(*peer, call, 0, 16);
  credit(*peer, call, 0);
  credit(*peer, call, 1);
  expect_items(*peer, call, 16, 1);
  expect_starved(*peer);
  peer->set_mark(wire::kMarkCancel, call);
  credit(*peer, call, 0);
  const Reply reply = peer->reply();
  expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled");
  EXPECT_TRUE(reply.items.empty());
  EXPECT_EQ(peer->mark(wire::kMarkEnded), call);
  expect_result(peer->call("echo", {1}), 1);
}

TEST_P(Protocol, InterruptsAStarvedStream) {
  auto peer = ready();
  const auto call = peer->send_call(items(100));
  expect_items(*peer, call, 0, 16);
  expect_starved(*peer);
  expect_error(peer->interrupted_reply(call), ErrorKind::kCancelled, "KeyboardInterrupt");
  expect_result(peer->call("echo", {1}), 1);
}

TEST_P(Protocol, KeepsFramesThatComeBehindAStream) {
  auto peer = ready();
  const auto call = peer->send_call(items(17));
  expect_items(*peer, call, 0, 16);
  std::string bytes;
  ASSERT_TRUE(wire::append_session_end(bytes, {.birth = 1, .session = "nobody"}));
  wire::append_credit(bytes, call, 1);
  wire::append_shutdown(bytes);
  peer->send_packets({bytes});
  expect_items(*peer, call, 16, 1);
  EXPECT_EQ(peer->next()->type(), wire::Type::kEnd);
  EXPECT_EQ(peer->status(), 0);
}

TEST_P(Protocol, AnswersAListWhereNoStreamIsTaken) {
  auto peer = ready();
  const Reply reply = peer->call("items", {20});
  ASSERT_EQ(reply.type, wire::Type::kResult);
  EXPECT_TRUE(reply.items.empty());
  ASSERT_EQ(reply.value.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(reply.value[static_cast<std::size_t>(i)], i);
  expect_result(peer->call("items", {0}), Json::array());
}

// A function that does not stream answers as ever, stream flag or not.
TEST_P(Protocol, AnswersAResultToACallerThatWouldTakeAStream) {
  auto peer = ready();
  expect_result(peer->call({.function = "echo", .payload = "[4]", .stream = true}), 4);
  expect_error(peer->call({.function = "items", .payload = "[\"many\"]", .stream = true}),
               ErrorKind::kError, "TypeError");
}

}  // namespace
}  // namespace keelback::conformance
