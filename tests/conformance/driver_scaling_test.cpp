// A pool that grows and shrinks, on every driver: calls that wait get workers, workers that nobody
// needs leave, and no session is lost by it.
#include <string>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

Settings from_to(std::uint32_t workers, std::uint32_t workers_max) {
  Settings s = World::default_settings();
  s.pool.workers = workers;
  s.pool.workers_max = workers_max;
  s.pool.scale_down_after = 200ms;
  return s;
}

// Until so many workers are there, whatever they do.
bool there(World& world, std::size_t workers) {
  return world.until([&] { return world.driver().workers().size() == workers; }, 30s);
}

// So many streams that nobody reads: each holds a worker until it is cancelled.
std::vector<Pending> hold_workers(World& world, int streams) {
  std::vector<Pending> held;
  for (int i = 0; i < streams; ++i) {
    Call call = ask("items", "[1000000]");
    call.deadline = 60s;
    held.push_back(world.stream(call));
  }
  return held;
}

bool held(World& world, std::size_t workers) { return world.running("items", workers); }

void let_go(World& world, const std::vector<Pending>& held) {
  for (const Pending& stream : held) world.driver().cancel(stream.id());
  for (const Pending& stream : held) {
    const Outcome outcome = world.wait(stream);
    EXPECT_EQ(outcome.kind, OutcomeKind::kCancelled) << told(outcome);
  }
}

std::string name(int i) { return "s" + std::to_string(i); }

// Goal: calls that wait get workers of their own, and all run at once; when they are over, the pool
// is as small as before. Nobody died, and nothing was refused.
TEST_P(DriverTest, APoolGrowsForCallsThatWaitAndShrinksAfterThem) {
  World world(GetParam(), from_to(1, 6));
  world.warm();
  EXPECT_EQ(world.stats().scaling.wanted, 1u);
  const std::vector<Pending> calls = hold_workers(world, 6);
  EXPECT_TRUE(held(world, 6)) << "six at once";
  EXPECT_EQ(world.stats().scaling.wanted, 6u);
  EXPECT_NE(world.stats().scaling.why.find("calls waited"), std::string::npos)
      << world.stats().scaling.why;
  let_go(world, calls);
  EXPECT_TRUE(there(world, 1));
  EXPECT_EQ(world.driver().workers()[0].worker.slot, 1u) << "the highest slots leave first";
  const PoolStats stats = world.stats();
  EXPECT_EQ(stats.scaling.wanted, 1u);
  EXPECT_EQ(stats.restarts, 0u);
  EXPECT_TRUE(stats.ready);
  EXPECT_TRUE(world.adds_up());
}

// Goal: sessions that live on workers that leave go on with their state, as often as it happens.
TEST_P(DriverTest, SessionsGoOnWhenTheirWorkersAreNotNeeded) {
  World world(GetParam(), from_to(1, 4));
  world.warm();
  constexpr int kSessions = 12;
  for (int round = 1; round <= 2; ++round) {
    const std::vector<Pending> holding = hold_workers(world, 3);
    ASSERT_TRUE(held(world, 3));
    std::vector<Pending> calls;
    for (int i = 0; i < kSessions; ++i) {
      calls.push_back(world.submit(ask("counter", "[]", name(i))));
    }
    for (const Pending& call : calls) {
      const Outcome outcome = world.wait(call);
      EXPECT_OUTCOME(outcome, kOk, kDone);
      EXPECT_EQ(outcome.payload, std::to_string(round));
      EXPECT_EQ(outcome.worker.slot, 4u) << "where nobody will be soon";
    }
    let_go(world, holding);
    ASSERT_TRUE(there(world, 1));
    EXPECT_EQ(world.driver().workers()[0].worker.slot, 1u);
    EXPECT_EQ(world.stats().snapshots.kept, std::uint64_t{kSessions} * round);
  }
  const PoolStats stats = world.stats();
  EXPECT_EQ(stats.sessions.lost, 0u);
  EXPECT_EQ(stats.sessions.active, std::uint64_t{kSessions});
  EXPECT_EQ(stats.sessions.restored, std::uint64_t{kSessions});
  for (int i = 0; i < kSessions; ++i) {
    EXPECT_EQ(world.call("counter", "[]", name(i)).payload, "3");
  }
}

// Goal: a worker whose session cannot be saved stays and serves everybody, until the session ends.
TEST_P(DriverTest, AWorkerWithAStateThatCannotBeSavedIsKept) {
  World world(GetParam(), from_to(1, 2));
  world.warm();
  const std::vector<Pending> busy = hold_workers(world, 1);
  ASSERT_TRUE(held(world, 1));
  const Pending first =
      world.submit(ask("counter", "[]", "ann"));  // on a worker that starts for it
  const WorkerId home = world.wait(first).worker;
  ASSERT_EQ(home.slot, 2u);
  EXPECT_OUTCOME(world.call("spoil", "[]", "ann"), kOk, kDone);
  let_go(world, busy);
  ASSERT_TRUE(world.until([&] {
    return world.stats().scaling.why.find("stay: 1") != std::string::npos;
  })) << world.stats().scaling.why;
  const Outcome again = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(again, kOk, kDone);
  EXPECT_EQ(again.worker, home);
  EXPECT_EQ(again.payload, "2");
  EXPECT_EQ(world.stats().sessions.lost, 0u);
  ASSERT_TRUE(world.driver().end_session_here("ann"));
  EXPECT_TRUE(there(world, 1));
  EXPECT_EQ(world.driver().workers()[0].worker.slot, 1u);
}

// Goal: an empty pool is ready; each burst finds workers, and its session finds its state.
TEST_P(DriverTest, APoolThatKeepsNoWorkerStartsThemForCalls) {
  if (GetParam() == Backend::kFake) GTEST_SKIP() << "fake workers are not forked";
  World world(GetParam(), from_to(0, 3));
  ASSERT_TRUE(world.until([&] { return world.stats().ready; }));
  for (int round = 1; round <= 2; ++round) {
    EXPECT_EQ(world.driver().workers().size(), 0u);
    EXPECT_EQ(world.stats().scaling.wanted, 0u);
    EXPECT_TRUE(world.stats().ready);
    const std::vector<Pending> burst = hold_workers(world, 3);
    EXPECT_TRUE(held(world, 3));
    let_go(world, burst);
    const Outcome counted = world.call("counter", "[]", "ann");
    EXPECT_EQ(counted.payload, std::to_string(round));
    EXPECT_EQ(counted.epoch, static_cast<std::uint32_t>(round));
    ASSERT_TRUE(there(world, 0));
  }
  EXPECT_EQ(world.stats().sessions.lost, 0u);
  EXPECT_EQ(world.stats().restarts, 0u);
}

// Goal: a worker that dies does not change how many are wanted: another one takes its place.
TEST_P(DriverTest, AWorkerThatDiesInAGrownPoolIsReplaced) {
  Settings settings = from_to(1, 3);
  settings.pool.scale_down_after = 1h;
  settings.breaker.failures = 0;
  World world(GetParam(), settings);
  world.warm();
  const std::vector<Pending> calls = hold_workers(world, 3);
  ASSERT_TRUE(held(world, 3));
  let_go(world, calls);
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_TRUE(world.until([&] { return world.stats().workers.ready == 3; }));
  EXPECT_EQ(world.stats().scaling.wanted, 3u);
  EXPECT_EQ(world.stats().restarts, 1u);
}

// Goal: the limits change while the pool runs, and 0 fixes its size again.
TEST_P(DriverTest, HowFarAPoolGrowsIsChangedWhileItRuns) {
  World world(GetParam(), from_to(1, 2));
  world.warm();
  const std::vector<Pending> calls = hold_workers(world, 4);
  EXPECT_TRUE(held(world, 2));
  world.configure([](Settings& s) { s.pool.workers_max = 4; });
  EXPECT_TRUE(held(world, 4)) << "those that wait need not be called again";
  world.configure([](Settings& s) {
    s.pool.workers = 2;
    s.pool.workers_max = 0;
  });
  let_go(world, calls);
  EXPECT_TRUE(there(world, 2));
  EXPECT_EQ(world.stats().scaling.why, "the size is fixed: pool.workers_max is 0");
  world.pass(1s);
  EXPECT_EQ(world.driver().workers().size(), 2u);
}

}  // namespace
}  // namespace keelback::test
