// What operators do to a pool on every driver: drain, recycle, resize, reload; and its numbers.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

TEST_P(DriverTest, ADrainFinishesWhatWasAcceptedAndRefusesTheRest) {
  World world(GetParam());
  world.warm();
  std::vector<Pending> accepted;
  for (int i = 0; i < 4; ++i) accepted.push_back(world.submit(ask("spin", "[100]")));
  std::atomic<bool> drained = false;
  world.driver().drain(10s, [&] { drained = true; });
  ASSERT_TRUE(world.until([&] { return world.stats().draining; }));
  EXPECT_OUTCOME(world.wait(world.submit(ask("echo", "[1]"))), kShuttingDown, kNone);
  for (const Pending& call : accepted) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
  EXPECT_TRUE(world.until([&] { return drained.load(); }));
  EXPECT_TRUE(world.driver().workers().empty()) << "every worker has left";
  EXPECT_FALSE(world.stats().ready);
  EXPECT_TRUE(world.stats().draining);
  EXPECT_EQ(world.stats().in_flight, 0u);
}

TEST_P(DriverTest, ADrainsLimitEndsWhatStillRuns) {
  World world(GetParam());
  world.warm();
  const Pending running = world.submit(ask("hold", "[60000]"));
  ASSERT_TRUE(world.running("hold"));
  std::atomic<bool> drained = false;
  world.driver().drain(100ms, [&] { drained = true; });
  const Outcome outcome = world.wait(running);
  EXPECT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.effect, Effect::kMaybe) << told(outcome);
  EXPECT_TRUE(world.until([&] { return drained.load(); }));
}

TEST_P(DriverTest, RecyclingReplacesOneWorkerAndFailsNoCall) {
  World world(GetParam());
  world.warm();
  const auto before = world.driver().workers();
  ASSERT_EQ(before.size(), 2u);
  const WorkerId old = before[0].worker;
  EXPECT_FALSE(world.driver().recycle(99));
  EXPECT_TRUE(world.driver().recycle(old.slot));
  std::vector<Pending> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(world.submit(ask("spin", "[5]")));
  for (const Pending& call : calls) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
  EXPECT_TRUE(world.until([&] {
    const auto now = world.driver().workers();
    return now.size() == 2 &&
           std::ranges::none_of(now, [&](const auto& info) { return info.worker == old; }) &&
           world.stats().workers.ready == 2;
  }));
}

TEST_P(DriverTest, AWorkerIsReplacedAfterSoManyCalls) {
  Settings short_lived = settings();
  short_lived.pool.workers = 1;
  short_lived.workers.max_calls = 5;
  World world(GetParam(), short_lived);
  world.warm();
  for (int round = 0; round < 3; ++round) {
    const std::uint32_t before = world.call("pid").worker.generation;
    for (int i = 0; i < 5; ++i) EXPECT_OUTCOME(world.call("pid"), kOk, kDone);
    EXPECT_TRUE(world.until([&] {
      const auto workers = world.driver().workers();
      return workers.size() == 1 && workers[0].worker.generation > before &&
             workers[0].state == core::WorkerState::kReady;
    })) << "round "
        << round;
  }
}

TEST_P(DriverTest, ThePoolIsResizedWhileItRuns) {
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  world.configure([](Settings& s) { s.pool.workers = 3; });
  ASSERT_TRUE(world.until([&] { return world.stats().workers.ready == 3; }));
  std::vector<Pending> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(world.submit(ask("spin", "[300]")));
  EXPECT_TRUE(world.running("spin", 3)) << "three at once";
  world.configure([](Settings& s) { s.pool.workers = 1; });
  for (const Pending& call : calls) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
  EXPECT_TRUE(world.until([&] { return world.driver().workers().size() == 1; }));
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

TEST_P(DriverTest, AReloadReplacesEveryWorkerAndFailsNoCall) {
  World world(GetParam());
  world.warm();
  std::uint32_t newest = 0;
  for (const auto& info : world.driver().workers()) {
    newest = std::max(newest, info.worker.generation);
  }
  std::mutex mutex;
  std::optional<std::string> answer;
  world.driver().reload([&](std::string error) {
    const std::lock_guard lock(mutex);
    answer = std::move(error);
  });
  std::vector<Pending> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(world.submit(ask("spin", "[5]")));
  EXPECT_TRUE(world.until([&] {
    const std::lock_guard lock(mutex);
    return answer.has_value();
  }));
  EXPECT_EQ(answer, "");
  for (const Pending& call : calls) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
  EXPECT_TRUE(world.until([&] {
    const auto now = world.driver().workers();
    return now.size() == 2 && world.stats().workers.ready == 2 &&
           std::ranges::all_of(now,
                               [&](const auto& info) { return info.worker.generation > newest; });
  }));
}

TEST_P(DriverTest, TheApplicationSaysWhatItOffers) {
  World world(GetParam());
  world.warm();
  const auto application = world.driver().application();
  ASSERT_TRUE(application);
  EXPECT_FALSE(application->runtime.empty());
  for (const char* name : {"echo", "counter", "items"})
    EXPECT_TRUE(application->find(name)) << name;
  EXPECT_TRUE(application->find("items")->stream);
  ASSERT_EQ(application->find("echo")->parameters.size(), 1U);
  EXPECT_TRUE(application->find("echo")->parameters[0].required);
}

TEST_P(DriverTest, WorkersAreListedWithWhatTheyDo) {
  World world(GetParam());
  world.warm();
  world.call("counter", "[]", "ann");
  const Pending running = world.submit(ask("spin", "[300]", "ann"));
  ASSERT_TRUE(world.running("spin"));
  const auto workers = world.driver().workers();
  ASSERT_EQ(workers.size(), 2u);
  const auto busy =
      std::ranges::find(workers, core::WorkerState::kBusy, [](const auto& w) { return w.state; });
  ASSERT_NE(busy, workers.end());
  EXPECT_EQ(busy->call, running.id());
  EXPECT_EQ(busy->sessions, 1u);
  EXPECT_EQ(busy->calls, 2u);
  EXPECT_EQ(world.stats().workers.busy, 1u);
  EXPECT_EQ(world.stats().workers.ready, 1u);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

// Goal: in every picture, at any moment, accepted = in flight + outcomes, and in the end each kind
// was counted as often as callers saw it.
TEST_P(DriverTest, TheNumbersAddUp) {
  Settings tight = settings();
  tight.pool.queue_max = 20;
  tight.quarantine.deaths = 0;
  tight.breaker.failures = 0;
  World world(GetParam(), tight);
  world.warm();
  std::vector<Pending> calls;
  for (int i = 0; i < 60; ++i) {
    switch (i % 6) {
      case 0:
        calls.push_back(world.submit(ask("counter", "[]", "s" + std::to_string(i % 5))));
        break;
      case 1:
        calls.push_back(world.submit(ask("fail", R"(["x"])")));
        break;
      case 2:
        calls.push_back(world.submit(ask("nosuch")));
        break;
      case 3:
        calls.push_back(world.submit(ask("echo", "[1, 2]")));
        break;
      case 4:
        calls.push_back(i == 4 ? world.submit(ask("crash", "[6]"))
                               : world.submit(ask("echo", "[1]")));
        break;
      default:
        calls.push_back(world.submit(ask("spin", "[10]")));
    }
    EXPECT_TRUE(world.adds_up());
  }
  std::uint64_t seen[kOutcomeKinds] = {};
  for (const Pending& call : calls) {
    ++seen[static_cast<int>(world.wait(call).kind)];
    EXPECT_TRUE(world.adds_up());
  }
  const PoolStats stats = world.stats();
  EXPECT_EQ(stats.accepted, 60u);
  EXPECT_EQ(stats.in_flight, 0u);
  for (int kind = 0; kind < kOutcomeKinds; ++kind) {
    EXPECT_EQ(stats.outcomes[kind], seen[kind]) << to_string(static_cast<OutcomeKind>(kind));
  }
}

}  // namespace
}  // namespace keelback::test
