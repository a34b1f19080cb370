// Deaths on every driver, and what the pool makes of them: retries, losses, breaker, quarantine.
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

constexpr const char* kAbort = "[6]";  // SIGABRT: no runtime of ours handles it

TEST_P(DriverTest, ADeathCostsTheCallItHitAndNoOther) {
  World world(GetParam());
  world.warm();
  const Pending neighbour = world.submit(ask("spin", "[500]"));
  ASSERT_TRUE(world.running("spin"));
  const Outcome died = world.wait(world.submit(ask("crash", kAbort)));
  EXPECT_OUTCOME(died, kWorkerDied, kMaybe);
  ASSERT_TRUE(died.death);
  EXPECT_EQ(died.death->cause, "signal");
  EXPECT_EQ(died.death->signal, 6);
  EXPECT_EQ(died.attempts, 1u) << "not idempotent, not repeated";
  EXPECT_OUTCOME(world.wait(neighbour), kOk, kDone);
  EXPECT_TRUE(world.until([&] { return world.stats().workers.ready == 2; })) << "replaced";
  EXPECT_EQ(world.stats().restarts, 1u);
}

TEST_P(DriverTest, AnExitIsTold) {
  World world(GetParam());
  const Outcome left = world.call("exit", "[3]");
  EXPECT_OUTCOME(left, kWorkerDied, kMaybe);
  ASSERT_TRUE(left.death);
  EXPECT_EQ(left.death->cause, "exit");
  EXPECT_EQ(left.death->exit_code, 3);
}

TEST_P(DriverTest, AnIdempotentCallIsTriedAgainOnAnotherWorker) {
  Settings retrying = settings();
  retrying.calls.retries = 2;
  retrying.quarantine.deaths = 0;
  World world(GetParam(), retrying);
  Call call = ask("crash", kAbort);
  call.idempotent = true;
  const Outcome died = world.call(call);
  EXPECT_OUTCOME(died, kWorkerDied, kMaybe);
  EXPECT_EQ(died.attempts, 3u);
  EXPECT_EQ(world.stats().retries, 2u);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

TEST_P(DriverTest, ALostSessionSaysSoOnceAndThenOpensAnew) {
  World world(GetParam());
  const Outcome first = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(world.call("crash", kAbort, "ann"), kWorkerDied, kMaybe);
  const Outcome lost = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(lost, kSessionLost, kNone);
  ASSERT_TRUE(lost.death);
  EXPECT_EQ(lost.death->signal, 6);
  const Outcome anew = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(anew, kOk, kDone);
  EXPECT_EQ(anew.payload, "1");
  EXPECT_NE(anew.birth, first.birth);
  EXPECT_EQ(world.stats().sessions.lost, 1u);
}

TEST_P(DriverTest, CallsThatWaitForALostSessionHearOfIt) {
  World world(GetParam());
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kOk, kDone);
  const Pending running = world.submit(ask("spin", "[200]", "ann"));
  const Pending deadly = world.submit(ask("crash", kAbort, "ann"));
  const Pending behind = world.submit(ask("counter", "[]", "ann"));
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
  EXPECT_OUTCOME(world.wait(deadly), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.wait(behind), kSessionLost, kNone);
}

TEST_P(DriverTest, ADeathInMidStreamEndsTheStream) {
  World world(GetParam());
  world.warm();
  const Pending stream = world.stream(ask("items", "[1000000]"));
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 16; }));
  world.configure([](Settings& s) { s.workers.drain_timeout = 50ms; });
  const WorkerRef home = [&] {
    for (const auto& info : world.driver().workers()) {
      if (info.function == "items") return info.worker;
    }
    return WorkerRef{};
  }();
  ASSERT_GT(home.generation, 0u);
  EXPECT_TRUE(world.driver().recycle(home.slot));
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kWorkerDied, kMaybe);
  EXPECT_EQ(end.worker, home);
}

TEST_P(DriverTest, APoisonousRequestIsQuarantinedAndCanBeReleased) {
  Settings strict = settings();
  strict.quarantine.deaths = 2;
  strict.breaker.failures = 0;
  World world(GetParam(), strict);
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("crash", kAbort), kQuarantined, kNone);
  EXPECT_OUTCOME(world.call("crash", "[ 6]"), kWorkerDied, kMaybe);
  const auto held = world.driver().quarantine();
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].function, "crash");
  EXPECT_EQ(held[0].deaths, 2u);
  EXPECT_EQ(world.stats().quarantined, 1u);
  EXPECT_TRUE(world.driver().release(held[0].fingerprint));
  EXPECT_FALSE(world.driver().release(held[0].fingerprint));
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);
}

TEST_P(DriverTest, AFunctionThatKeepsKillingOpensItsBreakerAndNoOther) {
  Settings fragile = settings();
  fragile.breaker.failures = 2;
  fragile.breaker.open_for = 300ms;
  fragile.quarantine.deaths = 0;
  World world(GetParam(), fragile);
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);
  const Outcome open = world.call("crash", kAbort);
  EXPECT_OUTCOME(open, kCircuitOpen, kNone);
  ASSERT_TRUE(open.retry_after);
  EXPECT_LE(*open.retry_after, 300ms);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  world.pass(320ms);
  EXPECT_OUTCOME(world.call("crash", kAbort), kWorkerDied, kMaybe);  // half open: one may try
}

}  // namespace
}  // namespace keelback::test
