// Workers, as an operator meets them: starts, crash loops, recycling, reloads, sizes, drains.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

// Goal: forks start all at once; exec starts no more than the cores can take.
TEST(PoolWorkers, ExecStartsArePacedAndForksAreNot) {
  ModelDriver forks(pool_of(4));
  EXPECT_EQ(forks.count("start "), 4u);
  Settings none = pool_of(0);
  ModelDriver execs(none);
  execs.handle(StartModeChanged{true, 2});
  execs.configure(pool_of(4));
  EXPECT_EQ(execs.count("start "), 2u);
  execs.ready(WorkerId{1, 1});
  EXPECT_EQ(execs.count("start "), 3u);
  execs.fail_start(WorkerId{2, 2});
  EXPECT_EQ(execs.count("start "), 4u) << "a failed start makes room too";
  execs.handle(StartModeChanged{false, 1});
  execs.advance(1s);
  EXPECT_EQ(execs.count("start "), 5u);
}

// Goal: a start that takes too long is killed, named as a failure, and tried again after a pause.
TEST(PoolWorkers, AStartThatHangsIsKilled) {
  Settings settings = pool_of(1);
  settings.workers.start_timeout = 5s;
  ModelDriver driver(settings);
  driver.advance(5s);
  EXPECT_EQ(driver.count("kill w1.1"), 1u);
  driver.exit(WorkerId{1, 1}, false, "start_failed");
  EXPECT_EQ(driver.fate(driver.submit()), "not_ready");
  driver.advance(1s);
  EXPECT_EQ(driver.count("start w1.2"), 1u);
}

// Goal: while a first start may still succeed, calls wait; when none can, they hear why, and so do
// the new ones; the first worker that comes up ends that.
TEST(PoolWorkers, NotReadySaysWhichStepFailed) {
  ModelDriver driver(pool_of(2));
  const CallId waiting = driver.submit();
  driver.fail_start(WorkerId{1, 1});
  EXPECT_EQ(driver.fate(waiting), "waiting") << "the other may come up";
  driver.fail_start(WorkerId{2, 2}, "hello");
  EXPECT_EQ(driver.fate(waiting), "not_ready");
  EXPECT_EQ(driver.outcome(waiting).death->step, "hello");
  EXPECT_EQ(driver.outcome(waiting).death->stderr_tail, "ImportError: no module named nothing");
  EXPECT_EQ(driver.fate(driver.submit()), "not_ready");
  const PoolStats stats = driver.pool.stats(driver.now);
  EXPECT_FALSE(stats.ready);
  ASSERT_EQ(stats.reasons.size(), 3u);
  EXPECT_NE(stats.reasons[1].find("ImportError"), std::string::npos);
  EXPECT_NE(stats.reasons[2].find("the next start is in"), std::string::npos);
  driver.advance(1s);
  driver.warm_up();
  EXPECT_EQ(driver.fate(driver.submit()), "running");
  EXPECT_TRUE(driver.pool.stats(driver.now).ready);
}

// Goal: a replacement that cannot start is no reason to refuse calls while the old worker serves.
TEST(PoolWorkers, AFailedReplacementRefusesNobody) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.handle(RecycleRequested{1});
  driver.fail_start(WorkerId{1, 2});
  const CallId runs = driver.submit(), waits = driver.submit();
  EXPECT_EQ(driver.fate(runs), "running");
  EXPECT_EQ(driver.fate(waits), "waiting");
  EXPECT_TRUE(driver.pool.stats(driver.now).ready);
  driver.advance(1s);
  EXPECT_EQ(driver.count("start w1.3"), 1u) << "it is tried again";
}

// Goal: the first load has failed once every worker's start did, and only if none was ever ready.
TEST(PoolWorkers, AFirstLoadThatFailsIsToldFromALaterOne) {
  ModelDriver driver(pool_of(2));
  EXPECT_EQ(driver.pool.stats(driver.now).load_failure, nullptr) << "they start";
  driver.fail_start(WorkerId{1, 1});
  EXPECT_EQ(driver.pool.stats(driver.now).load_failure, nullptr) << "the other may yet come up";
  driver.fail_start(WorkerId{2, 2});
  const auto failure = driver.pool.stats(driver.now).load_failure;
  ASSERT_NE(failure, nullptr);
  EXPECT_EQ(failure->cause, "start_failed");
  for (int turn = 0; turn < 100 && driver.with(false).empty(); ++turn) driver.advance(100ms);
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  EXPECT_EQ(driver.pool.stats(driver.now).load_failure, nullptr);
  for (int death = 0; death < 20; ++death) {
    for (const WorkerId worker : driver.with(true)) driver.exit(worker);
    for (const WorkerId worker : driver.with(false)) driver.fail_start(worker);
    EXPECT_EQ(driver.pool.stats(driver.now).load_failure, nullptr) << "it has been loaded once";
    driver.advance(30s);
  }
}

// Goal: new code that was proved to load ends the first load, whatever the old starts come to.
TEST(PoolWorkers, AReloadEndsTheFirstLoad) {
  ModelDriver driver(pool_of(1));
  driver.fail_start(WorkerId{1, 1});
  ASSERT_NE(driver.pool.stats(driver.now).load_failure, nullptr);
  driver.handle(ReloadRequested{});
  EXPECT_EQ(driver.pool.stats(driver.now).load_failure, nullptr);
}

// Goal: a pool that serves, and in which some workers cannot start, says why.
TEST(PoolWorkers, AReadyPoolSaysWhyItIsNotWhole) {
  ModelDriver driver(pool_of(2));
  EXPECT_EQ(driver.pool.stats(driver.now).failing, "");
  driver.ready(WorkerId{1, 1});
  EXPECT_EQ(driver.pool.stats(driver.now).failing, "") << "the other one starts";
  driver.fail_start(WorkerId{2, 2}, "hello");
  PoolStats stats = driver.pool.stats(driver.now);
  EXPECT_TRUE(stats.ready);
  EXPECT_NE(stats.failing.find("1 of 2 workers serve; the last start ended with a failed start "
                               "(at hello)"),
            std::string::npos)
      << stats.failing;
  for (int turn = 0; turn < 100 && driver.with(false).empty(); ++turn) driver.advance(100ms);
  driver.ready(WorkerId{2, 3});
  EXPECT_EQ(driver.pool.stats(driver.now).failing, "");
}

// Goal: a crash-looping application costs ever fewer starts, and the pool stays up.
TEST(PoolWorkers, ACrashLoopBacksOff) {
  ModelDriver driver(pool_of(1));
  for (int second = 0; second < 60; ++second) {
    for (const WorkerId worker : driver.with(false)) driver.fail_start(worker);
    driver.advance(1s);
  }
  EXPECT_LT(driver.count("start "), 15u);
  EXPECT_GT(driver.count("start "), 5u);
}

// Goal: workers that die soon after they are ready are an unready pool with a reason, and when it
// will go on.
TEST(PoolWorkers, ACrashLoopAfterTheStartIsSaid) {
  ModelDriver driver(pool_of(1));
  for (int death = 0; death < 20; ++death) {
    for (const WorkerId worker : driver.with(false)) driver.ready(worker);
    for (const WorkerId worker : driver.with(true)) driver.exit(worker);
  }
  const PoolStats stats = driver.pool.stats(driver.now);
  EXPECT_FALSE(stats.ready);
  ASSERT_EQ(stats.reasons.size(), 3u);
  EXPECT_NE(stats.reasons[1].find("the last worker to end by itself"), std::string::npos)
      << stats.reasons[1];
  EXPECT_NE(stats.reasons[2].find("the next start is in"), std::string::npos);
  driver.advance(31s);
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  EXPECT_TRUE(driver.pool.stats(driver.now).ready);
}

// Goal: a worker is recycled after max_calls: its replacement is ready before it leaves.
TEST(PoolWorkers, RecyclingReplacesFirst) {
  Settings settings = pool_of(1);
  settings.workers.max_calls = 2;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit());
  driver.reply(driver.submit());
  EXPECT_EQ(driver.count("start w1.2"), 1u);
  EXPECT_EQ(driver.count("stop"), 0u);
  const CallId meanwhile = driver.submit();
  EXPECT_EQ(driver.worker_of(meanwhile), (WorkerId{1, 1}));
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.count("stop"), 0u) << "it still runs a call";
  driver.reply(meanwhile);
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
  EXPECT_EQ(driver.worker_of(driver.submit()), (WorkerId{1, 2}));
  driver.exit(WorkerId{1, 1}, false, "exit");
  EXPECT_EQ(driver.pool.stats(driver.now).restarts, 0u);
}

// Goal: a recycle that is asked for while the worker starts is done once it is ready.
TEST(PoolWorkers, RecyclesAStartingWorkerOnceItIsReady) {
  ModelDriver driver(pool_of(1));
  driver.handle(RecycleRequested{1});
  EXPECT_EQ(driver.count("start w1.2"), 0u) << "two starts at once help nobody";
  driver.ready(WorkerId{1, 1});
  EXPECT_EQ(driver.count("start w1.2"), 1u);
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
  EXPECT_EQ(driver.worker_of(driver.submit()), (WorkerId{1, 2}));
}

// Goal: the same by age.
TEST(PoolWorkers, RecyclesByAge) {
  Settings settings = pool_of(1);
  settings.workers.max_age = 1h;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.advance(1h);
  EXPECT_EQ(driver.count("start w1.2"), 1u);
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
}

// Goal: a draining worker serves its sessions until drain_timeout; then they end as drained.
TEST(PoolWorkers, DrainingKeepsItsSessionsForDrainTimeout) {
  Settings settings = pool_of(1);
  settings.sessions.snapshot = SnapshotMode::kOff;
  settings.workers.drain_timeout = 10s;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.handle(RecycleRequested{1});
  driver.ready(WorkerId{1, 2});
  const CallId still = driver.submit("f", "ann");
  EXPECT_EQ(driver.worker_of(still), (WorkerId{1, 1}));
  driver.reply(still);
  driver.advance(10s);
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
  const CallId told = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(told), "session_lost");
  EXPECT_EQ(driver.outcome(told).death->detail, "its worker was drained");
}

// Goal: what still runs at drain_timeout is killed and says so; a stopped worker that stays is too.
TEST(PoolWorkers, WhatOutlivesTheDrainIsKilled) {
  Settings settings = pool_of(1);
  settings.workers.drain_timeout = 10s;
  settings.calls.deadline = 10min;
  settings.calls.grace = 2s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId slow = driver.submit();
  driver.handle(RecycleRequested{1});
  driver.ready(WorkerId{1, 2});
  driver.advance(10s);
  EXPECT_EQ(driver.count("kill w1.1"), 1u);
  driver.exit(WorkerId{1, 1}, true, "killed");
  EXPECT_EQ(driver.fate(slow), "worker_died");
  driver.handle(RecycleRequested{1});
  driver.ready(WorkerId{1, 3});
  EXPECT_EQ(driver.count("stop w1.2"), 1u);
  driver.advance(2s);
  EXPECT_EQ(driver.count("kill w1.2"), 1u);
  driver.advance(settings.workers.kill_timeout);
  EXPECT_EQ(driver.count("abandon w1.2"), 1u);
}

// Goal: a reload replaces all older workers at once, and is over when the last of them has left the
// calls that anybody may serve to the new ones.
TEST(PoolWorkers, AReloadReplacesAllAtOnce) {
  ModelDriver driver(pool_of(3));
  driver.warm_up();
  driver.take();
  driver.handle(ReloadRequested{});
  EXPECT_EQ(driver.take(), (Lines{"start w1.4", "start w2.5", "start w3.6"}));
  driver.ready(WorkerId{1, 4});
  EXPECT_EQ(driver.take(), (Lines{"stop w1.1"}));
  driver.exit(WorkerId{2, 2});  // it crashes while its replacement starts
  driver.ready(WorkerId{2, 5});
  EXPECT_EQ(driver.count("reloaded"), 0u) << "w3.3 still takes calls";
  driver.take();
  driver.ready(WorkerId{3, 6});
  EXPECT_EQ(driver.take(), (Lines{"stop w3.3", "reloaded"}));
  driver.exit(WorkerId{3, 3}, false, "exit");
  const std::size_t starts = driver.count("start ");
  driver.advance(1min);
  EXPECT_EQ(driver.count("start "), starts);
  EXPECT_EQ(driver.count("reloaded"), 1u);
}

// Goal: once a reload is over no stateless call and no new session meets old code, while each old
// worker serves the session that it cannot give away.
TEST(PoolWorkers, AfterAReloadOldWorkersServeTheirSessionsOnly) {
  Settings settings = pool_of(2);
  settings.sessions.snapshot = SnapshotMode::kOff;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.handle(ReloadRequested{});
  driver.ready(WorkerId{1, 3});
  driver.ready(WorkerId{2, 4});
  EXPECT_EQ(driver.count("reloaded"), 1u);
  const PoolStats stats = driver.pool.stats(driver.now);
  EXPECT_EQ(stats.leaving.workers, 1u);
  EXPECT_EQ(stats.leaving.sessions, 1u);
  EXPECT_EQ(stats.leaving.until, settings.workers.drain_timeout);
  const CallId hers = driver.submit("f", "ann");
  EXPECT_LE(driver.worker_of(hers).generation, 2u);
  for (int i = 0; i < 4; ++i) {
    const CallId other = driver.submit("f", i % 2 == 0 ? "" : "s" + std::to_string(i));
    if (driver.fate(other) == "running") {
      EXPECT_GE(driver.worker_of(other).generation, 3u);
    }
  }
}

// Goal: a worker that still starts when the reload comes has the old code and never serves.
TEST(PoolWorkers, AReloadEndsWhatStillStarts) {
  ModelDriver driver(pool_of(2));
  driver.announce({"f"});
  driver.ready(WorkerId{1, 1});
  driver.take();
  driver.handle(ReloadRequested{});
  EXPECT_EQ(driver.take(), (Lines{"start w1.3", "kill w2.2"}));
  driver.exit(WorkerId{2, 2}, false);
  driver.ready(WorkerId{1, 3});
  EXPECT_EQ(driver.count("reloaded"), 1u);
  EXPECT_EQ(driver.count("start w2.4"), 1u);
}

// Goal: a reload whose workers do not start says so, and the old ones serve on.
TEST(PoolWorkers, AReloadWhoseWorkersDoNotStartSaysSo) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.take();
  driver.handle(ReloadRequested{});
  driver.fail_start(WorkerId{1, 2});
  EXPECT_EQ(driver.count("not reloaded: worker 1.2 did not start"), 1u);
  EXPECT_EQ(driver.worker_of(driver.submit()), (WorkerId{1, 1}));
  driver.advance(1min);
  driver.ready(WorkerId{1, 3});
  EXPECT_EQ(driver.count("reloaded"), 1u);
}

// Goal: pool.workers resizes a running pool both ways; growing back uses the same slots.
TEST(PoolWorkers, ResizesLive) {
  Settings settings = pool_of(1);
  ModelDriver driver(settings);
  driver.warm_up();
  driver.configure(pool_of(3));
  EXPECT_EQ(driver.count("start "), 3u);
  driver.warm_up();
  driver.configure(pool_of(1));
  EXPECT_EQ(driver.count("stop w2.2"), 1u);
  EXPECT_EQ(driver.count("stop w3.3"), 1u);
  driver.exit(WorkerId{2, 2}, false, "exit");
  driver.exit(WorkerId{3, 3}, false, "exit");
  EXPECT_EQ(driver.count("start "), 3u) << "not refilled";
  driver.configure(pool_of(2));
  EXPECT_EQ(driver.count("start w2.4"), 1u);
}

// Goal: events of generations that are gone change nothing.
TEST(PoolWorkers, LateEventsAreIgnored) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId call = driver.submit();
  driver.exit(WorkerId{1, 1});
  driver.warm_up();
  const CallId next = driver.submit();
  driver.take();
  driver.handle(WorkerReplied{WorkerId{1, 1}, call});
  driver.handle(WorkerReplied{WorkerId{1, 1}, next});
  driver.handle(WorkerReplied{WorkerId{1, 2}, call});
  driver.handle(WorkerReady{WorkerId{1, 1}});
  driver.handle(WorkerReady{WorkerId{1, 2}});
  driver.handle(WorkerExited{WorkerId{1, 1}, {}, {{next}}});
  EXPECT_TRUE(driver.take().empty());
  EXPECT_EQ(driver.fate(next), "running");
}

// Goal: an exit may come after its time. What is due goes to the dead worker before the pool hears
// of it, and that costs nothing: a call that goes there begins elsewhere.
TEST(PoolWorkers, WhatIsDueComesBeforeAnExit) {
  Settings settings = pool_of(1);
  settings.workers.health_every = 2s;
  ModelDriver driver(settings);
  driver.health = true;
  driver.announce({FunctionSpec{.name = "f", .idempotent = true, .concurrency = 2}});
  driver.ready(WorkerId{1, 1});
  const CallId call = driver.submit();
  driver.exit(WorkerId{1, 1});
  driver.ready(WorkerId{1, 2});
  EXPECT_EQ(driver.fate(call), "waiting") << "for its retry";
  driver.take();
  driver.now += 2s;  // no Tick
  driver.exit(WorkerId{1, 2});
  const Lines lines = driver.take();
  ASSERT_GE(lines.size(), 2U);
  EXPECT_EQ(lines[0], "dispatch r1 w1.2 attempt=2");
  EXPECT_EQ(lines[1], "check w1.2");
  EXPECT_EQ(driver.fate(call), "waiting");
  driver.ready(WorkerId{1, 3});
  EXPECT_EQ(driver.take().back(), "dispatch r1 w1.3 attempt=3");
  driver.reply(call);
  EXPECT_EQ(driver.fate(call), "ok");
}

// Goal: a drain starts nobody for replacement's sake, only for calls that would else be stranded.
TEST(PoolWorkers, ADrainStartsOnlyWhatItsCallsNeed) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId runs = driver.submit(), waits = driver.submit();
  driver.handle(DrainRequested{1h});
  driver.handle(RecycleRequested{1});
  EXPECT_EQ(driver.count("start "), 1u);
  driver.exit(driver.worker_of(runs));
  EXPECT_EQ(driver.count("start "), 2u);
  driver.ready(WorkerId{1, 2});
  driver.reply(waits);
  EXPECT_EQ(driver.fate(waits), "ok");
  driver.exit(WorkerId{1, 2}, false, "exit");
  EXPECT_TRUE(driver.drained);
  EXPECT_EQ(driver.count("start "), 2u);
}

// Goal: a drain that reaches its limit turns away what waits and kills what runs; every call ends.
TEST(PoolWorkers, ADrainHasALimit) {
  Settings settings = pool_of(1);
  settings.calls.deadline = 1h;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId runs = driver.submit(), waits = driver.submit();
  driver.handle(DrainRequested{5s});
  driver.handle(DrainRequested{1h});  // a later limit does not soften it
  driver.advance(5s);
  EXPECT_EQ(driver.fate(waits), "shutting_down");
  EXPECT_EQ(driver.count("kill w1.1"), 1u);
  driver.exit(WorkerId{1, 1}, true, "killed");
  EXPECT_EQ(driver.fate(runs), "worker_died");
  EXPECT_TRUE(driver.drained);
  driver.advance(1h);
  EXPECT_EQ(driver.count("drained"), 1u);
  EXPECT_EQ(driver.count("start "), 1u);
}

// Goal: a second drain with no limit is the second SIGTERM: it ends everything now.
TEST(PoolWorkers, ASecondDrainCanOnlyHurry) {
  ModelDriver driver(pool_of(2));
  driver.ready(WorkerId{1, 1});
  driver.announce({"f"});
  const CallId runs = driver.submit();
  driver.handle(DrainRequested{1h});
  driver.handle(DrainRequested{0s});
  EXPECT_EQ(driver.count("kill "), 2u) << "the starting one too";
  driver.exit(WorkerId{1, 1}, true, "killed");
  driver.exit(WorkerId{2, 2}, false, "killed");
  EXPECT_TRUE(driver.resolved(runs));
  EXPECT_TRUE(driver.drained);
}

}  // namespace
}  // namespace keelback::core
