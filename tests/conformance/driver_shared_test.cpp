// Calls that share a worker, on every driver: they overlap, each has its own answer, deadline and
// cancel, and a death tells each of them what it was to it.
#include <algorithm>
#include <string>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

class SharedCalls : public DriverTest {
 protected:
  void SetUp() override {
    if (GetParam() == Backend::kFake) GTEST_SKIP() << "keelback-fakeworker runs no shared calls";
  }
  static Settings one_worker() {
    Settings s = settings();
    s.pool.workers = 1;
    return s;
  }
  // Until so many calls run in the pool.
  static bool in_use(World& world, std::uint64_t calls) {
    return world.until([&] { return world.stats().capacity.used == calls; });
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, SharedCalls, testing::ValuesIn(backends()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kSim    ? "sim"
                                  : chosen.param == Backend::kFake ? "fake"
                                                                   : "python";
                         });

// Goal: many coroutines and many threads are under way at once in one worker.
TEST_P(SharedCalls, RunBesideEachOther) {
  World world(GetParam(), one_worker());
  world.warm();
  std::vector<Pending> calls;
  for (int i = 0; i < 8; ++i) calls.push_back(world.submit(ask("together", "[300]")));
  for (int i = 0; i < 4; ++i) calls.push_back(world.submit(ask("threads", "[300]")));
  EXPECT_TRUE(in_use(world, 12));
  for (const Pending& call : calls) {
    const Outcome outcome = world.wait(call);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.payload, "300");
    EXPECT_EQ(outcome.worker.generation, 1u);
  }
  EXPECT_TRUE(in_use(world, 0));
  EXPECT_TRUE(world.adds_up());
}

// Goal: a call that runs alone waits until the worker is empty, and goes before younger calls.
TEST_P(SharedCalls, ACallThatRunsAloneHasItsTurn) {
  World world(GetParam(), one_worker());
  world.warm();
  const Pending older = world.submit(ask("together", "[400]"));
  EXPECT_TRUE(in_use(world, 1));
  const Pending alone = world.submit(ask("sleep", "[50]"));
  const Pending younger = world.submit(ask("together", "[10]"));
  EXPECT_OUTCOME(world.wait(younger), kOk, kDone);
  EXPECT_TRUE(older.done());
  EXPECT_TRUE(alone.done()) << "the younger call has overtaken";
  EXPECT_OUTCOME(alone.outcome(), kOk, kDone);
}

// Goal: a caller's cancel and a deadline end the one call; its neighbours do not notice.
TEST_P(SharedCalls, CancelAndDeadlineConcernTheOneCall) {
  World world(GetParam(), one_worker());
  world.warm();
  Call late = ask("together", "[60000]");
  late.deadline = 200ms;
  std::vector<Pending> neighbours;
  for (int i = 0; i < 6; ++i) neighbours.push_back(world.submit(ask("together", "[600]")));
  const Pending cancelled = world.submit(ask("together", "[60000]"));
  const Pending timed_out = world.submit(late);
  EXPECT_TRUE(in_use(world, 8));
  EXPECT_OUTCOME(world.wait(timed_out), kTimeout, kMaybe);
  world.driver().cancel(cancelled.id());  // it has begun by now
  EXPECT_OUTCOME(world.wait(cancelled), kCancelled, kMaybe);
  for (const Pending& each : neighbours) {
    const Outcome outcome = world.wait(each);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.worker.generation, 1u) << "the worker has stayed";
  }
  EXPECT_OUTCOME(world.call("together", "[1]"), kOk, kDone);
}

// Goal: who dies beside others is a suspect; the idempotent call runs again and ends well, and no
// retry is counted.
TEST_P(SharedCalls, ADeathTellsEachCallWhatItWas) {
  World world(GetParam(), one_worker());
  world.warm();
  Call again = ask("together", "[500]");
  again.idempotent = true;
  const Pending idempotent = world.submit(again);
  const Pending plain = world.submit(ask("together", "[60000]"));
  const Pending deadly = world.submit(ask("together_die", "[200]"));
  for (const Pending* each : {&plain, &deadly}) {
    const Outcome outcome = world.wait(*each);
    EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
    ASSERT_TRUE(outcome.death);
    EXPECT_EQ(outcome.death->role, DeathRole::kSuspect);
  }
  const Outcome outcome = world.wait(idempotent);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.attempts, 2u);
  EXPECT_EQ(world.stats().retries, 0u);
}

// Goal: a call that swallows every cancel costs its worker, but first its neighbours finish.
TEST_P(SharedCalls, ACallThatDoesNotEndCostsItsWorkerLast) {
  Settings s = one_worker();
  s.calls.grace = 300ms;
  World world(GetParam(), s);
  world.warm();
  Call stuck = ask("together_stuck", "[60000]");
  stuck.deadline = 100ms;
  const Pending overdue = world.submit(stuck);
  const Pending neighbour = world.submit(ask("together", "[1500]"));
  EXPECT_OUTCOME(world.wait(overdue), kTimeout, kMaybe);
  const Outcome outcome = world.wait(neighbour);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.attempts, 1u);
  const Outcome next = world.call("together", "[1]");
  EXPECT_OUTCOME(next, kOk, kDone);
  EXPECT_GT(next.worker.generation, 1u) << "the worker with the stuck call takes none";
}

// Goal: a call that blocks the event loop is killed when its grace is over; a neighbour hears that
// it was a bystander, and whose fault it was.
TEST_P(SharedCalls, ABlockedLoopCostsBystanders) {
  Settings s = one_worker();
  s.calls.grace = 300ms;
  World world(GetParam(), s);
  world.warm();
  const Pending neighbour = world.submit(ask("threads", "[60000]"));
  EXPECT_TRUE(in_use(world, 1));
  Call block = ask("together_block", "[60000]");
  block.deadline = 100ms;
  EXPECT_OUTCOME(world.call(block), kTimeout, kMaybe);
  const Outcome outcome = world.wait(neighbour);
  EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
  ASSERT_TRUE(outcome.death);
  EXPECT_EQ(outcome.death->role, DeathRole::kBystander);
  EXPECT_NE(outcome.death->detail.find("together_block"), std::string::npos)
      << outcome.death->detail;
}

// Goal: streams of one worker flow beside each other, and beside calls.
TEST_P(SharedCalls, StreamsFlowBesideEachOther) {
  World world(GetParam(), one_worker());
  world.warm();
  std::vector<Pending> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(world.stream(ask("together_stream", "[10, 20]")));
  EXPECT_TRUE(in_use(world, 5));
  EXPECT_OUTCOME(world.call("together", "[1]"), kOk, kDone);
  for (const Pending& stream : streams) {
    EXPECT_OUTCOME(world.wait(stream), kOk, kDone);
    const std::vector<std::string> items = stream.items();
    ASSERT_EQ(items.size(), 10u);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(items[i], std::to_string(i));
  }
}

// Goal: workers.concurrency caps what runs together.
TEST_P(SharedCalls, WorkersConcurrencyIsACap) {
  Settings s = one_worker();
  s.workers.concurrency = 2;
  World world(GetParam(), s);
  world.warm();
  std::vector<Pending> calls;
  for (int i = 0; i < 5; ++i) calls.push_back(world.submit(ask("together", "[100]")));
  EXPECT_TRUE(in_use(world, 2));
  EXPECT_EQ(world.stats().queue_depth, 3u);
  for (const Pending& call : calls) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
}

}  // namespace
}  // namespace keelback::test
