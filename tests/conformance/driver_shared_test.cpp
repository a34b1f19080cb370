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

// Goal: one call among many kills its worker. Who was beside it is served if it may run again, and
// never quarantined. The guilty request is found: it runs alone, and after two deaths there it is
// refused, though it is not idempotent.
TEST_P(SharedCalls, TheGuiltyIsFoundAndTheInnocentAreServed) {
  Settings s = one_worker();
  s.breaker.failures = 0;
  World world(GetParam(), s);
  world.warm();
  std::vector<Pending> repeatable, plain;
  const auto beside = [](int i) { return ask("together", "[" + std::to_string(200 + i) + "]"); };
  for (int i = 0; i < 24; ++i) {
    Call call = beside(i);
    call.idempotent = true;
    repeatable.push_back(world.submit(call));
  }
  for (int i = 24; i < 31; ++i) plain.push_back(world.submit(beside(i)));
  const Call guilty = ask("together_die", "[100]");
  const Pending first = world.submit(guilty);
  EXPECT_TRUE(in_use(world, 32));
  EXPECT_OUTCOME(world.wait(first), kWorkerDied, kMaybe);
  EXPECT_EQ(first.outcome().death->role, DeathRole::kSuspect);
  for (const Pending& each : plain) {
    EXPECT_OUTCOME(world.wait(each), kWorkerDied, kMaybe);
    EXPECT_EQ(each.outcome().death->role, DeathRole::kSuspect);
  }
  for (const Pending& each : repeatable) {
    EXPECT_OUTCOME(world.wait(each), kOk, kDone);
    EXPECT_EQ(each.outcome().attempts, 2u);
  }
  for (int alone = 0; alone < 2; ++alone) {
    world.warm();
    const Outcome outcome = world.call(guilty);
    EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
    ASSERT_TRUE(outcome.death);
    EXPECT_EQ(outcome.death->role, DeathRole::kNone) << "nobody was beside it";
  }
  world.warm();
  EXPECT_OUTCOME(world.call(guilty), kQuarantined, kNone);
  for (int i = 24; i < 31; ++i) EXPECT_OUTCOME(world.call(beside(i)), kOk, kDone);
  EXPECT_EQ(world.count(OutcomeKind::kQuarantined), 1u);
}

// Goal: a segmentation fault among 32 calls leads to the one whose code the dying thread ran. The
// others are bystanders, who hear its name; those that may run again do so, and none is suspected.
TEST_P(SharedCalls, ACrashAmongManyLeadsToItsCall) {
  for (const char* function : {"together_crash", "threads_crash", "together_exit"}) {
    Settings s = one_worker();
    s.breaker.failures = 1;
    s.breaker.ratio = 0;
    World world(GetParam(), s);
    world.warm();
    std::vector<Pending> plain, repeatable;
    for (int i = 0; i < 24; ++i) plain.push_back(world.submit(ask("together", "[60000]")));
    for (int i = 0; i < 4; ++i) plain.push_back(world.submit(ask("threads", "[60000]")));
    for (int i = 0; i < 3; ++i) {
      Call again = ask("together", "[" + std::to_string(700 + i) + "]");
      again.idempotent = true;
      repeatable.push_back(world.submit(again));
    }
    EXPECT_TRUE(in_use(world, 31));
    const Outcome guilty = world.call(function, "[300]");
    EXPECT_OUTCOME(guilty, kWorkerDied, kMaybe);
    ASSERT_TRUE(guilty.death);
    EXPECT_EQ(guilty.death->role, DeathRole::kCulprit) << function << ": " << told(guilty);
    for (const Pending& call : plain) {
      const Outcome outcome = world.wait(call);
      EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
      ASSERT_TRUE(outcome.death);
      EXPECT_EQ(outcome.death->role, DeathRole::kBystander);
      EXPECT_NE(outcome.death->detail.find(function), std::string::npos) << outcome.death->detail;
    }
    for (const Pending& call : repeatable) {
      const Outcome outcome = world.wait(call);
      EXPECT_OUTCOME(outcome, kOk, kDone);
      EXPECT_EQ(outcome.attempts, 2u);
    }
    EXPECT_EQ(world.stats().retries, 0u);
    EXPECT_OUTCOME(world.call(function, "[1]"), kCircuitOpen, kNone);
    EXPECT_OUTCOME(world.call("together", "[1]"), kOk, kDone);  // its breaker has heard of nothing
  }
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

// Goal: a thread in a C call that never ends costs its worker, but first its neighbours finish.
TEST_P(SharedCalls, AThreadThatDoesNotEndCostsItsWorkerLast) {
  Settings s = one_worker();
  s.calls.grace = 300ms;
  World world(GetParam(), s);
  world.warm();
  Call stuck = ask("threads_stuck", "[60000]");
  stuck.deadline = 100ms;
  const Pending overdue = world.submit(stuck);
  const Pending task = world.submit(ask("together", "[1500]"));
  const Pending thread = world.submit(ask("threads", "[1500]"));
  EXPECT_OUTCOME(world.wait(overdue), kTimeout, kMaybe);
  for (const Pending* neighbour : {&task, &thread}) {
    EXPECT_OUTCOME(world.wait(*neighbour), kOk, kDone);
    EXPECT_EQ(neighbour->outcome().attempts, 1u);
  }
  EXPECT_GT(world.call("together", "[1]").worker.generation, 1u);
}

// Goal: a C call that keeps the GIL stops all of its worker. Its caller hears on time, the worker
// is killed when the grace is over, and its neighbours hear whose fault it was.
TEST_P(SharedCalls, ACallThatKeepsTheGilCostsBystanders) {
  if (GetParam() != Backend::kPython) GTEST_SKIP() << "only Python has a GIL";
  Settings s = one_worker();
  s.calls.grace = 300ms;
  World world(GetParam(), s);
  world.warm();
  Call again = ask("threads", "[700]");
  again.idempotent = true;
  const Pending repeatable = world.submit(again);
  const Pending plain = world.submit(ask("together", "[60000]"));
  EXPECT_TRUE(in_use(world, 2));
  Call hold = ask("together_hold", "[60000]");
  hold.deadline = 100ms;
  const Pending late = world.submit(hold);
  EXPECT_OUTCOME(world.wait(late), kTimeout, kMaybe);
  EXPECT_OUTCOME(world.wait(plain), kWorkerDied, kMaybe);
  EXPECT_EQ(plain.outcome().death->role, DeathRole::kBystander);
  EXPECT_NE(plain.outcome().death->detail.find("together_hold"), std::string::npos);
  EXPECT_OUTCOME(world.wait(repeatable), kOk, kDone);
}

// Goal: a call that blocks the event loop is named in a notice, with the place where it does so.
TEST_P(SharedCalls, ANoticeNamesTheFunctionThatBlocksTheLoop) {
  if (GetParam() == Backend::kFake) GTEST_SKIP() << "its loop is not watched";
  World world(GetParam(), one_worker());
  world.warm();
  const Pending waiting = world.submit(ask("together", "[60000]"));
  EXPECT_TRUE(in_use(world, 1));
  const Pending blocking = world.submit(ask("together_block", "[3000]"));
  constexpr std::string_view kNotice =
      "Function \"together_block\" blocks the event loop of worker";
  EXPECT_TRUE(world.until([&] { return world.logged(kNotice).has_value(); }));
  const std::string notice = world.logged(kNotice).value_or("");
  EXPECT_NE(notice.find(", line "), std::string::npos) << notice;
  EXPECT_NE(notice.find(" in together_block"), std::string::npos) << notice;
  if (GetParam() == Backend::kPython) {
    EXPECT_NE(notice.find("conformance.py"), std::string::npos) << notice;
    EXPECT_EQ(notice.find("asyncio"), std::string::npos) << notice;
  }
  EXPECT_OUTCOME(world.wait(blocking), kOk, kDone);
  EXPECT_EQ(world.stats().loop_blocks, 1u);
  const LoopLag lag = world.driver().info().loop_lag;
  EXPECT_GE(lag.sum, .1);
  world.driver().cancel(waiting.id());
  EXPECT_OUTCOME(world.wait(waiting), kCancelled, kMaybe);
}

// Goal: calls that wait and threads that block are no reason for a notice.
TEST_P(SharedCalls, WhoAwaitsBlocksNothing) {
  if (GetParam() == Backend::kFake) GTEST_SKIP() << "its loop is not watched";
  Settings s = one_worker();
  s.workers.loop_lag_warn = 500ms;
  World world(GetParam(), s);
  world.warm();
  std::vector<Pending> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(world.submit(ask("together", "[1500]")));
  for (int i = 0; i < 4; ++i) calls.push_back(world.submit(ask("threads", "[1500]")));
  for (const Pending& call : calls) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
  EXPECT_FALSE(world.logged("event loop")) << *world.logged("event loop");
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
