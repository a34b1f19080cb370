// A pool that grows and shrinks: when workers come, who leaves, what becomes of their sessions.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

Settings from_to(std::uint32_t workers, std::uint32_t workers_max) {
  Settings settings = pool_of(workers);
  settings.pool.workers_max = workers_max;
  settings.pool.scale_down_after = 10s;
  settings.workers.drain_timeout = 5s;
  return settings;
}

// Makes every starting worker ready.
void start_all(ModelDriver& driver) {
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
}

// Every worker that was told to leave has left.
void end_stopping(ModelDriver& driver) {
  for (const WorkerId worker : driver.living()) {
    if (driver.workers.at(worker).stopping) driver.exit(worker, false, "exit");
  }
}

PoolStats stats(const ModelDriver& driver) { return driver.pool.stats(driver.now); }

// Goal: the size follows: up when calls have waited, by all of them; down one a second.
TEST(PoolScaling, GrowsForCallsThatWaitAndShrinksWhenTheyAreOver) {
  ModelDriver driver(from_to(1, 4));
  EXPECT_EQ(driver.count("start "), 1U);
  driver.warm_up();
  std::vector<CallId> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(driver.submit());
  driver.advance(19ms);
  EXPECT_EQ(driver.count("start "), 1U);
  driver.advance(1ms);
  EXPECT_EQ(driver.count("start "), 4U);
  EXPECT_EQ(stats(driver).scaling.wanted, 4U);
  start_all(driver);
  for (const CallId call : calls) EXPECT_EQ(driver.fate(call), "running");
  driver.advance(20s);
  EXPECT_EQ(driver.count("stop "), 0U) << "all are needed";
  for (const CallId call : calls) driver.reply(call);
  driver.advance(10s);
  EXPECT_EQ(driver.take().back(), "stop w4.4");
  end_stopping(driver);
  driver.advance(1s - 1ns);
  EXPECT_EQ(driver.take(), Lines{});
  driver.advance(1ns);
  EXPECT_EQ(driver.take(), Lines{"stop w3.3"});
  end_stopping(driver);
  driver.advance(1s);
  EXPECT_EQ(driver.take(), Lines{"stop w2.2"});
  end_stopping(driver);
  driver.advance(1min);
  EXPECT_EQ(driver.take(), Lines{});
  EXPECT_EQ(stats(driver).scaling.wanted, 1U);
  EXPECT_EQ(driver.pool.next_deadline(), std::nullopt) << "nothing is left to do";
  EXPECT_EQ(stats(driver).restarts, 0U) << "nobody died";
}

// Goal: stateless calls use the lowest slots, so that the highest are free to go.
TEST(PoolScaling, StatelessCallsGoToTheLowestSlots) {
  Settings settings = from_to(1, 4);
  settings.pool.workers = 3;
  ModelDriver driver(settings);
  driver.announce({FunctionSpec{.name = "f"}, FunctionSpec{.name = "many", .concurrency = 2}});
  start_all(driver);
  for (int i = 0; i < 3; ++i) {
    const CallId call = driver.submit();
    EXPECT_EQ(driver.worker_of(call).slot, 1U);
    driver.reply(call);
  }
  std::vector<std::uint32_t> slots;
  for (int i = 0; i < 5; ++i) slots.push_back(driver.worker_of(driver.submit("many")).slot);
  EXPECT_EQ(slots, (std::vector<std::uint32_t>{1, 1, 2, 2, 3}));
}

// Goal: an empty pool is ready when the application is loaded; the first call starts a worker at
// once, without waiting for any delay.
TEST(PoolScaling, AnEmptyPoolStartsAWorkerForItsFirstCall) {
  ModelDriver driver(from_to(0, 4));
  EXPECT_EQ(driver.count("start "), 0U);
  EXPECT_EQ(driver.pool.next_deadline(), std::nullopt);
  EXPECT_EQ(stats(driver).reasons, Lines{"the application is being loaded"});
  driver.announce({"f"});
  EXPECT_TRUE(stats(driver).ready);
  EXPECT_EQ(stats(driver).scaling.wanted, 0U);
  const CallId first = driver.submit();
  EXPECT_EQ(driver.take(), Lines{"start w1.1"});
  EXPECT_EQ(driver.fate(first), "waiting");
  driver.ready(WorkerId{1, 1});
  EXPECT_EQ(driver.fate(first), "running");
  driver.reply(first);
  driver.advance(9s);
  const CallId second = driver.submit();
  EXPECT_EQ(driver.fate(second), "running");
  driver.reply(second);
  driver.advance(9s);
  EXPECT_EQ(driver.count("stop "), 0U) << "it was needed since";
  driver.advance(2s);
  EXPECT_EQ(driver.count("stop w1.1"), 1U);
  const CallId third = driver.submit();
  EXPECT_EQ(driver.count("start w1.2"), 1U) << "while the other is on its way out";
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.fate(third), "running");
}

// Goal: a session costs no worker: its state is saved, and its next call finds it.
TEST(PoolScaling, SessionsOutliveTheLastWorker) {
  ModelDriver driver(from_to(0, 2));
  driver.announce({"f"});
  const CallId first = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(first);
  driver.advance(11s);
  EXPECT_EQ(driver.count("save ann w1.1"), 1U);
  EXPECT_EQ(driver.count("stop w1.1"), 1U);
  end_stopping(driver);
  EXPECT_EQ(stats(driver).sessions.active, 1U);
  const CallId next = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.count("dispatch r2 w1.2 session=ann@2 restores="), 1U);
  driver.reply(next);
  EXPECT_EQ(stats(driver).sessions.lost, 0U);
}

// Goal: a worker whose sessions cannot be saved stays and serves everybody; it goes when they end.
TEST(PoolScaling, AWorkerWhoseSessionsCannotBeSavedStays) {
  ModelDriver driver(from_to(0, 2));
  driver.announce({"f"});
  driver.store.answers_at_once = false;
  const CallId first = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(first);
  driver.advance(11s);
  ASSERT_EQ(driver.count("save ann"), 1U);
  driver.settle(false);  // its state is of a type that would not come back equal
  EXPECT_EQ(driver.count("stop "), 0U);
  EXPECT_NE(stats(driver).scaling.why.find("whose sessions cannot be saved, and stay: 1"),
            std::string::npos)
      << stats(driver).scaling.why;
  EXPECT_EQ(stats(driver).workers.ready, 1U);
  const CallId other = driver.submit();
  EXPECT_EQ(driver.fate(other), "running") << "it serves on";
  driver.reply(other);
  driver.advance(1min);
  EXPECT_EQ(driver.count("save ann"), 1U) << "asked once";
  EXPECT_EQ(driver.count("stop "), 0U);
  EXPECT_EQ(stats(driver).sessions.lost, 0U);
  driver.handle(SessionEnded{"ann"});
  driver.advance(2s);
  EXPECT_EQ(driver.count("stop w1.1"), 1U);
}

TEST(PoolScaling, WithoutSnapshotsAWorkerWithSessionsStays) {
  Settings settings = from_to(0, 2);
  settings.sessions.snapshot = SnapshotMode::kOff;
  ModelDriver driver(settings);
  driver.announce({"f"});
  const CallId first = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(first);
  driver.advance(1min);
  EXPECT_EQ(driver.count("stop "), 0U);
  EXPECT_EQ(stats(driver).sessions.lost, 0U);
}

// Goal: a worker that leaves is not in a hurry: what it runs may take longer than
// workers.drain_timeout. When the load is back meanwhile, it stays, and nobody starts for it.
TEST(PoolScaling, AWorkerThatLeavesStaysWhenTheLoadComesBack) {
  ModelDriver driver(from_to(0, 2));
  driver.announce({"f"});
  driver.store.answers_at_once = false;
  const CallId ann = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(ann);
  driver.advance(11s);
  ASSERT_EQ(driver.count("save ann"), 1U);
  EXPECT_EQ(stats(driver).workers.draining, 1U);
  driver.advance(1min);
  EXPECT_EQ(driver.count("kill "), 0U);
  const CallId back = driver.submit();
  EXPECT_EQ(driver.fate(back), "waiting") << "until the state is stored";
  driver.settle();  // the worker answers
  driver.settle();  // the store answers
  EXPECT_EQ(driver.fate(back), "running");
  EXPECT_EQ(driver.worker_of(back), (WorkerId{1, 1}));
  EXPECT_EQ(driver.count("start "), 1U);
  driver.reply(back);
  const CallId again = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(again), "running");
  driver.reply(again);
  EXPECT_EQ(stats(driver).sessions.lost, 0U);
}

// Goal: what runs on a worker that leaves is finished there, however long it takes.
TEST(PoolScaling, CallsOfAWorkerThatLeavesAreFinished) {
  Settings settings = from_to(1, 2);
  settings.calls.deadline = 10min;
  ModelDriver driver(settings);
  driver.announce({FunctionSpec{.name = "many", .concurrency = 2}});
  start_all(driver);
  std::vector<CallId> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(driver.submit("many"));
  driver.advance(20ms);
  start_all(driver);
  ASSERT_EQ(driver.worker_of(calls[2]).slot, 2U);
  driver.reply(calls[0]);  // two calls are left, for which one worker suffices
  driver.advance(1min);
  EXPECT_EQ(stats(driver).workers.draining, 1U);
  EXPECT_EQ(driver.count("stop ") + driver.count("kill "), 0U);
  EXPECT_EQ(driver.worker_of(driver.submit("many")).slot, 1U);
  driver.reply(calls[2]);
  EXPECT_EQ(driver.fate(calls[2]), "ok");
  EXPECT_EQ(driver.count("stop w2.2"), 1U);
}

// Goal: a batch fills one worker, however many calls it has; and calls that wait to go together ask
// for one.
TEST(PoolScaling, ABatchFillsOneWorker) {
  Settings settings = from_to(1, 4);
  settings.calls.deadline = 10min;
  ModelDriver driver(settings);
  driver.announce({FunctionSpec{.name = "f"}, FunctionSpec{.name = "together", .batch = 8}});
  start_all(driver);
  std::vector<CallId> alone, batch;
  for (int i = 0; i < 3; ++i) alone.push_back(driver.submit());
  driver.advance(20ms);
  start_all(driver);
  ASSERT_EQ(stats(driver).workers.busy, 3U);
  for (int i = 0; i < 4; ++i) batch.push_back(driver.submit("together"));
  driver.advance(20ms);
  EXPECT_EQ(stats(driver).scaling.wanted, 4U) << "one more for the four of them";
  for (const CallId call : alone) driver.reply(call);
  for (const CallId call : batch) EXPECT_EQ(driver.fate(call), "running");
  EXPECT_EQ(stats(driver).workers.busy, 1U);
  driver.advance(15s);
  EXPECT_EQ(stats(driver).scaling.wanted, 1U);
  for (const CallId call : batch) driver.reply(call);
}

// Goal: an idle worker goes before one that runs something, and an empty slot before both.
TEST(PoolScaling, WhoIsLeastInUseGoesFirst) {
  ModelDriver driver(from_to(1, 4));
  driver.warm_up();
  std::vector<CallId> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(driver.submit());
  driver.advance(20ms);
  start_all(driver);
  driver.reply(calls[1]);
  driver.reply(calls[2]);  // the fourth one runs in the highest slot
  ASSERT_EQ(driver.worker_of(calls[3]).slot, 4U);
  driver.advance(10s);
  EXPECT_EQ(driver.count("stop w3.3"), 1U);
  driver.exit(WorkerId{2, 2}, false);
  driver.fail_start(WorkerId{2, 5});
  driver.reply(calls[0]);
  driver.advance(1s);
  EXPECT_EQ(stats(driver).scaling.wanted, 2U);
  EXPECT_EQ(driver.count("stop "), 1U) << "the slot that pauses is given up";
}

// Goal: after a reload a worker with old code never serves stateless calls again, not even one that
// could have stayed.
TEST(PoolScaling, AReloadEndsWhoeverMightHaveStayed) {
  ModelDriver driver(from_to(0, 2));
  driver.announce({"f"});
  driver.store.answers_at_once = false;
  const CallId ann = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(ann);
  driver.advance(11s);
  driver.handle(ReloadRequested{});
  EXPECT_EQ(driver.count("reloaded"), 1U);
  const CallId fresh = driver.submit();
  EXPECT_EQ(driver.count("start w1.2"), 1U);
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.worker_of(fresh), (WorkerId{1, 2}));
  driver.settle();
  driver.settle();
  EXPECT_EQ(driver.count("stop w1.1"), 1U);
}

// Goal: a pool that keeps no worker says that it cannot serve, and why; it tries by itself, at the
// pace of a crash loop, and recovers.
TEST(PoolScaling, AnEmptyPoolWhoseApplicationFailsTriesOneWorker) {
  ModelDriver driver(from_to(0, 4));
  Death death;
  death.cause = "start_failed";
  death.step = "hello";
  death.stderr_tail = "ImportError: no module named nothing";
  driver.handle(LoadFailed{death});
  EXPECT_FALSE(stats(driver).ready);
  ASSERT_TRUE(stats(driver).load_failure);
  EXPECT_EQ(stats(driver).load_failure->stderr_tail, death.stderr_tail);
  EXPECT_EQ(driver.fate(driver.submit()), "not_ready");
  EXPECT_EQ(driver.count("start "), 0U);
  driver.advance(100ms);
  EXPECT_EQ(driver.count("start "), 1U);
  driver.fail_start(WorkerId{1, 1}, "hello");
  driver.advance(1s);
  EXPECT_EQ(driver.count("start "), 2U);
  driver.fail_start(WorkerId{1, 2}, "hello");
  driver.advance(30s);
  EXPECT_EQ(driver.count("start "), 3U);
  driver.announce({"f"});
  driver.ready(WorkerId{1, 3});
  EXPECT_TRUE(stats(driver).ready);
  const CallId call = driver.submit();
  EXPECT_EQ(driver.fate(call), "running");
  driver.reply(call);
  driver.advance(11s);
  EXPECT_EQ(driver.count("stop w1.3"), 1U) << "nobody needs it any more";
  end_stopping(driver);
  EXPECT_TRUE(stats(driver).ready);
}

// Goal: the calls of a burst on an empty pool whose workers cannot start hear why.
TEST(PoolScaling, ABurstOnAPoolThatCannotStartIsToldWhy) {
  ModelDriver driver(from_to(0, 4));
  driver.announce({"f"});
  std::vector<CallId> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(driver.submit());
  driver.advance(20ms);
  EXPECT_EQ(driver.count("start "), 4U);
  for (const WorkerId worker : driver.with(false)) driver.fail_start(worker);
  for (const CallId call : calls) EXPECT_EQ(driver.fate(call), "not_ready");
  const PoolStats now = stats(driver);
  EXPECT_FALSE(now.ready);
  ASSERT_FALSE(now.reasons.empty());
  EXPECT_EQ(now.reasons[0], "no worker can be started");
}

// Goal: calls that wait for the only start that has not failed hear why when the pool gives it up,
// and those of a batch leave nothing behind.
TEST(PoolScaling, WhoWaitsForAStartThatIsGivenUpIsToldWhy) {
  Settings settings = from_to(0, 2);
  settings.pool.scale_down_after = 0s;
  ModelDriver driver(settings);
  driver.announce({FunctionSpec{.name = "f"}, FunctionSpec{.name = "together", .batch = 4}});
  const CallId call = driver.submit("together"), other = driver.submit("f");
  driver.advance(20ms);
  ASSERT_EQ(driver.count("start "), 2U);
  driver.fail_start(WorkerId{1, 1});
  EXPECT_EQ(driver.fate(call), "waiting") << "one may yet come up";
  driver.advance(2ms);
  driver.handle(CallCancelled{other});
  EXPECT_EQ(driver.fate(call), "not_ready");
  EXPECT_EQ(driver.count("kill w2.2"), 1U) << "one worker suffices";
}

// Goal: nobody but a worker can tell whether an application loads that is started by exec.
TEST(PoolScaling, APoolThatStartsByExecKeepsOneWorker) {
  ModelDriver driver(from_to(0, 4));
  driver.handle(StartModeChanged{true, 2});
  EXPECT_EQ(driver.count("start "), 1U);
  EXPECT_FALSE(stats(driver).ready);
  driver.warm_up();
  EXPECT_TRUE(stats(driver).ready);
  driver.advance(1h);
  EXPECT_EQ(driver.count("stop "), 0U);
  EXPECT_NE(stats(driver).scaling.why.find("started by exec, so one stays"), std::string::npos);
}

TEST(PoolScaling, TheLimitsAreLive) {
  ModelDriver driver(pool_of(4));
  driver.warm_up();
  EXPECT_EQ(stats(driver).scaling.wanted, 4U);
  EXPECT_EQ(stats(driver).scaling.why, "the size is fixed: pool.workers_max is 0");
  EXPECT_EQ(driver.pool.next_deadline(), std::nullopt);
  driver.configure(from_to(1, 8));
  EXPECT_EQ(stats(driver).scaling.wanted, 4U) << "they leave as others do";
  driver.advance(11s);
  EXPECT_EQ(driver.count("stop w4.4"), 1U);
  driver.advance(30s);
  EXPECT_EQ(driver.count("stop "), 3U);
  end_stopping(driver);
  driver.configure(from_to(3, 8));
  EXPECT_EQ(driver.count("start w2.5"), 1U);
  EXPECT_EQ(driver.count("start w3.6"), 1U);
  start_all(driver);
  driver.configure(from_to(1, 2));
  EXPECT_EQ(driver.count("stop w3.6"), 1U) << "beyond the most: at once";
  driver.configure(pool_of(1));
  EXPECT_EQ(driver.count("stop w2.5"), 1U);
  end_stopping(driver);
  EXPECT_EQ(driver.pool.next_deadline(), std::nullopt);
}

// Goal: a pool that shuts down waits for nobody who might have stayed.
TEST(PoolScaling, ADrainEndsAWorkerThatLeaves) {
  ModelDriver driver(from_to(0, 2));
  driver.announce({"f"});
  driver.store.answers_at_once = false;
  const CallId ann = driver.submit("f", "ann");
  driver.ready(WorkerId{1, 1});
  driver.reply(ann);
  driver.advance(11s);
  ASSERT_EQ(driver.count("save ann"), 1U);
  driver.handle(DrainRequested{1h});
  driver.settle(false);
  EXPECT_EQ(driver.count("stop w1.1"), 1U);
  end_stopping(driver);
  EXPECT_TRUE(driver.drained);
}

}  // namespace
}  // namespace keelback::core
