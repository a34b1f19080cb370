// Stopping a call: the rungs of the kill ladder that a worker takes part in, and the pings that
// tell a worker that computes from one that cannot answer.
#include <signal.h>

#include <chrono>

#include "protocol_suite.h"

namespace keelback::conformance {
namespace {

using wire::ErrorKind;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST_P(Protocol, CancelsACallThatHeedsIt) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "sleep", .payload = kLong});
  ASSERT_TRUE(peer->await_started(call));
  peer->cancel(call);
  const Reply reply = peer->reply();
  expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled");
  EXPECT_FALSE(reply.unclean);
  EXPECT_FALSE(reply.interrupted);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), call);
  // A mark of an old call means nothing.
  expect_result(peer->call("echo", {"next"}), "next");
}

// The supervisor tells by the marks that such a call has not run, and never will.
TEST_P(Protocol, ACallThatWasCancelledBeforeItStartedDoesNotStart) {
  auto peer = ready();
  const auto before = peer->next_call();
  expect_result(peer->call("echo", {"before"}), "before");
  EXPECT_EQ(peer->mark(wire::kMarkOrdered), 1u);
  peer->set_mark(wire::kMarkCancel, peer->next_call());
  const auto call = peer->send_call({.function = "sleep", .payload = kLong});
  const Reply reply = peer->reply();
  expect_error(reply, ErrorKind::kCancelled, "keelback.Cancelled", "before it started");
  EXPECT_EQ(reply.call, call);
  EXPECT_EQ(peer->mark(wire::kMarkStarted), before);
  EXPECT_EQ(peer->mark(wire::kMarkEnded), before);
  expect_result(peer->call("echo", {"next"}), "next");
}

TEST_P(Protocol, CancelsNothingButTheCallOfTheMark) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "sleep", .payload = "[100]"});
  ASSERT_TRUE(peer->await_started(call));
  peer->cancel(call + 1);
  expect_result(peer->reply(), 100);
}

TEST_P(Protocol, FinishesACallThatDoesNotHeedCancel) {
  auto peer = ready();
  for (const char* function : {"spin", "hold", "nap"}) {
    const auto call = peer->send_call({.function = function, .payload = "[50]"});
    ASSERT_TRUE(peer->await_started(call));
    peer->cancel(call);
    const Reply reply = peer->reply();
    expect_result(reply, 50);
    EXPECT_FALSE(reply.interrupted);
  }
}

TEST_P(Protocol, InterruptsASynchronousCall) {
  auto peer = ready();
  for (const char* function : {"spin", "sleep", "nap"}) {
    const auto call = peer->send_call({.function = function, .payload = kLong});
    ASSERT_TRUE(peer->await_started(call));
    const Reply reply = peer->interrupted_reply(call);
    expect_error(reply, ErrorKind::kCancelled, "KeyboardInterrupt");
    EXPECT_EQ(reply.call, call);
    EXPECT_TRUE(reply.interrupted);
    EXPECT_EQ(peer->mark(wire::kMarkEnded), call);
    const Reply next = peer->call("echo", {"next"});
    expect_result(next, "next");
    EXPECT_FALSE(next.interrupted) << "only the call that it was raised in";
  }
}

// Goal: SAVED says it too: the session's state may be half made.
TEST_P(Protocol, AnInterruptedCallIsMarkedAlsoWhenItsAnswerBringsAState) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "spin",
                                     .payload = kLong,
                                     .session = "ann",
                                     .birth = 7,
                                     .epoch = 1,
                                     .opens = true,
                                     .saves = true});
  ASSERT_TRUE(peer->await_started(call));
  const Reply reply = peer->interrupted_reply(call);
  expect_error(reply, ErrorKind::kCancelled, "KeyboardInterrupt");
  EXPECT_TRUE(reply.saved);
  EXPECT_TRUE(reply.interrupted);
}

// Goal: SIGINT counts only while interrupt == started != ended. Early, late, without a mark, and
// with another call's mark it does nothing, neither to this call nor to the next.
TEST_P(Protocol, IgnoresAnInterruptOutsideOfItsWindow) {
  auto peer = ready();
  const auto settle = [&] {  // the signal was handled before the main thread sleeps again
    peer->ping();
    EXPECT_EQ(peer->pong().running, 0u);
    ASSERT_TRUE(peer->await_asleep());
  };
  // Early: the call of the mark has not come yet.
  peer->interrupt(peer->next_call());
  settle();
  expect_result(peer->call("sleep", {20}), 20);
  // Late: the call of the mark is over.
  peer->interrupt(peer->next_call() - 1);
  settle();
  expect_result(peer->call("sleep", {20}), 20);
  // While another call runs: no mark, an old one, a future one.
  for (const std::uint64_t other : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1'000'000}}) {
    const auto call = peer->send_call({.function = "spin", .payload = "[60]"});
    ASSERT_TRUE(peer->await_started(call));
    peer->interrupt(other);
    const Reply reply = peer->reply();
    expect_result(reply, 60);
    EXPECT_FALSE(reply.interrupted);
  }
}

// Goal: a storm of signals at every moment of short calls. Each call ends once, as itself: answered
// or cancelled; never the worker, and never a neighbour that no mark names.
TEST_P(Protocol, SurvivesInterruptsAtAnyMoment) {
  auto peer = ready();
  for (int round = 0; round < 300; ++round) {
    const auto call = peer->next_call();
    if (round % 2 == 0) peer->set_mark(wire::kMarkInterrupt, call);
    (void)peer->send_call({.function = "echo", .payload = "[7]"});
    for (int i = 0; i < round % 7; ++i) peer->signal(SIGINT);
    const Reply reply = peer->reply();
    ASSERT_EQ(reply.call, call);
    if (reply.type == wire::Type::kError) {
      ASSERT_EQ(round % 2, 0) << "interrupted without a mark";
      expect_error(reply, ErrorKind::kCancelled, "KeyboardInterrupt");
      ASSERT_TRUE(reply.interrupted);
    } else {
      expect_result(reply, 7);
    }
  }
}

// ---- evidence

TEST_P(Protocol, AnswersPingsWhileACallRuns) {
  auto peer = ready();
  const auto idle = peer->ping();
  EXPECT_EQ(peer->pong(), (wire::PongMessage{.token = idle, .running = 0}));
  for (const char* function : {"sleep", "spin"}) {
    const auto call = peer->send_call({.function = function, .payload = kLong});
    ASSERT_TRUE(peer->await_started(call));
    const auto busy = peer->ping();
    EXPECT_EQ(peer->pong(), (wire::PongMessage{.token = busy, .running = call}));
    (void)peer->interrupted_reply(call);
  }
  const auto after = peer->ping();
  EXPECT_EQ(peer->pong(), (wire::PongMessage{.token = after, .running = 0}));
}

// Goal: no pong while the interpreter is held. The clock only gives a lower bound, so a slow
// machine cannot fail it.
TEST_P(Protocol, AnswersNoPingWhileTheInterpreterIsHeld) {
  auto peer = ready();
  const auto sent = Clock::now();
  const auto call = peer->send_call({.function = "hold", .payload = "[300]"});
  ASSERT_TRUE(peer->await_started(call));
  const auto token = peer->ping();
  const auto pong = peer->pong();
  EXPECT_GE(Clock::now() - sent, 300ms);
  EXPECT_EQ(pong.token, token);
  expect_result(peer->reply(), 300);
}

// Goal: the dump names what runs, also while the interpreter is held and while it idles.
TEST_P(Protocol, DumpsItsStacksWhateverItDoes) {
  for (const char* function : {"hold", "spin", "sleep"}) {
    auto peer = ready();
    ASSERT_TRUE(peer->await_quiet()) << "a dump is of no thread that runs beside it";
    EXPECT_EQ(peer->dump(), "");
    const auto call = peer->send_call({.function = function, .payload = kLong});
    ASSERT_TRUE(peer->await_started(call));
    EXPECT_THAT(peer->dump_until(std::string("in ") + function), HasSubstr("File \""));
    EXPECT_NE(peer->mark(wire::kMarkEnded), call) << "a dump ends nothing";
  }
  auto peer = ready();
  ASSERT_TRUE(peer->await_quiet());
  EXPECT_THAT(peer->dump_until("\n"), HasSubstr("most recent call first"));
  expect_result(peer->call("echo", {1}), 1);
}

// Goal: the whole ladder on one worker, then it goes on.
TEST_P(Protocol, ClimbsTheLadderAndIsUsableAgain) {
  auto peer = ready();
  const auto call = peer->send_call({.function = "spin", .payload = kLong});
  ASSERT_TRUE(peer->await_started(call));
  peer->cancel(call);
  const auto token = peer->ping();  // behind the CANCEL, so it has been read and was of no use
  EXPECT_EQ(peer->pong(), (wire::PongMessage{.token = token, .running = call}));
  EXPECT_THAT(peer->dump_until("in spin"), HasSubstr("File \""));
  expect_error(peer->interrupted_reply(call), ErrorKind::kCancelled, "KeyboardInterrupt");
  EXPECT_THAT(peer->dump(), HasSubstr("in spin")) << "it can be read until the next call starts";
  expect_result(peer->call("echo", {1}), 1);
  EXPECT_EQ(peer->dump(), "");
}

}  // namespace
}  // namespace keelback::conformance
