// Shared calls: where they go, their order beside calls that run alone, and what the end of a
// worker means to each of the calls that ran in it.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

FunctionSpec shared(std::string name, std::uint32_t concurrency) {
  FunctionSpec made;
  made.name = std::move(name);
  made.concurrency = concurrency;
  return made;
}

// "many" runs 8 in a worker, "few" runs 2, "f" runs alone.
void announce_standard(ModelDriver& driver) {
  driver.announce({shared("f", 1), shared("few", 2), shared("many", 8)});
}
void ready_all(ModelDriver& driver) {
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
}
void warm_up(ModelDriver& driver) {
  announce_standard(driver);
  ready_all(driver);
}

Settings with_ladder(std::uint32_t workers) {
  Settings settings = pool_of(workers);
  settings.calls.deadline = 1h;
  settings.calls.grace = 1s;
  settings.calls.answer_at = AnswerAt::kEnd;
  settings.workers.drain_timeout = 30s;
  return settings;
}
CallId submit(ModelDriver& driver, std::string_view function, std::uint64_t fingerprint,
              bool idempotent = true) {
  CallSubmitted call = driver.request(function);
  call.fingerprint = fingerprint;
  call.idempotent = idempotent;
  return driver.submit(call);
}
CallId submit_with_deadline(ModelDriver& driver, std::string_view function, Duration deadline) {
  CallSubmitted call = driver.request(function);
  call.deadline = deadline;
  return driver.submit(call);
}
DeathRole role_of(ModelDriver& driver, CallId call) {
  const Resolve& outcome = driver.outcome(call);
  return outcome.death ? outcome.death->role : DeathRole::kNone;
}
std::size_t load_of(const ModelDriver& driver, WorkerId worker) {
  return driver.workers.at(worker).calls.size();
}

// ---- where they go

// Goal: stateless shared calls spread: each goes to the worker with the most free capacity.
TEST(PoolShared, ACallGoesToTheWorkerWithTheMostFreeCapacity) {
  ModelDriver driver(pool_of(3));
  warm_up(driver);
  std::vector<CallId> calls;
  for (int i = 0; i < 9; ++i) calls.push_back(driver.submit("many"));
  for (const WorkerId worker : driver.with(true)) EXPECT_EQ(load_of(driver, worker), 3u);
  const WorkerId freed = driver.worker_of(calls[4]);
  std::vector<CallId> there;
  for (const CallId call : calls) {
    if (driver.worker_of(call) == freed) there.push_back(call);
  }
  driver.reply(there[0]);
  driver.reply(there[1]);
  EXPECT_EQ(driver.worker_of(driver.submit("many")), freed);
  EXPECT_EQ(driver.worker_of(driver.submit("many")), freed);
}

// Goal: a function's concurrency and workers.concurrency both limit what one worker runs; the
// latter is live.
TEST(PoolShared, ConcurrencyOfTheFunctionAndOfTheWorkerAreLimits) {
  Settings settings = pool_of(1);
  settings.workers.concurrency = 4;
  ModelDriver driver(settings);
  warm_up(driver);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(driver.fate(driver.submit("few")), "running");
  const CallId third = driver.submit("few");
  EXPECT_EQ(driver.fate(third), "waiting") << "the function's own limit";
  for (int i = 0; i < 2; ++i) EXPECT_EQ(driver.fate(driver.submit("many")), "running");
  const CallId fifth = driver.submit("many");
  EXPECT_EQ(driver.fate(fifth), "waiting") << "workers.concurrency";
  settings.workers.concurrency = 5;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(fifth), "running");
  EXPECT_EQ(driver.fate(third), "waiting");
  settings.workers.concurrency = 1;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(driver.submit("many")), "waiting") << "what runs may finish, no more begin";
}

// Goal: a change of the configuration gives no worker a call that it may not run any more: not even
// one that drains because of it, and was kept free for a call that runs alone.
TEST(PoolShared, ASmallerCapHoldsInTheStepInWhichItComes) {
  Settings settings = pool_of(2);
  settings.sessions.snapshot = SnapshotMode::kOff;  // a session stays on a home that drains
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId ann = driver.submit("f", "ann"), bob = driver.submit("f", "bob");
  const std::string second = driver.worker_of(ann).slot == 2 ? "ann" : "bob";
  const WorkerId home = driver.worker_of(second == "ann" ? ann : bob);
  driver.reply(ann);
  driver.reply(bob);
  for (int i = 0; i < 3; ++i) driver.submit("many");
  const auto end_one = [&] { driver.reply(CallId{driver.workers.at(home).calls.rbegin()->first}); };
  while (load_of(driver, home) > 1) end_one();
  EXPECT_EQ(load_of(driver, home), 1u);
  EXPECT_EQ(driver.fate(driver.submit("f")), "waiting") << "the second worker is emptied for it";
  const CallId own = driver.submit("many", second);
  EXPECT_EQ(driver.fate(own), "waiting") << "it is younger";
  settings.pool.workers = 1;
  settings.workers.concurrency = 1;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(own), "waiting") << "its home drains, and runs as many as it may";
  end_one();
  EXPECT_EQ(driver.fate(own), "running");
}

// Goal: a hinted session does not move to a worker where a call of its ended namesake still runs:
// there would be two calls of one session at once.
TEST(PoolShared, AHintedSessionDoesNotMoveBesideItsEndedNamesake) {
  Settings settings = pool_of(2);
  settings.sessions.mode = Affinity::kHint;
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId old = driver.submit("many", "ann");
  driver.handle(SessionEnded{"ann"});
  driver.reply(driver.submit("many", "ann"));
  const CallId alone = driver.submit("f");
  ASSERT_NE(driver.worker_of(alone), driver.worker_of(old)) << "it fills the new session's home";
  const CallId next = driver.submit("many", "ann");
  EXPECT_EQ(driver.fate(next), "waiting");
  driver.reply(old);
  EXPECT_EQ(driver.fate(next), "running") << "its id is free there";
}

// Goal: a worker that leaves a new session to the others lets nobody else wait for that: a call
// without a session that came before its own session's call goes first.
TEST(PoolShared, AWorkerThatLeavesANewSessionToOthersKeepsTheOrderOtherwise) {
  ModelDriver driver(pool_of(2));
  warm_up(driver);
  const CallId elsewhere = driver.submit("f");  // so that all sessions open on the other worker
  for (const char* session : {"ann", "bob", "cyd"}) driver.reply(driver.submit("f", session));
  const CallId running = driver.submit("f", "ann");
  const CallId opening = driver.submit("f", "new");
  const CallId stateless = driver.submit("f");
  const CallId own = driver.submit("f", "bob");
  driver.reply(running);
  EXPECT_EQ(driver.fate(stateless), "running");
  EXPECT_EQ(driver.fate(opening), "waiting") << "it is left to the worker with fewer sessions";
  EXPECT_EQ(driver.fate(own), "waiting");
  driver.reply(elsewhere);
  EXPECT_EQ(driver.fate(opening), "running");
  driver.reply(stateless);
  EXPECT_EQ(driver.fate(own), "running");
}

// Goal: max_workers limits the workers that run a function, not its calls.
TEST(PoolShared, TheBulkheadCountsWorkersAndNotCalls) {
  ModelDriver driver(pool_of(3));
  FunctionSpec few = shared("few", 2);
  few.max_workers = 2;
  driver.announce({few});
  ready_all(driver);
  std::vector<CallId> calls;
  for (int i = 0; i < 5; ++i) calls.push_back(driver.submit("few"));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(driver.fate(calls[i]), "running");
  EXPECT_EQ(driver.fate(calls[4]), "waiting") << "one worker is kept free for others";
  driver.reply(calls[0]);
  EXPECT_EQ(driver.fate(calls[4]), "running");
}

// Goal: calls of one session run one after another, calls of different sessions side by side.
TEST(PoolShared, ASessionsCallsRunOneAfterAnotherAndSessionsSideBySide) {
  ModelDriver driver(pool_of(1));
  warm_up(driver);
  const CallId ann = driver.submit("many", "ann"), next = driver.submit("many", "ann");
  const CallId bob = driver.submit("many", "bob");
  EXPECT_EQ(driver.fate(ann), "running");
  EXPECT_EQ(driver.fate(bob), "running");
  EXPECT_EQ(driver.fate(next), "waiting");
  driver.reply(ann);
  EXPECT_EQ(driver.fate(next), "running");
}

// Goal: a session that fails fast is busy if it has a call, or its home has no room for this one.
TEST(PoolShared, AFailFastSessionIsBusyOnlyIfItsHomeHasNoRoom) {
  Settings settings = pool_of(1);
  settings.sessions.mode = Affinity::kStrictFailFast;
  ModelDriver driver(settings);
  warm_up(driver);
  driver.reply(driver.submit("few", "ann"));
  driver.reply(driver.submit("few", "bob"));
  const CallId beside = driver.submit("many");
  const CallId ann = driver.submit("few", "ann");
  EXPECT_EQ(driver.fate(ann), "running") << "beside another call";
  EXPECT_EQ(driver.fate(driver.submit("few", "ann")), "session_busy");
  EXPECT_EQ(driver.fate(driver.submit("f", "bob")), "session_busy") << "that would run alone";
  EXPECT_EQ(driver.fate(driver.submit("few", "bob")), "running");
  static_cast<void>(beside);
}

// ---- order

// Goal: one worker is emptied for a call that runs alone. It takes no younger shared call, and the
// other workers go on.
TEST(PoolShared, ForACallThatRunsAloneOneWorkerIsEmptiedAndTheOthersGoOn) {
  ModelDriver driver(pool_of(2));
  warm_up(driver);
  const CallId a = driver.submit("many"), b = driver.submit("many"), c = driver.submit("many");
  const WorkerId emptied = driver.worker_of(b);
  ASSERT_EQ(driver.worker_of(a), driver.worker_of(c));
  const CallId alone = driver.submit("f");
  EXPECT_EQ(driver.fate(alone), "waiting");
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(driver.worker_of(driver.submit("many")).slot, driver.worker_of(a).slot);
  const CallId younger = driver.submit("many");
  EXPECT_EQ(driver.fate(younger), "waiting");
  driver.reply(b);
  EXPECT_EQ(driver.worker_of(alone), emptied);
  EXPECT_EQ(driver.fate(younger), "waiting");
  driver.reply(alone);
  EXPECT_EQ(driver.worker_of(younger), emptied);
}

// Goal: when the worker that is emptied dies, another one is, before a younger call that waited for
// the dead one takes room there.
TEST(PoolShared, AnotherWorkerIsEmptiedAsSoonAsTheOneThatWasIsGone) {
  ModelDriver driver(pool_of(2));
  FunctionSpec capped = shared("capped", 8);
  capped.max_workers = 1;
  driver.announce({shared("f", 1), shared("many", 8), capped});
  ready_all(driver);
  const CallId of_capped = driver.submit("capped");
  const WorkerId emptied = driver.worker_of(of_capped);
  std::vector<CallId> there, others;
  for (int i = 0; i < 3; ++i) {
    const CallId call = driver.submit("many");
    (driver.worker_of(call) == emptied ? there : others).push_back(call);
  }
  for (const CallId call : there) driver.reply(call);
  ASSERT_EQ(others.size(), 2u);
  const CallId alone = driver.submit("f"), younger = driver.submit("capped");
  ASSERT_EQ(driver.fate(alone), "waiting");
  ASSERT_EQ(driver.fate(younger), "waiting");
  driver.exit(emptied);
  EXPECT_EQ(driver.fate(younger), "waiting") << "it overtakes a call that waits to run alone";
  for (const CallId call : others) driver.reply(call);
  EXPECT_EQ(driver.fate(alone), "running");
}

// Goal: a call of a higher priority goes into the emptied worker all the same.
TEST(PoolShared, AHigherPriorityGoesBeforeACallThatWaitsToRunAlone) {
  ModelDriver driver(pool_of(1));
  warm_up(driver);
  driver.submit("many");
  driver.submit("f");
  CallSubmitted high = driver.request("many");
  high.priority = Priority::kHigh;
  EXPECT_EQ(driver.fate(driver.submit(high)), "running");
  EXPECT_EQ(driver.fate(driver.submit("many")), "waiting");
}

// How many of three workers that run shared calls are emptied for ten calls that take so long.
std::size_t emptied_for(Duration each) {
  ModelDriver driver(pool_of(3));
  warm_up(driver);
  const CallId first = driver.submit("f");
  driver.advance(each);  // what a call of it takes
  driver.reply(first);
  for (int i = 0; i < 3; ++i) driver.submit("many");
  for (int i = 0; i < 10; ++i) driver.submit("f");
  for (int i = 0; i < 40; ++i) driver.submit("many");
  std::size_t emptied = 0;
  for (const WorkerId worker : driver.with(true)) emptied += load_of(driver, worker) == 1;
  return emptied;
}

// Goal: a few short calls that run alone empty one worker; more work than that empties more.
TEST(PoolShared, ShortCallsThatRunAloneEmptyOneWorkerAndLongOnesMore) {
  EXPECT_EQ(emptied_for(1ms), 1u);
  EXPECT_EQ(emptied_for(10ms), 3u);
}

// Goal: a session's call that runs alone empties its home, and only that.
TEST(PoolShared, ASessionsCallThatRunsAloneEmptiesItsHome) {
  ModelDriver driver(pool_of(2));
  warm_up(driver);
  const CallId opening = driver.submit("many", "ann");
  const WorkerId home = driver.worker_of(opening);
  driver.reply(opening);
  std::vector<CallId> at_home;
  for (int i = 0; i < 4; ++i) {
    const CallId call = driver.submit("many");
    if (driver.worker_of(call) == home) at_home.push_back(call);
  }
  ASSERT_FALSE(at_home.empty());
  const CallId alone = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(alone), "waiting");
  for (int i = 0; i < 4; ++i) EXPECT_NE(driver.worker_of(driver.submit("many")), home);
  for (const CallId call : at_home) driver.reply(call);
  EXPECT_EQ(driver.worker_of(alone), home);
}

// Goal: first come, first served, also when a worker has just become empty: the calls behind one
// that runs alone wait for it.
TEST(PoolShared, AnEmptyWorkerTakesNoCallFromBehindOneThatRunsAlone) {
  ModelDriver driver(pool_of(1));
  warm_up(driver);
  const CallId running = driver.submit("f");
  const CallId before = driver.submit("many"), alone = driver.submit("f");
  const CallId behind = driver.submit("many");
  driver.reply(running);
  EXPECT_EQ(driver.fate(before), "running");
  EXPECT_EQ(driver.fate(behind), "waiting");
  driver.reply(before);
  EXPECT_EQ(driver.fate(alone), "running");
}

// ---- the end of a worker with several calls

// Goal: nobody knows which of several calls ended the worker, so all are suspects. An idempotent
// one runs again at once, alone, and free of the budget; the breaker hears of none.
TEST(PoolShared, SuspectsRunAgainAloneAndFreeOfTheRetryBudget) {
  Settings settings = pool_of(2);
  settings.calls.retries = 0;
  settings.breaker.failures = 1;
  ModelDriver driver(settings);
  warm_up(driver);
  driver.exit(driver.with(true).back());
  const WorkerId worker = driver.with(true).front();
  const CallId plain = submit(driver, "many", 1, false);
  const CallId again = submit(driver, "many", 2);
  const CallId fresh = submit(driver, "many", 3, false);
  driver.exit_with(worker, {plain.value, again.value});
  EXPECT_EQ(driver.fate(plain), "worker_died");
  EXPECT_EQ(driver.outcome(plain).effect, Effect::kMaybe);
  EXPECT_EQ(role_of(driver, plain), DeathRole::kSuspect);
  EXPECT_EQ(driver.fate(again), "waiting");
  EXPECT_EQ(driver.fate(fresh), "waiting") << "it had not started";
  ready_all(driver);
  EXPECT_EQ(driver.fate(again), "running");
  EXPECT_EQ(driver.fate(fresh), "running");
  EXPECT_NE(driver.worker_of(again), driver.worker_of(fresh)) << "the suspect is alone";
  EXPECT_TRUE(driver.calls.at(again.value).alone);
  EXPECT_FALSE(driver.calls.at(fresh.value).alone);
  EXPECT_EQ(driver.pool.stats(driver.now).retries, 0u);
  EXPECT_NE(driver.fate(submit(driver, "many", 4)), "circuit_open");
}

// Goal: the call whose code the dying thread ran is the culprit. The others are bystanders: they
// are told its name, run again free if they may, and not alone. The breaker hears of the culprit
// only.
TEST(PoolShared, TheCallOfTheDyingThreadIsTheCulprit) {
  Settings settings = pool_of(1);
  settings.calls.retries = 0;
  settings.breaker.failures = 1;
  settings.breaker.ratio = 0;
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId plain = submit(driver, "many", 1, false), again = submit(driver, "many", 2);
  const CallId guilty = submit(driver, "few", 3, false);
  const WorkerId worker = driver.worker_of(guilty);
  driver.exit_with(worker, {plain.value, again.value, guilty.value}, "signal", guilty);
  EXPECT_EQ(driver.fate(guilty), "worker_died");
  EXPECT_EQ(role_of(driver, guilty), DeathRole::kCulprit);
  EXPECT_EQ(driver.fate(plain), "worker_died");
  EXPECT_EQ(role_of(driver, plain), DeathRole::kBystander);
  const std::string& told = driver.outcome(plain).death->detail;
  EXPECT_NE(told.find("function \"few\" ended the worker"), std::string::npos) << told;
  ready_all(driver);
  EXPECT_EQ(driver.fate(again), "running");
  EXPECT_FALSE(driver.calls.at(again.value).alone) << "a bystander is no suspect";
  EXPECT_EQ(driver.pool.stats(driver.now).retries, 0u);
  EXPECT_EQ(driver.fate(submit(driver, "few", 4)), "circuit_open");
  EXPECT_EQ(driver.fate(submit(driver, "many", 4)), "running");
}

// Goal: also a known culprit runs alone the next time, and only its deaths there count for the
// quarantine: another call may have broken what it died of.
TEST(PoolShared, AKnownCulpritRunsAloneBeforeItIsQuarantined) {
  Settings settings = pool_of(1);
  settings.quarantine.deaths = 1;
  settings.breaker.failures = 0;
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId beside = submit(driver, "many", 1, false), guilty = submit(driver, "many", 2, false);
  driver.exit_with(driver.worker_of(guilty), {beside.value, guilty.value}, "exit", guilty);
  EXPECT_EQ(role_of(driver, guilty), DeathRole::kCulprit);
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 0u);
  ready_all(driver);
  const CallId like_it = submit(driver, "many", 1, false);
  EXPECT_FALSE(driver.calls.at(like_it.value).alone) << "a bystander is no suspect";
  driver.reply(like_it);
  const CallId once_more = submit(driver, "many", 2, false);
  ASSERT_TRUE(driver.calls.at(once_more.value).alone);
  driver.exit(driver.worker_of(once_more));
  EXPECT_EQ(role_of(driver, once_more), DeathRole::kNone) << "nobody was beside it";
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 1u);
}

// Goal: who is alone with calls that have not begun, is not there, or is in a worker that is ended
// on purpose, is no culprit.
TEST(PoolShared, NobodyIsBlamedWithoutAReason) {
  const auto role_of_one = [](bool both_started, bool ordered, bool unknown) {
    ModelDriver driver(pool_of(1));
    warm_up(driver);
    const CallId one = submit(driver, "many", 1, false), other = submit(driver, "many", 2, false);
    const WorkerId worker = driver.worker_of(one);
    std::set<std::uint64_t> started{one.value};
    if (both_started) started.insert(other.value);
    if (ordered) driver.handle(DeathOrdered{worker});
    driver.exit_with(worker, started, "signal", unknown ? CallId{4711} : one);
    return role_of(driver, one);
  };
  EXPECT_EQ(role_of_one(true, false, false), DeathRole::kCulprit);
  EXPECT_EQ(role_of_one(false, false, false), DeathRole::kNone) << "the other had not begun";
  EXPECT_EQ(role_of_one(true, false, true), DeathRole::kSuspect) << "nobody knows that call";
  EXPECT_EQ(role_of_one(true, true, false), DeathRole::kSuspect) << "the laboratory ends it";
}

// Goal: an answer clears a suspicion, and the next call like it runs beside others again.
TEST(PoolShared, AnAnswerClearsASuspicion) {
  ModelDriver driver(pool_of(2));
  warm_up(driver);
  const CallId again = submit(driver, "many", 1);
  CallId other;
  do other = submit(driver, "many", 2, false);
  while (driver.worker_of(other) != driver.worker_of(again));
  driver.exit(driver.worker_of(again));
  ready_all(driver);
  ASSERT_TRUE(driver.calls.at(again.value).alone);
  for (int i = 0; i < 4 && driver.fate(again) != "running"; ++i) driver.advance(1s);
  if (driver.fate(again) == "waiting") {
    for (const auto& [id, call] : driver.calls) {
      if (call.worker) driver.reply(CallId{id});
    }
  }
  driver.reply(again);
  const CallId next = submit(driver, "many", 1);
  EXPECT_FALSE(driver.calls.at(next.value).alone);
}

// Goal: of one function a single suspect runs at a time.
TEST(PoolShared, OfAFunctionOneSuspectRunsAtATime) {
  ModelDriver driver(pool_of(1));
  warm_up(driver);
  const CallId one = submit(driver, "many", 1), two = submit(driver, "many", 2);
  driver.exit(driver.worker_of(one));
  Settings wider = pool_of(3);
  driver.configure(wider);
  ready_all(driver);
  EXPECT_EQ((driver.fate(one) == "running") + (driver.fate(two) == "running"), 1);
  EXPECT_EQ(driver.fate(submit(driver, "many", 3)), "running") << "others go on";
  driver.reply(driver.fate(one) == "running" ? one : two);
  EXPECT_TRUE(driver.resolved(one) ? driver.fate(two) == "running" : driver.fate(one) == "running");
}

// Goal: deaths beside others never quarantine; deaths while alone do.
TEST(PoolShared, OnlyDeathsWhileAlonePutACallIntoQuarantine) {
  Settings settings = pool_of(1);
  settings.quarantine.deaths = 2;
  settings.breaker.failures = 0;
  settings.calls.retries = 5;
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId bad = submit(driver, "many", 7), beside = submit(driver, "many", 8);
  const auto die_alone = [&](CallId call) {
    for (int i = 0; i < 50 && driver.fate(call) != "running"; ++i) {
      ready_all(driver);
      if (driver.fate(beside) == "running") driver.reply(beside);
      driver.advance(1s);
    }
    ASSERT_TRUE(driver.calls.at(call.value).alone);
    driver.exit(driver.worker_of(call));
  };
  driver.exit(driver.worker_of(bad));
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 0u);
  die_alone(bad);
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 0u) << "one death alone";
  die_alone(bad);
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 1u);
  EXPECT_EQ(driver.fate(bad), "worker_died");
  EXPECT_EQ(driver.fate(submit(driver, "many", 7)), "quarantined");
  if (!driver.resolved(beside)) {
    for (int i = 0; i < 50 && driver.fate(beside) != "running"; ++i) {
      ready_all(driver);
      driver.advance(1s);
    }
    driver.reply(beside);
  }
  EXPECT_EQ(driver.fate(beside), "ok");
}

// ---- the ladder

// Goal: a call that outlives its grace dooms its worker: no new calls there, the neighbours finish,
// then it is killed. Its replacement starts at once.
TEST(PoolShared, ACallThatDoesNotEndLetsItsNeighboursFinish) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  const CallId beside = driver.submit("many");
  const CallId stuck = submit_with_deadline(driver, "many", 1s);
  const WorkerId worker = driver.worker_of(stuck);
  driver.advance(1s);
  EXPECT_EQ(driver.count("cancel"), 1u);
  driver.handle(LoopTurned{worker});
  driver.advance(1s);
  EXPECT_EQ(driver.fate(stuck), "timeout");
  EXPECT_EQ(driver.count("kill"), 0u);
  EXPECT_EQ(driver.fate(driver.submit("many")), "waiting") << "the worker takes no call";
  ASSERT_EQ(driver.with(false).size(), 1u) << "its replacement";
  driver.advance(5s);
  driver.reply(beside);
  EXPECT_EQ(driver.fate(beside), "ok");
  EXPECT_EQ(driver.count("kill " + to_text(worker)), 1u);
  driver.exit(worker, true, "killed");
  EXPECT_EQ(driver.fate(stuck), "timeout");
}

// Goal: neighbours have workers.drain_timeout, then the worker is killed. They are bystanders, told
// which call is the cause, and idempotent ones run again.
TEST(PoolShared, NeighboursOfACallThatDoesNotEndHaveTheDrainTimeout) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  const CallId plain = submit(driver, "many", 1, false), again = submit(driver, "many", 2);
  const CallId stuck = submit_with_deadline(driver, "few", 1s);
  const WorkerId worker = driver.worker_of(stuck);
  driver.advance(1s);
  driver.handle(LoopTurned{worker});
  driver.advance(1s + 29s);
  EXPECT_EQ(driver.count("kill"), 0u);
  ready_all(driver);
  driver.advance(1s);
  ASSERT_EQ(driver.count("kill " + to_text(worker)), 1u);
  driver.exit(worker, true, "killed");
  EXPECT_EQ(driver.fate(plain), "worker_died");
  EXPECT_EQ(role_of(driver, plain), DeathRole::kBystander);
  EXPECT_NE(driver.outcome(plain).death->detail.find("few"), std::string::npos);
  EXPECT_EQ(driver.fate(again), "running");
  EXPECT_FALSE(driver.calls.at(again.value).alone) << "a bystander is no suspect";
  EXPECT_EQ(driver.pool.stats(driver.now).retries, 0u);
}

// Goal: a worker whose event loop is silent from a call's deadline to the end of its grace is
// killed then, whatever runs beside it.
TEST(PoolShared, AWorkerWhoseLoopIsSilentIsKilledAtTheEndOfTheGrace) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  driver.handle(LoopTurned{driver.with(true).front()});
  const CallId beside = submit(driver, "many", 1, false);
  const CallId stuck = submit_with_deadline(driver, "many", 1s);
  driver.advance(1s + 999ms);
  EXPECT_EQ(driver.count("kill"), 0u);
  driver.advance(1ms);
  EXPECT_EQ(driver.count("kill"), 1u);
  driver.exit(driver.worker_of(beside), true, "killed");
  EXPECT_EQ(driver.fate(stuck), "timeout");
  EXPECT_EQ(role_of(driver, beside), DeathRole::kBystander);
}

// Goal: whether the loop turns is asked at the deadline, also of a call that its caller has
// cancelled before.
TEST(PoolShared, ACancelledCallThatDoesNotEndLetsItsNeighboursFinish) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  const CallId beside = driver.submit("many");
  const CallId stuck = submit_with_deadline(driver, "many", 10s);
  const WorkerId worker = driver.worker_of(stuck);
  std::size_t answered = 0;
  const auto advance = [&](Duration by) {  // the driver pings the loop when a call is cancelled
    driver.advance(by);
    for (; answered < driver.count("cancel"); ++answered) driver.handle(LoopTurned{worker});
  };
  advance(1s);
  driver.handle(CallCancelled{stuck});
  advance(9s);
  advance(1s);
  EXPECT_EQ(driver.count("kill"), 0u);
  driver.reply(beside);
  EXPECT_EQ(driver.count("kill"), 1u);
}

// Goal: a shared call that ends within its grace costs its worker nothing.
TEST(PoolShared, ACallThatEndsWithinItsGraceCostsNothing) {
  Settings settings = with_ladder(1);
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId beside = driver.submit("many");
  const CallId late = submit_with_deadline(driver, "many", 1s);
  driver.advance(1s);
  driver.reply(late, ReplyKind::kCancelled);
  EXPECT_EQ(driver.fate(late), "timeout");
  EXPECT_EQ(driver.worker_of(driver.submit("many")), driver.worker_of(beside));
  driver.advance(1h - 2s);
  EXPECT_EQ(driver.count("kill"), 0u);
}

// Goal: a thread that was interrupted makes its worker drain: its neighbours finish there, new
// calls go elsewhere.
TEST(PoolShared, AnInterruptedThreadMakesItsWorkerDrain) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  const CallId beside = driver.submit("many");
  const CallId late = submit_with_deadline(driver, "many", 1s);
  const WorkerId worker = driver.worker_of(beside);
  driver.advance(1600ms);
  EXPECT_EQ(driver.count("interrupt"), 1u);
  driver.reply(late, ReplyKind::kCancelled, true, true, /*interrupted=*/true);
  const CallId next = driver.submit("many");
  EXPECT_EQ(driver.fate(next), "waiting");
  ready_all(driver);
  EXPECT_NE(driver.worker_of(next), worker);
  driver.reply(beside);
  EXPECT_EQ(driver.fate(beside), "ok");
  EXPECT_EQ(driver.count("stop " + to_text(worker)), 1u);
}

// ---- calls that block the event loop

std::vector<std::string> warnings(const ModelDriver& driver) {
  std::vector<std::string> found;
  for (const Notice& notice : driver.notices) {
    if (notice.stack_of) found.push_back(notice.text);
  }
  return found;
}
// The call has blocked its worker's loop for so long.
void block(ModelDriver& driver, CallId by, Duration lag = 100ms) {
  driver.handle(LoopBlocked{driver.worker_of(by), by, driver.now - lag, lag});
}

// Goal: a notice names the function, asks for the stack of its worker, and comes once a minute for
// a function; what was left out is counted.
TEST(PoolShared, ANoticeNamesTheFunctionThatBlocksTheLoopOnceAMinute) {
  ModelDriver driver(with_ladder(1));
  warm_up(driver);
  const CallId one = driver.submit("many"), other = driver.submit("few");
  const WorkerId worker = driver.worker_of(one);
  block(driver, one, 120ms);
  ASSERT_EQ(warnings(driver).size(), 1u);
  EXPECT_NE(
      warnings(driver)[0].find("Function \"many\" blocks the event loop of worker 1.1: it has "
                               "not turned for 120ms"),
      std::string::npos)
      << warnings(driver)[0];
  EXPECT_EQ(driver.notices.back().stack_of, worker);
  EXPECT_EQ(driver.notices.back().level, Notice::Level::kWarn);
  for (int i = 0; i < 3; ++i) {
    driver.handle(LoopTurned{worker});
    driver.advance(1s);
    block(driver, one);
  }
  EXPECT_EQ(warnings(driver).size(), 1u) << "three more in the same minute";
  driver.handle(LoopTurned{worker});
  block(driver, other);
  EXPECT_EQ(warnings(driver).size(), 2u) << "another function";
  driver.handle(LoopTurned{worker});
  driver.advance(57s);
  block(driver, one);
  ASSERT_EQ(warnings(driver).size(), 3u);
  EXPECT_NE(warnings(driver)[2].find("3 more"), std::string::npos) << warnings(driver)[2];
  EXPECT_EQ(driver.pool.stats(driver.now).loop_blocks, 6u);
}

// Goal: workers.loop_lag_warn is live; 0 silences the notice, but the block is known all the same.
TEST(PoolShared, TheLimitOfTheNoticeIsLive) {
  Settings settings = with_ladder(1);
  settings.workers.loop_lag_warn = 1s;
  ModelDriver driver(settings);
  warm_up(driver);
  const CallId call = driver.submit("many");
  const Time since = driver.now;
  driver.handle(LoopBlocked{driver.worker_of(call), call, since, 100ms});
  EXPECT_TRUE(warnings(driver).empty());
  driver.handle(LoopBlocked{driver.worker_of(call), call, since, 1s});
  EXPECT_EQ(warnings(driver).size(), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).loop_blocks, 1u) << "one turn";
  settings.workers.loop_lag_warn = 0s;
  driver.configure(settings);
  driver.advance(2min);
  driver.handle(LoopTurned{driver.worker_of(call)});
  block(driver, call, 10s);
  EXPECT_EQ(warnings(driver).size(), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).loop_blocks, 2u);
}

// Goal: where nobody knows whose code it is, the notice says so; nobody is named who does not run
// there.
TEST(PoolShared, ABlockOfAnUnknownCallNamesNobody) {
  ModelDriver driver(with_ladder(2));
  warm_up(driver);
  const CallId call = driver.submit("many");
  CallId elsewhere;
  do elsewhere = driver.submit("few");
  while (driver.worker_of(elsewhere) == driver.worker_of(call));
  driver.handle(LoopBlocked{driver.worker_of(call), elsewhere, driver.now, 100ms});
  ASSERT_EQ(warnings(driver).size(), 1u);
  EXPECT_EQ(warnings(driver)[0].find("few"), std::string::npos) << warnings(driver)[0];
  EXPECT_EQ(warnings(driver)[0].find("many"), std::string::npos) << warnings(driver)[0];
}

// A pool whose functions may take a second, and whose breakers open with one failure.
struct Blocked {
  static Settings settings() {
    Settings settings = with_ladder(1);
    settings.calls.answer_at = AnswerAt::kDeadline;
    settings.breaker.failures = 1;
    settings.breaker.ratio = 0;
    return settings;
  }
  Blocked() : driver(settings()) {
    FunctionSpec waits = shared("waits", 8), blocks = shared("blocks", 8);
    waits.timeout = 1s;
    blocks.timeout = 10s;
    driver.announce({waits, blocks});
    ready_all(driver);
  }
  bool open(std::string_view function) {
    return driver.fate(driver.submit(function)) == "circuit_open";
  }
  ModelDriver driver;
};

// Goal: a call whose deadline comes while another call blocks the loop is not to blame for it.
TEST(PoolShared, ATimeoutWhileAnotherCallBlocksCountsForNoBreaker) {
  Blocked pool;
  const CallId late = pool.driver.submit("waits"), blocker = pool.driver.submit("blocks");
  pool.driver.advance(900ms);
  block(pool.driver, blocker);
  pool.driver.advance(100ms);
  EXPECT_EQ(pool.driver.fate(late), "timeout");
  pool.driver.advance(100ms);
  pool.driver.reply(blocker);
  pool.driver.reply(late, ReplyKind::kCancelled);
  EXPECT_FALSE(pool.open("waits"));
}

// Goal: the same where the block is noticed only after the deadline, within the ladder.
TEST(PoolShared, ABlockThatIsNoticedAfterTheDeadlineExcusesToo) {
  Blocked pool;
  const CallId late = pool.driver.submit("waits"), blocker = pool.driver.submit("blocks");
  pool.driver.advance(1050ms);
  EXPECT_EQ(pool.driver.fate(late), "timeout");
  block(pool.driver, blocker);  // since 50 ms before the deadline
  pool.driver.advance(100ms);
  pool.driver.handle(LoopTurned{pool.driver.worker_of(blocker)});
  pool.driver.reply(late, ReplyKind::kCancelled);
  EXPECT_FALSE(pool.open("waits"));
}

// Goal: time in which others blocked the loop is not the call's own: with less than half of its
// time it is not judged.
TEST(PoolShared, TimeThatOthersBlockedIsNotTheCallsOwn) {
  Blocked pool;
  const CallId late = pool.driver.submit("waits"), blocker = pool.driver.submit("blocks");
  const WorkerId worker = pool.driver.worker_of(late);
  for (int i = 0; i < 3; ++i) {
    pool.driver.advance(200ms);
    block(pool.driver, blocker, 200ms);
    pool.driver.handle(LoopTurned{worker});
    pool.driver.advance(50ms);
  }
  pool.driver.advance(250ms);
  EXPECT_EQ(pool.driver.fate(late), "timeout");
  pool.driver.reply(late, ReplyKind::kCancelled);
  EXPECT_FALSE(pool.open("waits")) << "600 of its 1000 ms were the blocker's";
}

// Goal: who is late all by itself is to blame, in spite of a short block; and who blocks the loop
// itself is, too.
TEST(PoolShared, AShortBlockAndOnesOwnExcuseNobody) {
  {
    Blocked pool;
    const CallId late = pool.driver.submit("waits"), blocker = pool.driver.submit("blocks");
    pool.driver.advance(300ms);
    block(pool.driver, blocker, 200ms);
    pool.driver.handle(LoopTurned{pool.driver.worker_of(late)});
    pool.driver.advance(700ms);
    EXPECT_EQ(pool.driver.fate(late), "timeout");
    EXPECT_EQ(pool.driver.fate(pool.driver.submit("waits")), "running") << "not decided yet";
    pool.driver.reply(late, ReplyKind::kCancelled);
    EXPECT_TRUE(pool.open("waits"));
  }
  Blocked pool;
  const CallId own = pool.driver.submit("waits");
  pool.driver.submit("blocks");
  pool.driver.advance(200ms);
  block(pool.driver, own, 200ms);
  pool.driver.advance(800ms);
  EXPECT_EQ(pool.driver.fate(own), "timeout");
  pool.driver.advance(600ms);
  EXPECT_EQ(pool.driver.count("interrupt"), 1u);
  EXPECT_TRUE(pool.open("waits")) << "decided when it is interrupted, at the latest";
}

// Goal: a worker that is killed because its loop does not turn tells who has blocked it. A call
// that only waited for the loop is a bystander, even if it is overdue.
TEST(PoolShared, TheCallThatBlocksTheLoopIsTheCulprit) {
  Blocked pool;
  const CallId late = pool.driver.submit("waits"), blocker = pool.driver.submit("blocks");
  const CallId beside = submit(pool.driver, "blocks", 3, false);
  pool.driver.advance(500ms);
  block(pool.driver, blocker, 400ms);
  pool.driver.advance(1500ms);
  ASSERT_EQ(pool.driver.count("kill"), 1u) << "the grace of the late call is over";
  pool.driver.exit(pool.driver.worker_of(blocker), true, "killed");
  EXPECT_EQ(pool.driver.fate(late), "timeout");
  EXPECT_EQ(role_of(pool.driver, blocker), DeathRole::kCulprit);
  EXPECT_EQ(role_of(pool.driver, beside), DeathRole::kBystander);
  EXPECT_NE(pool.driver.outcome(beside).death->detail.find("blocked the event loop"),
            std::string::npos)
      << pool.driver.outcome(beside).death->detail;
  ready_all(pool.driver);
  EXPECT_FALSE(pool.open("waits"));
  EXPECT_TRUE(pool.open("blocks"));
  EXPECT_EQ(pool.driver.pool.stats(pool.driver.now).quarantined, 0u);
}

// ---- beside reloads, checks and saves

// Goal: a reload that makes a function shared, or its calls run alone, holds for calls that wait.
TEST(PoolShared, AReloadThatChangesConcurrencyHoldsForCallsThatWait) {
  ModelDriver driver(pool_of(1));
  warm_up(driver);
  const CallId one = driver.submit("f"), two = driver.submit("f"), three = driver.submit("f");
  EXPECT_EQ(driver.fate(two), "waiting");
  driver.announce({shared("f", 4), shared("few", 2), shared("many", 8)});
  EXPECT_EQ(driver.fate(two), "waiting") << "the first one still runs alone";
  driver.reply(one);
  EXPECT_EQ(driver.fate(two), "running");
  EXPECT_EQ(driver.fate(three), "running");
  const CallId four = driver.submit("many");
  EXPECT_EQ(driver.fate(four), "running");
  announce_standard(driver);
  const CallId five = driver.submit("f");
  driver.reply(two);
  driver.reply(three);
  EXPECT_EQ(driver.fate(five), "waiting");
  driver.reply(four);
  EXPECT_EQ(driver.fate(five), "running");
}

// Goal: a check of a worker's health comes beside shared calls. No new one begins until it is over.
TEST(PoolShared, AHealthCheckRunsBesideSharedCallsAndNewOnesWait) {
  Settings settings = pool_of(1);
  settings.workers.health_every = 10s;
  ModelDriver driver(settings);
  driver.health = true;
  warm_up(driver);
  const CallId call = driver.submit("many");
  for (int i = 0; i < 30 && driver.count("check") == 0; ++i) driver.advance(1s);
  ASSERT_EQ(driver.count("check"), 1u);
  const CallId waits = driver.submit("many");
  EXPECT_EQ(driver.fate(waits), "waiting");
  driver.reply(call);
  EXPECT_EQ(driver.fate(call), "ok");
  EXPECT_EQ(driver.fate(waits), "waiting");
  driver.checked(driver.with(true).front());
  EXPECT_EQ(driver.fate(waits), "running");
}

// Goal: a worker that is replaced saves its sessions while shared calls of others still run there.
TEST(PoolShared, AWorkerThatDrainsSavesItsSessionsBesideSharedCalls) {
  Settings settings = pool_of(1);
  settings.sessions.snapshot = SnapshotMode::kOnDrain;
  ModelDriver driver(settings);
  warm_up(driver);
  driver.reply(driver.submit("many", "ann"));
  const CallId beside = driver.submit("many");
  const WorkerId old = driver.worker_of(beside);
  driver.handle(RecycleRequested{1});
  ready_all(driver);
  EXPECT_EQ(driver.count("save ann"), 1u);
  const CallId moved = driver.submit("many", "ann");
  EXPECT_NE(driver.worker_of(moved), old);
  EXPECT_EQ(driver.fate(moved), "running");
  driver.reply(beside);
  EXPECT_EQ(driver.fate(beside), "ok");
  EXPECT_EQ(driver.count("stop " + to_text(old)), 1u);
}

}  // namespace
}  // namespace keelback::core
