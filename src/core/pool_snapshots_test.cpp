// Sessions that outlive their worker: what waits for the store, what is restored, what is lost.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

Settings saving(SnapshotMode mode, std::uint32_t workers = 1) {
  Settings settings;
  settings.pool.workers = workers;
  settings.sessions.snapshot = mode;
  return settings;
}

// Goal: an answer is out when its session's state is stored, not before; meanwhile its worker works
// for others, and the session's next call waits.
TEST(PoolSnapshots, TheAnswerWaitsForTheStoreAndTheWorkerDoesNot) {
  ModelDriver driver(saving(SnapshotMode::kEachCall));
  driver.warm_up();
  driver.store.answers_at_once = false;
  const CallId first = driver.submit("f", "ann"), second = driver.submit("f", "ann");
  const CallId other = driver.submit("f");
  EXPECT_EQ(driver.count("dispatch r1 w1.1 session=ann@1 opens saves"), 1u);
  driver.reply(first);
  EXPECT_FALSE(driver.resolved(first));
  EXPECT_EQ(driver.fate(other), "running");
  EXPECT_EQ(driver.fate(second), "waiting");
  EXPECT_EQ(driver.pool.stats(driver.now).in_flight, 3u);
  driver.settle();
  EXPECT_EQ(driver.fate(first), "ok");
  driver.reply(other);
  EXPECT_EQ(driver.fate(second), "running");
}

// Goal: the session is taken by another pool while its answer waits for the store: the store
// refuses the state, and the caller hears that it is lost, not that it is ok.
TEST(PoolSnapshots, AnAnswerThatIsNotKeptBecauseTheSessionWasTakenIsLost) {
  ModelDriver driver(saving(SnapshotMode::kEachCall));
  driver.warm_up();
  driver.store.answers_at_once = false;
  const CallId call = driver.submit("f", "ann");
  driver.reply(call);
  driver.handle(SessionTaken{"ann", 0, "node b has it"});
  EXPECT_FALSE(driver.resolved(call));
  driver.settle(/*works=*/false);
  EXPECT_EQ(driver.fate(call), "session_lost");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kDone);
  EXPECT_EQ(driver.count("end-session ann"), 1u);
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "running") << "opens anew";
}

// Goal: a store that is slower than the call's deadline: the caller hears in time, that it was done
// and that its state is not safe. When the store comes round the snapshot counts all the same.
TEST(PoolSnapshots, ASlowStoreIsATimeoutThatWasDone) {
  Settings settings = saving(SnapshotMode::kEachCall, 2);
  settings.calls.answer_at = AnswerAt::kEnd;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.store.answers_at_once = false;
  CallSubmitted request = driver.request("f", "ann");
  request.deadline = 1s;
  const CallId call = driver.submit(request);
  const WorkerId home = driver.worker_of(call);
  driver.reply(call);
  driver.advance(1s);
  EXPECT_EQ(driver.fate(call), "timeout");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kDone);
  driver.settle();
  driver.exit(home);
  EXPECT_EQ(driver.count("session_lost"), 0u);
  const CallId next = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(next), "running") << "restored";
  EXPECT_TRUE(driver.calls.at(next.value).restores);
}

// Goal: a call that never began has left no state: its caller waits for no store, and hears `none`,
// whatever the worker sends beside the answer.
TEST(PoolSnapshots, WhatNeverBeganIsNotSaved) {
  ModelDriver driver(saving(SnapshotMode::kEachCall));
  driver.warm_up();
  driver.store.answers_at_once = false;
  for (const ReplyKind kind : {ReplyKind::kCancelled, ReplyKind::kError}) {
    const CallId call = driver.submit("f", "ann");
    driver.refuse(call, kind);
    EXPECT_TRUE(driver.resolved(call));
    EXPECT_EQ(driver.outcome(call).effect, Effect::kNone);
  }
  EXPECT_TRUE(driver.store.asked.empty());
}

// Goal: a call that was cancelled while it ran is not said to be done, however long its session's
// state takes.
TEST(PoolSnapshots, ASlowStoreMakesNoCancelledCallDone) {
  Settings settings = saving(SnapshotMode::kEachCall);
  settings.calls.answer_at = AnswerAt::kEnd;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.store.answers_at_once = false;
  CallSubmitted request = driver.request("f", "ann");
  request.deadline = 1s;
  const CallId call = driver.submit(request);
  driver.reply(call, ReplyKind::kCancelled);
  ASSERT_FALSE(driver.resolved(call));
  driver.advance(1s);
  EXPECT_EQ(driver.fate(call), "timeout");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kMaybe);
}

// Goal: a store that says no: the call goes on, the failure counts, and the worker's death is a
// loss.
TEST(PoolSnapshots, AStoreThatFailsCostsTheSnapshotAndNothingElse) {
  ModelDriver driver(saving(SnapshotMode::kEachCall));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.store.answers_at_once = false;
  const CallId call = driver.submit("f", "ann");
  const WorkerId home = driver.worker_of(call);
  driver.reply(call);
  driver.settle(false);
  EXPECT_EQ(driver.fate(call), "ok");
  EXPECT_EQ(driver.pool.stats(driver.now).snapshots.failed, 1u);
  driver.exit(home);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 1u);
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "session_lost") << "never the older state";
}

// Goal: the worker dies while its answer waits for the store. Stored: the answer is good and the
// session goes on elsewhere. Not stored: the answer is good, and the session is lost.
TEST(PoolSnapshots, ADeathWhileTheAnswerWaitsChangesNoAnswer) {
  for (const bool stored : {true, false}) {
    ModelDriver driver(saving(SnapshotMode::kEachCall, 2));
    driver.warm_up();
    driver.store.answers_at_once = false;
    const CallId call = driver.submit("f", "ann");
    const WorkerId home = driver.worker_of(call);
    const CallId waits = driver.submit("f", "ann");
    driver.reply(call);
    driver.exit(home);
    EXPECT_FALSE(driver.resolved(call));
    EXPECT_EQ(driver.fate(waits), "waiting");
    driver.settle(stored);
    EXPECT_EQ(driver.fate(call), "ok");
    EXPECT_EQ(driver.fate(waits), stored ? "running" : "session_lost");
    EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, stored ? 0u : 1u);
  }
}

// Goal: a call that had not started when its worker died is dispatched again, its session restored
// first; an idempotent one that had started is retried likewise.
TEST(PoolSnapshots, RedispatchesAndRetriesRestoreTheSession) {
  Settings settings = saving(SnapshotMode::kEachCall, 2);
  settings.calls.retries = 1;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const CallId call = driver.submit("f", "ann");
  driver.exit(driver.worker_of(call), /*started=*/false);
  EXPECT_EQ(driver.fate(call), "running");
  EXPECT_TRUE(driver.calls.at(call.value).restores);
  driver.reply(call);
  EXPECT_EQ(driver.outcome(call).epoch, 2u);

  CallSubmitted again = driver.request("f", "ann");
  again.idempotent = true;
  const CallId retried = driver.submit(again);
  driver.exit(driver.worker_of(retried), /*started=*/true);
  for (const WorkerId next : driver.with(false)) driver.ready(next);
  driver.advance(1s);
  ASSERT_EQ(driver.fate(retried), "running");
  EXPECT_TRUE(driver.calls.at(retried.value).restores);
  driver.reply(retried);
  EXPECT_EQ(driver.outcome(retried).epoch, 3u);
  EXPECT_EQ(driver.outcome(retried).attempts, 2u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.restored, 2u);
}

// Goal: who waits under a fence of the old epoch is told when the session gets a new home; who does
// not, goes along.
TEST(PoolSnapshots, AFenceThatWaitedIsStaleOnceTheSessionMoves) {
  ModelDriver driver(saving(SnapshotMode::kEachCall, 2));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const CallId running = driver.submit("f", "ann");
  CallSubmitted fenced = driver.request("f", "ann");
  fenced.fence = Fence{0, 1};
  const CallId stale = driver.submit(fenced);
  const CallId free = driver.submit("f", "ann");
  driver.exit(driver.worker_of(running));
  EXPECT_EQ(driver.fate(running), "worker_died");
  EXPECT_EQ(driver.fate(stale), "stale_epoch");
  EXPECT_EQ(driver.outcome(stale).effect, Effect::kNone);
  EXPECT_EQ(driver.fate(free), "running");
}

// Goal: the snapshot that a call needs is not to be had: the session is lost, nobody's worker is.
TEST(PoolSnapshots, ASnapshotThatIsNotThereCostsItsSessionOnly) {
  ModelDriver driver(saving(SnapshotMode::kEachCall));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.reply(driver.submit("f", "bob"));
  driver.exit(driver.living().front());
  driver.ready(driver.living().front());
  const CallId call = driver.submit("f", "ann"), waits = driver.submit("f", "ann");
  driver.fail_restore(call);
  EXPECT_EQ(driver.fate(call), "session_lost");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kNone);
  EXPECT_EQ(driver.fate(waits), "session_lost");
  EXPECT_EQ(driver.count("kill"), 0u);
  const CallId bob = driver.submit("f", "bob");
  EXPECT_TRUE(driver.calls.at(bob.value).restores);
  driver.reply(bob);
  EXPECT_EQ(driver.fate(bob), "ok");
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "session_lost") << "the first later call";
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "running") << "anew";
}

// Goal: on_drain asks an idle worker that is on its way out, sessions that are in use move with
// what waits in them, and nothing is left in the store once a restored session has been used.
TEST(PoolSnapshots, ADrainedWorkerIsAskedAndItsSessionsMove) {
  ModelDriver driver(saving(SnapshotMode::kOnDrain));
  driver.warm_up();
  for (const char* id : {"ann", "bob", "cyd"}) driver.reply(driver.submit("f", id));
  const CallId running = driver.submit("f", "cyd"), waits = driver.submit("f", "cyd");
  driver.handle(RecycleRequested{1});
  const WorkerId old = driver.worker_of(running);
  driver.store.answers_at_once = false;
  for (const WorkerId next : driver.with(false)) driver.ready(next);
  EXPECT_EQ(driver.count("save "), 0u) << "not while a call runs";
  driver.reply(running);
  EXPECT_EQ(driver.count("save "), 3u);
  EXPECT_EQ(driver.fate(waits), "waiting") << "its state is under way";
  driver.store.answers_at_once = true;
  driver.settle();
  EXPECT_EQ(driver.fate(waits), "running");
  EXPECT_NE(driver.worker_of(waits), old);
  EXPECT_TRUE(driver.calls.at(waits.value).restores);
  EXPECT_EQ(driver.count("stop " + to_text(old)), 1u);
  driver.reply(waits);
  EXPECT_EQ(driver.store.kept.size(), 2u) << "cyd's is out of date";
  for (const char* id : {"ann", "bob"}) driver.reply(driver.submit("f", id));
  EXPECT_TRUE(driver.store.kept.empty());
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.restored, 3u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 0u);
}

// Goal: a worker that never answers is bounded by drain_timeout, and what it held is lost by name.
TEST(PoolSnapshots, AWorkerThatDoesNotAnswerIsKilledInTime) {
  ModelDriver driver(saving(SnapshotMode::kOnDrain));
  driver.warm_up();
  const WorkerId old = driver.living().front();
  driver.reply(driver.submit("f", "ann"));
  driver.store.answers_at_once = false;
  driver.handle(RecycleRequested{1});
  for (const WorkerId next : driver.with(false)) driver.ready(next);
  EXPECT_EQ(driver.count("save ann"), 1u);
  driver.advance(driver.pool.config().workers.drain_timeout);
  EXPECT_EQ(driver.count("kill " + to_text(old)), 1u);
  driver.exit(old, false, "killed");
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 1u);
}

// Goal: the end of a pool whose store is in memory leaves nothing behind, so nothing is saved.
TEST(PoolSnapshots, AShutdownWithAStoreInMemorySavesNothing) {
  ModelDriver driver(saving(SnapshotMode::kOnDrain));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.handle(DrainRequested{5s});
  EXPECT_EQ(driver.count("save "), 0u);
  EXPECT_EQ(driver.count("stop"), 1u);
  driver.exit(driver.living().front(), false, "exit");
  EXPECT_TRUE(driver.drained);
}

// Goal: a node of a cluster keeps states in the cluster's database, though sessions.store is
// memory: at its end they are saved, for the other nodes.
TEST(PoolSnapshots, AShutdownOfANodeSavesFirst) {
  Settings settings = saving(SnapshotMode::kOnDrain);
  settings.cluster.store = "postgres://x";
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.store.answers_at_once = false;
  driver.handle(DrainRequested{5s});
  EXPECT_EQ(driver.count("save ann"), 1u);
  EXPECT_EQ(driver.count("stop"), 0u);
}

// Goal: at the end of the pool every session is saved before its worker is stopped.
TEST(PoolSnapshots, AShutdownSavesFirst) {
  Settings settings = saving(SnapshotMode::kOnDrain);
  settings.sessions.store = "sqlite:sessions.db";
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.store.answers_at_once = false;
  driver.handle(DrainRequested{5s});
  EXPECT_EQ(driver.count("save ann"), 1u);
  EXPECT_EQ(driver.count("stop"), 0u);
  driver.settle();
  driver.settle();
  EXPECT_EQ(driver.count("stop"), 1u);
  driver.exit(driver.living().front(), false, "exit");
  EXPECT_TRUE(driver.drained);
  EXPECT_EQ(driver.store.kept.size(), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 0u);
}

// Goal: what an earlier run has left damaged is a loss like any other: told once, to its session's
// next caller, and counted.
TEST(PoolSnapshots, ADamagedSessionOfAnEarlierRunIsTold) {
  Pool pool(saving(SnapshotMode::kEachCall), 1);
  Actions actions;
  SessionsFound found;
  found.sessions.push_back({.id = "bob", .birth = 7, .epoch = 1, .number = 3});
  found.lost = {"ann", "bob"};
  pool.handle(Time{}, found, actions);
  pool.check_invariants();
  EXPECT_EQ(pool.stats(Time{}).sessions.lost, 1u) << "bob has a row that is good";
  EXPECT_EQ(pool.stats(Time{}).sessions.active, 1u);
}

// Goal: what an earlier run has left goes on in the next epoch, as old and as idle as it is; the
// table's bound holds; an answer that was given under a key is given again.
TEST(PoolSnapshots, SessionsOfAnEarlierRunGoOn) {
  Settings settings = saving(SnapshotMode::kEachCall);
  settings.sessions.max = 2;
  settings.sessions.idle_ttl = 10min;
  SessionsFound found;
  const auto add = [&](const char* id, std::uint64_t birth, Duration age, Duration idle) {
    found.sessions.push_back({.id = id, .birth = birth, .epoch = 4, .number = birth});
    found.sessions.back().age = age;
    found.sessions.back().idle = idle;
  };
  add("ann", 100, 1h, 1min);
  add("bob", 200, 30min, 9min);
  add("cyd", 300, 1min, 1s);
  found.sessions[0].key = "k";
  found.sessions[0].fingerprint = 77;
  found.sessions[0].answered = CallId{1};
  found.sessions[0].kind = OutcomeKind::kOk;

  // The first event of a pool: before the driver's own first tick.
  Pool pool(settings, 1);
  Actions actions;
  pool.handle(Time{}, found, actions);
  pool.check_invariants();
  std::size_t dropped = 0;
  for (const Action& action : actions) dropped += std::holds_alternative<DropSnapshot>(action);
  EXPECT_EQ(dropped, 1u) << "cyd: sessions.max";
  EXPECT_EQ(pool.stats(Time{}).sessions.evicted, 1u);
  EXPECT_EQ(pool.stats(Time{}).sessions.active, 2u);
  const auto page = pool.sessions(Time{}, "", 10);
  ASSERT_EQ(page.items.size(), 2u);
  EXPECT_EQ(page.items[0].epoch, 5u);
  EXPECT_EQ(page.items[0].age, 1h);
  EXPECT_EQ(page.items[1].idle, 9min);

  // Those of another pool come later, and stand where their age puts them.
  SessionsFound later;
  later.sessions.push_back({.id = "dan", .birth = 400, .epoch = 1, .number = 9});
  later.sessions.back().age = 40min;
  later.sessions.back().idle = 5min;
  settings.sessions.max = 3;
  pool.handle(Time{}, ConfigChanged{settings}, actions);
  pool.handle(Time{}, later, actions);
  pool.check_invariants();
  EXPECT_EQ(pool.sessions(Time{}, "", 10).items.size(), 3u);

  WorkerId worker;
  for (const Action& action : actions) {
    if (const auto* start = std::get_if<StartWorker>(&action)) worker = start->worker;
  }
  const auto feed = [&](const Event& event) {
    actions.clear();
    pool.handle(Time{}, event, actions);
    pool.check_invariants();
  };
  feed(FunctionsAnnounced{{FunctionSpec{.name = "f"}}});
  feed(WorkerReady{worker});
  feed(CallSubmitted{.call = CallId{2},
                     .function = "f",
                     .session = "ann",
                     .idempotency_key = "k",
                     .fingerprint = 77});
  ASSERT_EQ(actions.size(), 1u);
  const auto* replay = std::get_if<ReplayOutcome>(&actions[0]);
  ASSERT_TRUE(replay);
  EXPECT_EQ(replay->of, CallId{1});
  feed(CallSubmitted{.call = CallId{3}, .function = "f", .session = "ann"});
  const auto* dispatch = std::get_if<Dispatch>(&actions[0]);
  ASSERT_TRUE(dispatch);
  EXPECT_EQ(dispatch->session->restore, 100u);
  EXPECT_EQ(dispatch->session->epoch, 5u);
  EXPECT_EQ(dispatch->session->birth, 100u);
  EXPECT_FALSE(dispatch->session->opens);
  actions.clear();
  pool.handle(Time{1min}, Tick{}, actions);  // bob has been idle for ten minutes now
  EXPECT_EQ(pool.stats(Time{1min}).sessions.expired, 1u);
}

// Goal: with snapshots off the pool asks for nothing and stores nothing.
TEST(PoolSnapshots, OffIsOff) {
  ModelDriver driver(saving(SnapshotMode::kOff));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  driver.handle(RecycleRequested{1});
  for (const WorkerId next : driver.with(false)) driver.ready(next);
  driver.advance(driver.pool.config().workers.drain_timeout);
  for (const char* word : {"save", "keep", "drop-snapshot"}) EXPECT_EQ(driver.count(word), 0u);
  EXPECT_EQ(driver.count("dispatch r1 w1.1 session=ann@1 opens"), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 1u);
}

}  // namespace
}  // namespace keelback::core
