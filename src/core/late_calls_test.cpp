// Calls that run past their deadline: when their callers hear, what waits for their real end, and
// what becomes of a worker whose function was interrupted.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

Settings graceful(std::uint32_t workers) {
  Settings settings = pool_of(workers);
  settings.calls.grace = 2s;
  return settings;
}

// A call with a deadline of one second.
CallSubmitted brief(ModelDriver& driver, std::string_view function = "f",
                    std::string_view session = {}) {
  CallSubmitted call = driver.request(function, session);
  call.deadline = 1s;
  return call;
}

PoolStats stats_of(const ModelDriver& driver) { return driver.pool.stats(driver.now); }

// Goal: the caller hears at the deadline, `maybe`; the worker's next call and the counts of the
// running calls wait for the real end; the worker is not punished for a call that ends by itself
// one second later.
TEST(LateCalls, TheCallerHearsAtTheDeadlineAndTheWorkerServesOn) {
  ModelDriver driver(graceful(1));
  driver.warm_up();
  const CallId late = driver.submit(brief(driver));
  driver.advance(1s - 1ns);
  EXPECT_EQ(driver.fate(late), "running");
  driver.advance(1ns);
  EXPECT_EQ(driver.fate(late), "timeout");
  EXPECT_EQ(driver.outcome(late).effect, Effect::kMaybe);
  EXPECT_EQ(stats_of(driver).outcomes[static_cast<int>(OutcomeKind::kTimeout)], 1u);
  EXPECT_EQ(stats_of(driver).in_flight, 0u);
  EXPECT_EQ(stats_of(driver).late, 1u);
  const CallId next = driver.submit();
  driver.advance(1s);
  EXPECT_EQ(driver.fate(next), "waiting") << "the worker still runs the late call";
  EXPECT_EQ(driver.count("interrupt"), 0u) << "it has not had the time to end by itself";
  driver.reply(late);
  EXPECT_EQ(stats_of(driver).late, 0u);
  EXPECT_EQ(driver.fate(next), "running");
  EXPECT_EQ(driver.workers.size(), 1u);
  EXPECT_EQ(driver.count("start"), 1u);
  EXPECT_EQ(stats_of(driver).outcomes[static_cast<int>(OutcomeKind::kOk)], 0u)
      << "a call is counted once";
}

// Goal: calls.answer_at = end is as before: the caller hears when the call has ended.
TEST(LateCalls, AnswerAtEndWaitsForTheRealEnd) {
  Settings settings = graceful(1);
  settings.calls.answer_at = AnswerAt::kEnd;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit(brief(driver));
  driver.advance(1500ms);
  EXPECT_EQ(driver.fate(late), "running");
  driver.reply(late);
  EXPECT_EQ(driver.fate(late), "timeout");
  EXPECT_EQ(driver.outcome(late).effect, Effect::kDone);
}

// Goal: what its worker never began has no effect, whatever the worker answers: cancelled by its
// caller, past its deadline, or refused with an error of the runtime's own.
TEST(LateCalls, WhatDidNotStartHasNoEffect) {
  Settings settings = graceful(1);
  settings.calls.answer_at = AnswerAt::kEnd;
  ModelDriver driver(settings);
  driver.warm_up();
  for (const ReplyKind kind : {ReplyKind::kCancelled, ReplyKind::kError}) {
    for (const bool late : {false, true}) {
      const CallId refused = driver.submit(brief(driver));
      if (late) driver.advance(1s);
      driver.refuse(refused, kind);
      EXPECT_EQ(driver.outcome(refused).effect, Effect::kNone) << driver.fate(refused);
      const CallId begun = driver.submit(brief(driver));
      if (late) driver.advance(1s);
      driver.reply(begun, kind);
      EXPECT_NE(driver.outcome(begun).effect, Effect::kNone) << driver.fate(begun);
    }
  }
}

// Goal: the driver may say `none` at the deadline of a call that never starts, but not if an
// earlier attempt may have.
TEST(LateCalls, AtTheDeadlineTheDriverMayKnowThatNothingRan) {
  ModelDriver driver(graceful(1));
  driver.warm_up();
  CallSubmitted request = brief(driver);
  request.idempotent = true;
  const CallId call = driver.submit(request);
  driver.exit(driver.worker_of(call));
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  driver.advance(1s);
  ASSERT_EQ(driver.fate(call), "timeout");
  EXPECT_EQ(driver.outcome(call).attempts, 2u);
  EXPECT_EQ(driver.if_never_started, "");
  for (const WorkerId worker : driver.living()) driver.exit(worker);
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  const CallId other = driver.submit(brief(driver));
  driver.advance(1s);
  ASSERT_EQ(driver.fate(other), "timeout");
  EXPECT_NE(driver.if_never_started.find("before the call had begun"), std::string::npos);
}

// Goal: a key stays in flight until the real end. Who asked meanwhile and who asks afterwards both
// get the real answer.
TEST(LateCalls, WhoAsksAgainWithTheKeyGetsTheRealAnswer) {
  ModelDriver driver(graceful(2));
  driver.warm_up();
  CallSubmitted request = brief(driver);
  request.idempotency_key = "k";
  request.fingerprint = 5;
  const CallId first = driver.submit(request);
  driver.advance(1s);
  ASSERT_EQ(driver.fate(first), "timeout");
  request.deadline = 30s;
  const CallId meanwhile = driver.submit(request);
  EXPECT_EQ(driver.fate(meanwhile), "waiting");
  EXPECT_EQ(driver.count("dispatch"), 1u) << "it is not run a second time";
  driver.reply(first);
  EXPECT_EQ(driver.fate(meanwhile), "ok");
  EXPECT_EQ(driver.fate(driver.submit(request)), "ok");
  EXPECT_EQ(driver.fate(first), "timeout") << "who has heard hears no more";
  EXPECT_EQ(driver.count("dispatch"), 1u);
}

// Goal: a key whose late call is stopped has the answer that it timed out and may have run.
TEST(LateCalls, AKeyOfAStoppedCallIsATimeout) {
  ModelDriver driver(graceful(1));
  driver.warm_up();
  CallSubmitted request = brief(driver);
  request.idempotency_key = "k";
  const CallId first = driver.submit(request);
  driver.advance(2500ms);
  driver.reply(first, ReplyKind::kCancelled);
  const CallId again = driver.submit(request);
  EXPECT_EQ(driver.fate(again), "timeout");
  EXPECT_EQ(driver.outcome(again).effect, Effect::kMaybe);
}

// Goal: the session's next call and a bulkhead wait for the real end.
TEST(LateCalls, TheLaneAndTheBulkheadWaitForTheRealEnd) {
  ModelDriver driver(graceful(2));
  FunctionSpec f, one;
  f.name = "f";
  one.name = "one";
  one.max_workers = 1;
  driver.announce({f, one});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  const CallId late = driver.submit(brief(driver, "one", "ann"));
  driver.advance(1s);
  ASSERT_EQ(driver.fate(late), "timeout");
  const CallId in_session = driver.submit("f", "ann");
  const CallId behind = driver.submit("one");
  EXPECT_EQ(driver.fate(in_session), "waiting");
  EXPECT_EQ(driver.fate(behind), "waiting") << "a worker is free, its function's permit is not";
  driver.reply(late);
  EXPECT_EQ(driver.fate(in_session), "running");
  EXPECT_EQ(driver.fate(behind), "running");
}

// Goal: a drain waits for late calls, because their workers do.
TEST(LateCalls, ADrainCountsThem) {
  ModelDriver driver(graceful(1));
  driver.warm_up();
  const CallId late = driver.submit(brief(driver));
  driver.advance(1s);
  driver.handle(DrainRequested{30s});
  EXPECT_EQ(driver.count("stop"), 0u);
  driver.reply(late);
  EXPECT_EQ(driver.count("stop"), 1u);
}

// Goal: a late state is committed: the next worker of the session has it.
TEST(LateCalls, ALateStateIsCommitted) {
  Settings settings = graceful(2);
  settings.sessions.snapshot = SnapshotMode::kEachCall;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit(brief(driver, "f", "ann"));
  const WorkerId home = driver.worker_of(late);
  driver.advance(1500ms);
  ASSERT_EQ(driver.fate(late), "timeout");
  driver.reply(late);
  driver.exit(home);
  const CallId next = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(next), "running");
  EXPECT_TRUE(driver.calls.at(next.value).restores);
  EXPECT_EQ(stats_of(driver).sessions.lost, 0u);
}

// Goal: a store that is slower than the deadline: the caller hears then, `maybe`, and a key's next
// caller gets the answer once the state is stored.
TEST(LateCalls, ASlowStoreIsToldAtTheDeadlineToo) {
  Settings settings = graceful(2);
  settings.sessions.snapshot = SnapshotMode::kEachCall;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.store.answers_at_once = false;
  CallSubmitted request = brief(driver, "f", "ann");
  request.idempotency_key = "k";
  const CallId call = driver.submit(request);
  driver.reply(call);
  EXPECT_EQ(driver.fate(call), "waiting");
  driver.advance(1s);
  EXPECT_EQ(driver.fate(call), "timeout");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kMaybe);
  driver.settle();
  EXPECT_EQ(driver.fate(driver.submit(request)), "ok");
}

// Goal: a killed process has workers.kill_timeout to die, whatever the grace is; a grace of zero
// gives no worker up that dies a moment later.
TEST(LateCalls, AKilledWorkerHasItsOwnTimeToDie) {
  Settings settings = graceful(1);
  settings.calls.grace = 0s;
  settings.workers.kill_timeout = 10s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit(brief(driver));
  const WorkerId worker = driver.worker_of(late);
  driver.advance(1s);
  EXPECT_EQ(driver.count("kill"), 1u);
  EXPECT_EQ(driver.fate(late), "timeout");
  driver.advance(9s);
  EXPECT_EQ(driver.count("abandon"), 0u);
  driver.exit(worker, true, "killed");
  EXPECT_EQ(stats_of(driver).abandoned, 0u);
}

// ---- after an interrupt

struct Interrupted {
  explicit Interrupted(Settings settings, bool exec = false) : driver(std::move(settings)) {
    if (exec) driver.handle(StartModeChanged{true, 4});
    driver.warm_up();
  }
  // A call that was interrupted in its worker, 1.5 s after its deadline.
  WorkerId interrupt(std::string_view session = {}, bool savable = true) {
    const CallId call = driver.submit(brief(driver, "f", session));
    const WorkerId worker = driver.worker_of(call);
    driver.advance(2500ms);
    driver.reply(call, ReplyKind::kCancelled, /*clean=*/true, savable, /*interrupted=*/true);
    return worker;
  }
  ModelDriver driver;
};

// Goal: a worker that was interrupted serves nobody any more: its replacement starts at once and
// the worker leaves.
TEST(AfterInterrupt, TheWorkerIsReplacedAtOnce) {
  Interrupted pool(graceful(1));
  const WorkerId old = pool.interrupt();
  EXPECT_EQ(pool.driver.count("stop " + to_text(old)), 1u);
  ASSERT_EQ(pool.driver.with(false).size(), 1u) << "its replacement";
  const CallId next = pool.driver.submit();
  EXPECT_EQ(pool.driver.fate(next), "waiting");
  const WorkerId fresh = pool.driver.with(false).front();
  pool.driver.ready(fresh);
  EXPECT_EQ(pool.driver.worker_of(next), fresh);
  pool.driver.exit(old, false, "exit");
  EXPECT_EQ(stats_of(pool.driver).restarts, 0u) << "nothing has died";
}

// Goal: a call that ends by itself after its cancel keeps its worker.
TEST(AfterInterrupt, ACancelAloneCostsNoWorker) {
  ModelDriver driver(graceful(1));
  driver.warm_up();
  const CallId call = driver.submit(brief(driver));
  driver.advance(1500ms);
  driver.reply(call, ReplyKind::kCancelled);
  EXPECT_EQ(driver.fate(driver.submit()), "running");
  EXPECT_EQ(driver.count("start"), 1u);
}

// Goal: calls.after_interrupt = keep, and a function that is interruptible, keep the worker.
TEST(AfterInterrupt, KeepAndInterruptibleKeepTheWorker) {
  Settings settings = graceful(1);
  settings.calls.after_interrupt = AfterInterrupt::kKeep;
  Interrupted kept(settings);
  kept.interrupt();
  EXPECT_EQ(kept.driver.fate(kept.driver.submit()), "running");

  ModelDriver driver(graceful(1));
  FunctionSpec whole;
  whole.name = "whole";
  whole.interruptible = true;
  driver.announce({whole});
  driver.ready(driver.with(false).front());
  const CallId call = driver.submit(brief(driver, "whole"));
  driver.advance(2500ms);
  driver.reply(call, ReplyKind::kCancelled, true, true, /*interrupted=*/true);
  EXPECT_EQ(driver.fate(driver.submit("whole")), "running");
  EXPECT_EQ(driver.count("start"), 1u);
}

// Goal: with replace_cancelled a coroutine that ended because it was cancelled costs its worker
// too: at its deadline, and when its caller has left.
TEST(AfterInterrupt, ReplaceCancelledReplacesAfterACancelToo) {
  Settings settings = graceful(1);
  settings.calls.after_interrupt = AfterInterrupt::kReplaceCancelled;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit(brief(driver));
  driver.advance(1500ms);
  driver.reply(late, ReplyKind::kCancelled);
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
  driver.ready(driver.with(false).front());
  const CallId left = driver.submit();
  driver.handle(CallCancelled{left});
  driver.reply(left, ReplyKind::kCancelled);
  EXPECT_EQ(driver.count("stop w1.2"), 1u);
  driver.ready(driver.with(false).front());
  driver.reply(driver.submit());
  EXPECT_EQ(driver.count("stop w1.3"), 0u) << "a call that ends by itself keeps its worker";
}

// Goal: the sessions of an interrupted worker, its interrupted call's too, move with the state that
// they have.
TEST(AfterInterrupt, ItsSessionsMove) {
  Settings settings = graceful(1);
  settings.sessions.snapshot = SnapshotMode::kOnDrain;
  Interrupted pool(settings);
  pool.driver.reply(pool.driver.submit("f", "bob"));
  const WorkerId old = pool.interrupt("ann");
  EXPECT_EQ(pool.driver.count("save ann"), 1u);
  EXPECT_EQ(pool.driver.count("save bob"), 1u);
  EXPECT_EQ(pool.driver.count("stop " + to_text(old)), 1u) << "when both are saved";
  pool.driver.ready(pool.driver.with(false).front());
  const CallId ann = pool.driver.submit("f", "ann");
  EXPECT_TRUE(pool.driver.calls.at(ann.value).restores);
  EXPECT_EQ(stats_of(pool.driver).sessions.lost, 0u);
}

// Goal: under each_call the interrupted call's session moves with the last acknowledged state, not
// with the one that the interrupt left. (The driver checks what is restored.)
TEST(AfterInterrupt, UnderEachCallTheLastAcknowledgedStateMoves) {
  Settings settings = graceful(1);
  settings.sessions.snapshot = SnapshotMode::kEachCall;
  Interrupted pool(settings);
  pool.driver.reply(pool.driver.submit("f", "ann"));
  ASSERT_EQ(pool.driver.store.kept.size(), 1u);
  const std::uint64_t acknowledged = pool.driver.store.kept.begin()->second.version;
  pool.interrupt("ann");
  pool.driver.ready(pool.driver.with(false).front());
  const CallId next = pool.driver.submit("f", "ann");
  ASSERT_TRUE(pool.driver.calls.at(next.value).restores);
  EXPECT_EQ(pool.driver.store.kept.begin()->second.version, acknowledged);
}

// Goal: a session that cannot be saved stays with its worker until workers.drain_timeout, then it
// is lost and told; stateless calls meet the new worker only.
TEST(AfterInterrupt, WhatCannotBeSavedStaysUntilTheDrainEnds) {
  Settings settings = graceful(1);
  settings.sessions.snapshot = SnapshotMode::kOff;
  settings.workers.drain_timeout = 20s;
  Interrupted pool(settings);
  const WorkerId old = pool.interrupt("ann");
  const WorkerId fresh = pool.driver.with(false).front();
  pool.driver.ready(fresh);
  const CallId hers = pool.driver.submit("f", "ann");
  EXPECT_EQ(pool.driver.worker_of(hers), old);
  EXPECT_EQ(pool.driver.worker_of(pool.driver.submit()), fresh);
  pool.driver.reply(hers);
  pool.driver.advance(20s);
  EXPECT_EQ(pool.driver.count("stop " + to_text(old)), 1u);
  EXPECT_EQ(stats_of(pool.driver).sessions.lost, 1u);
  EXPECT_EQ(pool.driver.fate(pool.driver.submit("f", "ann")), "session_lost");
}

// Goal: a start by exec takes long, so the old worker serves until its replacement is ready.
TEST(AfterInterrupt, AnExecutedWorkerServesUntilItsReplacementIsReady) {
  Interrupted pool(graceful(1), /*exec=*/true);
  const WorkerId old = pool.interrupt();
  ASSERT_EQ(pool.driver.with(false).size(), 1u);
  const CallId next = pool.driver.submit();
  EXPECT_EQ(pool.driver.worker_of(next), old);
  pool.driver.reply(next);
  pool.driver.ready(pool.driver.with(false).front());
  EXPECT_EQ(pool.driver.count("stop " + to_text(old)), 1u);
}

// Goal: interrupts one after another do not fill the machine with workers that drain: the fifth of
// a slot ends the oldest.
TEST(AfterInterrupt, WorkersThatDrainAreBounded) {
  Settings settings = graceful(1);
  settings.sessions.snapshot = SnapshotMode::kOff;
  settings.workers.drain_timeout = 10min;
  Interrupted pool(settings);
  std::vector<WorkerId> old;
  for (const char* session : {"a", "b", "c", "d", "e"}) {
    old.push_back(pool.interrupt(session));
    pool.driver.ready(pool.driver.with(false).front());
    EXPECT_EQ(pool.driver.count("stop"), old.size() == 5 ? 1u : 0u) << session;
  }
  EXPECT_EQ(pool.driver.count("stop " + to_text(old.front())), 1u);
  EXPECT_EQ(stats_of(pool.driver).workers.draining, 5u) << "the oldest is on its way out";
}

}  // namespace
}  // namespace keelback::core
