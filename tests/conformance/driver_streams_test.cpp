// What ends a stream before its generator does: the deadline, silence, an error, a death. Each ends
// it once, after the items that came, with an outcome that says which it was.
#include <signal.h>

#include <string>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

// The items are 0, 1, 2 … without a gap, in order.
void expect_counting(const std::vector<std::string>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) ASSERT_EQ(items[i], std::to_string(i));
}

// Goal: a deadline is total for streams too. A generator whose items nobody takes waits in its
// worker; it is ended there and costs no worker.
TEST_P(DriverTest, ADeadlineEndsAStreamThatNobodyTakes) {
  World world(GetParam());
  world.warm();
  Call call = ask("items", "[1000000]");
  call.deadline = 300ms;
  const Pending stream = world.stream(call);
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kTimeout, kMaybe);
  EXPECT_EQ(stream.items().size(), 16u) << "what came, came";
  expect_counting(stream.items());
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  EXPECT_EQ(world.stats().restarts, 0u);
}

// Goal: nor may a reader that takes every item keep a stream beyond its deadline.
TEST_P(DriverTest, ADeadlineEndsAStreamThatIsTaken) {
  World world(GetParam());
  world.warm();
  Call call = ask("items", "[100000000]");
  call.deadline = 200ms;
  const Pending stream = world.stream(call);
  world.driver().grant(stream.id(), 1000);
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kTimeout, kMaybe);
  EXPECT_LE(stream.items().size(), 1016u) << "never more than was granted";
  expect_counting(stream.items());
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

// Goal: calls.stream_idle is the longest gap; moving items start it again.
TEST_P(DriverTest, AStreamThatFallsSilentEndsAsATimeout) {
  Settings brief = settings();
  brief.calls.stream_idle = 200ms;
  World world(GetParam(), brief);
  world.warm();
  const Pending stream = world.stream(ask("pause", "[60000]"));
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kTimeout, kMaybe);
  EXPECT_NE(end.message.find("calls.stream_idle"), std::string::npos) << end.message;
  EXPECT_LE(stream.items().size(), 1u);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

// Goal: the time a generator waits for its reader is the reader's: it may be much longer than
// calls.stream_idle, and the stream goes on where it was.
TEST_P(DriverTest, AReaderThatStopsForLongerThanStreamIdleKeepsItsStream) {
  Settings brief = settings();
  brief.calls.stream_idle = 200ms;
  World world(GetParam(), brief);
  world.warm();
  const Pending held = world.stream(ask("items", "[40]"));
  ASSERT_TRUE(world.until([&] { return held.items().size() == 16; }));
  // Another stream that begins later and falls silent is the clock: it has been given up, so the
  // first one has stood still for longer than the limit.
  const Pending silent = world.stream(ask("pause", "[60000]"));
  EXPECT_OUTCOME(world.wait(silent), kTimeout, kMaybe);
  EXPECT_FALSE(held.done());
  world.driver().grant(held.id(), 24);
  EXPECT_OUTCOME(world.wait(held), kOk, kDone);
  EXPECT_EQ(held.items().size(), 40u);
  expect_counting(held.items());
}

TEST_P(DriverTest, AStreamWhoseFunctionFailsEndsWithTheError) {
  World world(GetParam());
  const Pending stream = world.stream(ask("fail", R"(["no luck"])"));
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kError, kDone);
  ASSERT_TRUE(end.python);
  EXPECT_EQ(end.python->message, "no luck");
  EXPECT_TRUE(stream.items().empty());
}

// Goal: SIGKILL amid a stream: every item that had left the worker arrives, then one end that names
// the signal; a stream is not tried again, however idempotent, once items are out.
TEST_P(DriverTest, AKilledWorkersStreamEndsWithItsItemsAndItsDeath) {
  World world(GetParam());
  world.warm();
  const Pending stream = world.stream(ask("items", "[1000000]"));
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 16; }));
  std::int64_t pid = 0;
  for (const auto& info : world.driver().workers()) {
    if (info.function == "items") pid = info.pid;
  }
  if (GetParam() == Backend::kSim) GTEST_SKIP() << "its workers are no processes";
  ASSERT_GT(pid, 0);
  ASSERT_EQ(::kill(static_cast<pid_t>(pid), SIGKILL), 0);
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kWorkerDied, kMaybe);
  ASSERT_TRUE(end.death);
  EXPECT_EQ(end.death->signal, SIGKILL);
  EXPECT_EQ(end.attempts, 1u);
  EXPECT_EQ(stream.items().size(), 16u);
  expect_counting(stream.items());
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

// Goal: a reader that takes nothing holds nothing but its worker: others are served beside it.
TEST_P(DriverTest, ASlowReaderCostsItsWorkerOnly) {
  World world(GetParam());
  world.warm();
  const Pending stream = world.stream(ask("items", "[100]"));
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 16; }));
  for (int i = 0; i < 20; ++i) EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  EXPECT_FALSE(stream.done());
  for (int i = 0; i < 84; ++i) world.driver().grant(stream.id(), 1);
  EXPECT_OUTCOME(world.wait(stream), kOk, kDone);
  EXPECT_EQ(stream.items().size(), 100u);
  expect_counting(stream.items());
}

}  // namespace
}  // namespace keelback::test
