// The checkers on histories that were made up, with known answers: what is wrong is found, with the
// right witness; what only looks wrong is let pass (a checker that cries wolf is switched off); and
// what cannot be decided is never a pass.
#include "chaos/checkers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "chaos/judge.h"
#include "chaos/losses.h"
#include "chaos/recovery.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using enum OutcomeKind;

// Two workers; baseline from 0, faults from 1 s, recovery from 2 s, end at 3 s. Every call takes 10
// ms.
class MadeUp {
 public:
  MadeUp() {
    scenario.settings.pool.workers = 2;
    scenario.settings.calls.grace = 100ms;
    plan.phases = {.baseline = 0s, .faults = 1s, .recovery = 2s, .end = 3s};
    history.facts.effects_known = true;
    for (Duration at = 0s; at < 3s; at += 10ms) {
      history.samples.push_back({.at = at, .ready = true, .up = 2});
    }
  }

  // An ok echo on worker 1.1; change what matters, before you make the next call.
  CallEvent& call(Duration sent, const char* function = "echo", const char* session = "") {
    CallEvent& made = history.calls.emplace_back();
    made.index = history.calls.size() - 1;
    made.origin = "load";
    made.function = function;
    made.session = session;
    made.planned = made.sent = sent;
    made.done = sent + 10ms;
    made.deadline = 1s;
    made.call = made.index + 1;
    made.outcomes = 1;
    made.effect = Effect::kDone;
    made.worker = {1, 1};
    made.attempts = 1;
    if (*session != 0) made.birth = 7, made.epoch = 1;
    ran(made);
    return made;
  }
  // A step of a session's chain.
  CallEvent& step(Duration sent, std::uint64_t position, const char* session = "s") {
    CallEvent& made = call(sent, "chain", session);
    made.position = position;
    return made;
  }
  // It waited until `begun` and ran until `done`; on worker `slot`.
  CallEvent& ran_from(Duration sent, Duration begun, Duration done, const char* function,
                      std::uint32_t slot = 1, const char* session = "") {
    CallEvent& made = call(sent, function, session);
    made.done = done;
    made.queued = begun - sent;
    made.ran = done - begun;
    made.worker = {slot, slot};
    return made;
  }
  // It was in its worker when that died, beside others.
  static CallEvent& died_beside(CallEvent& call, const char* role, std::string detail = "") {
    failed(call, kWorkerDied, Effect::kMaybe);
    call.death_role = role;
    call.death_detail = std::move(detail);
    return call;
  }
  void both_up() {
    for (std::uint32_t slot : {1U, 2U}) history.workers.push_back({0s, {slot, slot}, 1, "ready"});
  }
  // It failed like this. Whether its body ran stays as it is.
  static CallEvent& failed(CallEvent& call, OutcomeKind kind, Effect effect) {
    call.kind = kind;
    call.effect = effect;
    call.message = "because";
    if (kind == kWorkerDied) call.death_cause = "signal";
    if (kind == kError) call.error_type = "ValueError";
    return call;
  }
  void ran(const CallEvent& call) {
    history.effects.push_back({call.call, call.worker, call.session, call.birth, call.epoch});
  }
  void never_ran(const CallEvent& call) {
    std::erase_if(history.effects, [&](const EffectEvent& e) { return e.call == call.call; });
  }
  FaultEvent& kill(Duration at, WorkerRef worker = {1, 1}) {
    scenario.faults.push_back({.id = "k", .fault_class = "proc.kill"});
    history.faults.push_back({.id = "k",
                              .fault_class = "proc.kill",
                              .fired = at,
                              .targets = {worker},
                              .bit = true,
                              .bite = at,
                              .proof = "dead"});
    return history.faults.back();
  }
  // The pool's numbers, as they follow from the calls.
  void count() {
    for (const CallEvent& call : history.calls) {
      ++history.facts.accepted;
      if (call.finished()) ++history.facts.outcomes[std::string(to_string(call.kind))];
    }
  }

  CheckInput input() const { return {history, scenario, plan}; }
  CheckResult check(std::string_view id) const { return chaos::check(id, input()); }

  History history;
  Scenario scenario;
  Plan plan;
};

testing::AssertionResult holds(const CheckResult& result) {
  if (result.status == Status::kHolds) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << result.id << " " << to_string(result.status) << ": " << result.witness;
}
testing::AssertionResult broken(const CheckResult& result, const std::string& witness) {
  if (result.status == Status::kBroken && result.witness.find(witness) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure()
         << result.id << " " << to_string(result.status) << ": " << result.witness;
}

// ---- several nodes

// Three nodes with two workers each. A session is claimed by node a, and committed twice.
struct Cluster : MadeUp {
  Cluster() {
    scenario.nodes = 3;
    scenario.settings.pool.workers = 6;
    scenario.settings.sessions.snapshot = SnapshotMode::kEachCall;
    history.facts.commits_known = true;
    row("INSERT", "a", "a", 1, 0, 9, 0);
    told(10ms, 1, 11);
    row("UPDATE", "a", "a", 1, 1, 9, 1);
    told(30ms, 2, 12);
    row("UPDATE", "a", "a", 1, 2, 9, 2);
  }
  void row(const char* what, const char* owner, const char* writer, std::uint32_t epoch,
           std::uint64_t number, std::uint64_t token, std::uint64_t position) {
    history.commits.push_back({.what = what,
                               .session = "s",
                               .birth = 7,
                               .epoch = epoch,
                               .number = number,
                               .token = token,
                               .owner = owner,
                               .writer = writer,
                               .position = position});
  }
  // A step that was acknowledged, and that ran once.
  CallEvent& told(Duration sent, std::uint64_t position, std::uint64_t token) {
    CallEvent& made = step(sent, position);
    made.token = token;
    history.effects.push_back({.worker = {1, 1}, .session = "s", .key = std::to_string(token)});
    return made;
  }
};

TEST(ChaosCheckers, OnlyTheOwnerCommits) {
  Cluster good;
  good.row("UPDATE", "b", "b", 2, 2, 10, 2);  // claimed
  good.row("UPDATE", "b", "b", 2, 3, 10, 3);
  EXPECT_TRUE(holds(good.check("owner-commits")));
  Cluster lost = good;  // a store without the condition: the old owner writes after the claim
  lost.row("UPDATE", "b", "a", 2, 4, 10, 4);
  EXPECT_TRUE(broken(lost.check("owner-commits"), "by node a (owner b"));
  Cluster claim = good;  // a claim that begins no new epoch
  claim.row("UPDATE", "c", "c", 2, 3, 11, 3);
  EXPECT_TRUE(broken(claim.check("owner-commits"), "a claim"));
  Cluster unread = good;
  unread.history.facts.commits_known = false;
  EXPECT_EQ(unread.check("owner-commits").status, Status::kUnknown);
}

TEST(ChaosCheckers, AStoredStateOnlyMovesForward) {
  EXPECT_TRUE(holds(Cluster().check("state-forward")));
  Cluster back;  // a claim without retiring: it restores what was there before the last commit
  back.row("UPDATE", "b", "b", 2, 3, 10, 1);
  EXPECT_TRUE(broken(back.check("state-forward"), "step 1 after step 2"));
  Cluster unstored;  // a lease without a margin: an answer that nobody has stored
  unstored.told(50ms, 3, 13);
  EXPECT_TRUE(broken(unstored.check("state-forward"), "was told step 3; the last that was stored"));
  unstored.scenario.settings.sessions.snapshot = SnapshotMode::kOnDrain;
  EXPECT_TRUE(holds(unstored.check("state-forward"))) << "that promises no such thing";
}

TEST(ChaosCheckers, ACallRunsOnceOnAllNodesTogether) {
  EXPECT_TRUE(holds(Cluster().check("one-run")));
  Cluster twice;  // a hop that is retried blindly
  twice.history.effects.push_back({.worker = {3, 3}, .session = "s", .key = "12"});
  EXPECT_TRUE(broken(twice.check("one-run"), "ran 2 times"));
  Cluster again = twice;  // the latch test sends calls again
  again.told(2s, 3, 12);
  again.history.effects.pop_back();
  EXPECT_TRUE(holds(again.check("one-run")));
  Cluster lied;
  MadeUp::failed(lied.history.calls[1], kNotReady, Effect::kNone);
  EXPECT_TRUE(broken(lied.check("one-run"), "says effect none, and ran"));
  Cluster never;
  never.history.effects.clear();
  EXPECT_TRUE(broken(never.check("one-run"), "says effect done, and never ran"));
}

TEST(ChaosCheckers, TheLossOfASessionIsToldOnce) {
  Cluster once;
  MadeUp::failed(once.call(50ms, "chain", "s"), kSessionLost, Effect::kNone);
  once.step(70ms, 1).birth = 8;
  MadeUp::failed(once.call(90ms, "chain", "s"), kSessionLost, Effect::kNone);
  EXPECT_TRUE(holds(once.check("told-once"))) << "it was lost again";
  MadeUp::failed(once.call(110ms, "chain", "s"), kSessionLost, Effect::kNone);
  EXPECT_TRUE(broken(once.check("told-once"), "both told of one loss"));
}

TEST(ChaosCheckers, OneNodeHasNoRulesOfSeveral) {
  for (const char* id : {"owner-commits", "state-forward", "one-run", "told-once"}) {
    Cluster alone;
    alone.scenario.nodes = 0;
    EXPECT_EQ(alone.check(id).status, Status::kVacuous) << id;
  }
}

// ---- I1 to I3: outcomes and effects

TEST(ChaosCheckers, OneOutcome) {
  MadeUp good;
  good.call(0s);
  good.call(1s).call = 0;  // planned, never sent: not the pool's
  EXPECT_TRUE(holds(good.check("I1")));
  MadeUp twice = good;
  twice.history.calls[0].outcomes = 2;
  EXPECT_TRUE(broken(twice.check("I1"), "2 outcomes"));
  MadeUp none = good;
  none.history.calls[0].outcomes = 0;
  EXPECT_TRUE(broken(none.check("I1"), "0 outcomes"));
  MadeUp sums = good;
  sums.history.samples[0].accepted = 3;
  EXPECT_TRUE(broken(sums.check("I1"), "accepted 3"));
}

TEST(ChaosCheckers, AnIdempotentCallMayRunOncePerAttemptAndAnotherOnlyOnce) {
  MadeUp good;
  CallEvent& again = good.call(0s);
  again.idempotent = true;
  again.attempts = 2;
  good.ran(again);
  CallEvent& died = MadeUp::failed(good.call(1s), kWorkerDied, Effect::kMaybe);
  good.never_ran(died);  // maybe is maybe
  EXPECT_TRUE(holds(good.check("I2")));
  MadeUp twice = good;
  twice.history.calls[0].idempotent = false;
  EXPECT_TRUE(broken(twice.check("I2"), "may not run twice, and ran 2 times"));
  MadeUp more = good;
  more.history.calls[0].attempts = 1;
  EXPECT_TRUE(broken(more.check("I2"), "2 times in 1 attempts"));
  MadeUp never;
  never.never_ran(never.call(0s));
  EXPECT_TRUE(broken(never.check("I2"), "never ran"));
  never.history.facts.effects_known = false;
  EXPECT_EQ(never.check("I2").status, Status::kVacuous) << "without a ledger nothing is known";
}

TEST(ChaosCheckers, EffectNoneMeansItNeverRan) {
  MadeUp good;
  good.never_ran(MadeUp::failed(good.call(0s), kOverloaded, Effect::kNone));
  MadeUp::failed(good.call(1s), kTimeout, Effect::kMaybe);
  MadeUp::failed(good.call(2s), kError, Effect::kDone);
  EXPECT_TRUE(holds(good.check("I3")));
  MadeUp lie;
  MadeUp::failed(lie.call(0s), kWorkerDied, Effect::kNone);
  EXPECT_TRUE(broken(lie.check("I3"), "says effect none, and ran"));
  MadeUp boast;
  boast.never_ran(MadeUp::failed(boast.call(0s), kError, Effect::kDone));
  EXPECT_TRUE(broken(boast.check("I3"), "says effect done, and never ran"));
}

// ---- I5 to I7: sessions

TEST(ChaosCheckers, AChainMovesOneStepACallAndMayJumpOverCallsThatMayHaveRun) {
  MadeUp good;
  good.step(0ms, 1);
  good.step(20ms, 2);
  MadeUp::failed(good.step(40ms, 0), kTimeout, Effect::kMaybe);  // may have been step 3
  good.step(60ms, 4);
  // Two at once: either order is real time's.
  good.step(100ms, 6);
  good.step(101ms, 5);
  EXPECT_TRUE(holds(good.check("I5")));
  MadeUp jump = good;
  jump.history.calls[2].effect = Effect::kNone;
  EXPECT_TRUE(broken(jump.check("I5"), "step 4 after step 2"));
  MadeUp back = good;
  back.history.calls[3].position = 2;
  EXPECT_TRUE(broken(back.check("I5"), "both are step 2"));
  MadeUp early = good;
  std::swap(early.history.calls[0].position, early.history.calls[3].position);
  EXPECT_TRUE(broken(early.check("I5"), "was even sent"));
  // Another life of the session counts from the beginning.
  MadeUp reborn = good;
  reborn.step(200ms, 1).birth = 8;
  EXPECT_TRUE(holds(reborn.check("I5")));
}

// Goal: saved state goes on where the last answered call left it, on whatever worker; a store that
// brings back an older one is found out.
TEST(ChaosCheckers, ASavedSessionGoesOnInItsNextEpochAndNeverFromAnOlderState) {
  MadeUp saved;
  saved.scenario.settings.sessions.snapshot = SnapshotMode::kEachCall;
  saved.step(0ms, 1);
  saved.step(20ms, 2);
  MadeUp::failed(saved.step(40ms, 0), kWorkerDied, Effect::kMaybe);  // it was not answered
  saved.step(60ms, 3).epoch = 2;
  EXPECT_TRUE(holds(saved.check("I5")));
  MadeUp stale = saved;
  stale.history.calls[3].position = 2;
  EXPECT_TRUE(broken(stale.check("I5"), "both are step 2"));
  MadeUp anew = saved;
  anew.history.calls[3].position = 1;
  EXPECT_TRUE(broken(anew.check("I5"), "both are step 1"));
  MadeUp unsaved = anew;
  unsaved.scenario.settings.sessions.snapshot = SnapshotMode::kOff;
  EXPECT_TRUE(holds(unsaved.check("I5"))) << "each epoch has a state of its own";
}

TEST(ChaosCheckers, AChainThatIsLinkedIsFollowedLinkByLink) {
  MadeUp good;
  good.history.facts.links_known = true;
  std::uint64_t link = 0;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    CallEvent& call = good.step(20ms * static_cast<std::int64_t>(n), n);
    call.token = 100 + n;
    call.link = link = chain_step(link, call.token);
  }
  EXPECT_TRUE(holds(good.check("I5")));
  good.history.calls[1].link ^= 1;
  EXPECT_TRUE(broken(good.check("I5"), "does not extend the chain"));
}

TEST(ChaosCheckers, ASessionThatBeginsAnewMustHaveBeenTold) {
  MadeUp silent;
  silent.step(0ms, 1);
  silent.step(100ms, 1).birth = 8;
  EXPECT_TRUE(broken(silent.check("I6"), "nobody was told"));
  for (const OutcomeKind word : {kSessionLost, kSessionExpired, kWorkerDied}) {
    MadeUp told;
    told.step(0ms, 1);
    MadeUp::failed(told.step(50ms, 0), word, Effect::kNone);
    told.step(100ms, 1).birth = 8;
    EXPECT_TRUE(holds(told.check("I6"))) << to_string(word);
  }
  // One word does not do for two losses.
  MadeUp twice;
  twice.step(0ms, 1);
  MadeUp::failed(twice.step(50ms, 0), kSessionLost, Effect::kNone);
  twice.step(100ms, 1).birth = 8;
  twice.step(150ms, 1).birth = 9;
  EXPECT_TRUE(broken(twice.check("I6"), "nobody was told"));
}

TEST(ChaosCheckers, ASessionMovesOnlyIntoAnotherEpochAndNeverBack) {
  MadeUp good;
  good.step(0ms, 1);
  CallEvent& moved = good.step(50ms, 2);
  moved.worker = {2, 2};
  moved.epoch = 2;
  good.history.effects.back() = {moved.call, moved.worker, "s", 7, 2};
  EXPECT_TRUE(holds(good.check("I7")));
  MadeUp split = good;
  split.history.calls[1].epoch = 1;
  EXPECT_TRUE(broken(split.check("I7"), "in one epoch"));
  MadeUp behind = good;  // callers see nothing; the workers' own words do
  behind.history.effects.push_back({99, {1, 1}, "s", 7, 2});
  EXPECT_TRUE(broken(behind.check("I7"), "in one epoch ran on"));
  MadeUp back = good;
  CallEvent& older = back.step(100ms, 3);
  EXPECT_TRUE(broken(back.check("I7"), "went back to epoch 1"));
  older.sent = 30ms;  // sent before the move was answered: an answer that was on its way
  EXPECT_TRUE(holds(back.check("I7")));
}

// ---- I8, I9, I23: replies and words

TEST(ChaosCheckers, RepliesAreTheirOwnWholeAndTyped) {
  MadeUp made;
  made.call(0s);
  EXPECT_TRUE(holds(made.check("I8")));
  EXPECT_TRUE(holds(made.check("I9")));
  EXPECT_EQ(made.check("I23").status, Status::kVacuous) << "nothing failed";
  made.history.calls[0].mine = false;
  EXPECT_TRUE(broken(made.check("I8"), "another call's reply"));
  made.history.calls[0].intact = false;
  EXPECT_TRUE(broken(made.check("I9"), "does not read"));
  CallEvent& died = MadeUp::failed(made.call(1s), kWorkerDied, Effect::kMaybe);
  EXPECT_TRUE(holds(made.check("I23")));
  died.death_cause.clear();
  EXPECT_TRUE(broken(made.check("I23"), "how the worker died"));
}

// ---- I10 to I20: the pool

TEST(ChaosCheckers, WhatIsLeftIsWhatWasNotThereBefore) {
  MadeUp made;
  EXPECT_EQ(made.check("I10").status, Status::kVacuous);
  made.history.census = {{.when = "before",
                          .known = true,
                          .descriptors = 9,
                          .threads = 2,
                          .processes = {"pid 5"},
                          .files = {"/dev/shm/a"}},
                         {.when = "after",
                          .known = true,
                          .descriptors = 8,
                          .threads = 2,
                          .processes = {"pid 5"},
                          .files = {"/dev/shm/a"}}};
  EXPECT_TRUE(holds(made.check("I10")));
  EXPECT_TRUE(holds(made.check("I11")));
  made.history.census[1].processes = {"pid 5", "pid 6"};
  EXPECT_TRUE(broken(made.check("I10"), "pid 6"));
  made.history.census[1].threads = 3;
  EXPECT_TRUE(broken(made.check("I11"), "2 threads before, 3 after"));
}

TEST(ChaosCheckers, EverySlotMustAnswerAProbe) {
  MadeUp made;
  EXPECT_EQ(made.check("I12").status, Status::kVacuous);
  made.call(3s).origin = "probe";
  EXPECT_TRUE(broken(made.check("I12"), "slot 2 never answered"));
  CallEvent& other = made.call(3s);
  other.origin = "probe";
  other.worker = {2, 9};
  EXPECT_TRUE(holds(made.check("I12")));
}

TEST(ChaosCheckers, ReadyMeansEnoughWorkersAndCountsAreTheLedgers) {
  MadeUp made;
  made.scenario.settings.pool.min_ready = 2;
  made.call(0s);
  made.count();
  EXPECT_TRUE(holds(made.check("I19")));
  made.history.samples[5].up = 1;
  EXPECT_TRUE(broken(made.check("I19"), "ready with 1 of 2"));
  made.history.samples[5].ready = false;
  EXPECT_TRUE(holds(made.check("I19")));
  ++made.history.facts.outcomes["ok"];
  EXPECT_TRUE(broken(made.check("I19"), "1 times ok, the pool counted 2"));
}

TEST(ChaosCheckers, AQueueHasABoundAndARefusalIsQuick) {
  MadeUp made;
  made.scenario.settings.pool.queue_max = 20;
  made.scenario.settings.pool.queue_delay_max = 0s;
  made.history.samples[3].queue = 20;
  MadeUp::failed(made.call(0s), kOverloaded, Effect::kNone);
  EXPECT_TRUE(holds(made.check("I14")));
  made.history.calls[0].done = 900ms;
  EXPECT_TRUE(broken(made.check("I14"), "refused after"));
  made.history.samples[3].queue = 21;
  EXPECT_TRUE(broken(made.check("I14"), "21 calls waited"));
}

TEST(ChaosCheckers, OneHistoryAPlan) {
  MadeUp made;
  made.history.facts.trace_hash = 5;
  EXPECT_EQ(made.check("I26").status, Status::kVacuous);
  made.history.facts.trace_hash_again = 5;
  EXPECT_TRUE(holds(made.check("I26")));
  made.history.facts.trace_hash_again = 6;
  EXPECT_TRUE(broken(made.check("I26"), "two histories"));
}

// ---- many calls at once in a worker

TEST(ChaosCheckers, TheRolesOfOneDeathAgree) {
  MadeUp good;
  EXPECT_EQ(good.check("bystanders").status, Status::kVacuous);
  CallEvent& culprit = good.call(0s, "together_block");
  MadeUp::failed(culprit, kTimeout, Effect::kMaybe);
  const std::string names = "call 1 of function \"together_block\" did not end";
  MadeUp::died_beside(good.call(1ms, "together"), "bystander", names);
  MadeUp::died_beside(good.call(2ms, "together"), "bystander", names);
  EXPECT_TRUE(holds(good.check("bystanders")));
  MadeUp two = good;
  two.history.calls[1].death_role = two.history.calls[2].death_role = "culprit";
  EXPECT_TRUE(broken(two.check("bystanders"), "has 2 culprits"));
  MadeUp both = good;
  both.history.calls[1].death_role = "suspect";
  EXPECT_TRUE(broken(both.check("bystanders"), "is a suspect, although the cause is known"));
  MadeUp nobody = good;
  nobody.history.calls[1].death_detail.clear();
  EXPECT_TRUE(broken(nobody.check("bystanders"), "not told whose fault it is"));
  MadeUp foreign = good;
  foreign.history.calls[0].worker = {2, 2};
  EXPECT_TRUE(broken(foreign.check("bystanders"), "which worker 1.1 never had"));
  MadeUp well = good;
  well.history.calls[0].kind = kOk;
  EXPECT_TRUE(broken(well.check("bystanders"), "is told that call 0"));
  MadeUp again = well;  // it may run twice, and its second attempt was elsewhere
  again.history.calls[0].attempts = 2;
  again.history.calls[0].worker = {2, 2};
  EXPECT_TRUE(holds(again.check("bystanders")));
  MadeUp idle = good;
  idle.history.calls[1].effect = Effect::kNone;
  EXPECT_TRUE(broken(idle.check("bystanders"), "has not begun, and is called a bystander"));
}

// Goal: where the dying thread leads to a call, that one is the culprit and no other. Nobody is to
// blame for a kill from outside.
TEST(ChaosCheckers, TheCallThatEndsItsWorkerIsTheCulprit) {
  MadeUp good;
  const std::string names = "call 1 of function \"together_crash\" ended the worker";
  CallEvent& crash = MadeUp::died_beside(good.call(0s, "together_crash"), "culprit");
  crash.origin = "c";
  crash.death_signal = SIGSEGV;
  MadeUp::died_beside(good.call(1ms, "together"), "bystander", names).death_signal = SIGSEGV;
  EXPECT_TRUE(holds(good.check("bystanders")));
  MadeUp other = good;
  std::swap(other.history.calls[0].death_role, other.history.calls[1].death_role);
  other.history.calls[0].death_detail = "call 2 of function \"together\" ended the worker";
  EXPECT_TRUE(
      broken(other.check("bystanders"), "is blamed for the end of worker 1.1, and ends no"));
  MadeUp nobody = good;
  for (CallEvent& call : nobody.history.calls) call.death_role = "suspect";
  EXPECT_TRUE(broken(nobody.check("bystanders"), "is only a suspect: the dying thread leads to"));
  nobody.history.calls[0].death_signal = nobody.history.calls[1].death_signal = SIGKILL;
  EXPECT_TRUE(holds(nobody.check("bystanders"))) << "the thread of a kill is unknown";
  MadeUp two = good;  // which of them was it?
  for (CallEvent& call : two.history.calls) call.death_role = "suspect";
  MadeUp::died_beside(two.call(1ms, "together_die"), "suspect").origin = "u";
  EXPECT_TRUE(holds(two.check("bystanders")));
  MadeUp killed = good;
  killed.kill(5ms);
  for (CallEvent& call : killed.history.calls) call.death_signal = SIGKILL;
  EXPECT_TRUE(broken(killed.check("bystanders"), "which was killed from outside"));
  killed.history.calls[0].death_role = killed.history.calls[1].death_role = "suspect";
  EXPECT_TRUE(holds(killed.check("bystanders")));
}

// Goal: whoever only stood beside a death pays for nothing: it runs again if it may, and neither a
// breaker nor the quarantine counts it.
TEST(ChaosCheckers, WhoIsInnocentRunsAgainAndPaysForNothing) {
  MadeUp good;
  good.scenario.settings.breaker.failures = 2;
  good.scenario.settings.quarantine.deaths = 2;
  CallEvent& suspect = MadeUp::died_beside(good.call(0s, "together"), "suspect");
  suspect.request = 5;
  good.call(1ms, "together").request = 5;
  EXPECT_TRUE(holds(good.check("bystanders")));
  MadeUp again = good;
  again.history.calls[0].idempotent = true;
  EXPECT_TRUE(broken(again.check("bystanders"), "is idempotent and only a suspect"));
  again.history.calls[0].left = true;
  EXPECT_TRUE(holds(again.check("bystanders"))) << "nobody waits for it";
  again.history.calls[0].left = false;
  again.history.calls[0].session = "s";
  EXPECT_TRUE(holds(again.check("bystanders"))) << "the state that it built is gone";
  MadeUp stream = again;
  stream.history.calls[0].session.clear();
  stream.history.calls[0].function = "together_stream";
  EXPECT_TRUE(holds(stream.check("bystanders"))) << "its caller has had items";
  MadeUp idle = good;
  idle.history.calls[0].death_role.clear();
  idle.history.calls[0].effect = Effect::kNone;
  EXPECT_TRUE(broken(idle.check("bystanders"), "had not begun, and was given to no other worker"));
  // The breaker: deaths of other kinds count, those of the innocent do not.
  MadeUp open = good;
  MadeUp::failed(open.call(10ms, "together"), kWorkerDied, Effect::kMaybe);
  MadeUp::failed(open.call(30ms, "together"), kCircuitOpen, Effect::kNone);
  EXPECT_TRUE(broken(open.check("bystanders"), "open after 1 failures"));
  open.history.calls[1].kind = kTimeout;
  EXPECT_TRUE(holds(open.check("bystanders")));
  // The quarantine, in the same way.
  MadeUp held = good;
  MadeUp::failed(held.call(30ms, "together"), kQuarantined, Effect::kNone).request = 5;
  EXPECT_TRUE(broken(held.check("bystanders"), "no more than 0 workers died of it alone"));
  for (const Duration sent : {10ms, 15ms}) {
    MadeUp::failed(held.call(sent, "together"), kWorkerDied, Effect::kMaybe).request = 5;
  }
  EXPECT_TRUE(holds(held.check("bystanders")));
  CallEvent& beside = held.history.calls.back();  // with others in another worker
  beside.origin = "c";
  beside.worker = {3, 3};
  beside.death_role = "culprit";
  EXPECT_TRUE(broken(held.check("bystanders"), "no more than 1 workers died of it alone"));
}

// Goal: of a batch each call has its own end, and who ends no worker is not lost for the one that
// does.
TEST(ChaosCheckers, WhatACallOfABatchDoesIsItsOwn) {
  MadeUp good;
  good.call(0ms, "gather").idempotent = true;
  MadeUp::died_beside(good.call(0ms, "gather_die"), "suspect").death_signal = SIGSEGV;
  MadeUp::died_beside(good.call(0ms, "gather"), "suspect");  // it may not run twice
  MadeUp::failed(good.call(20ms, "gather_raise"), kError, Effect::kDone);
  EXPECT_TRUE(holds(good.check("batches")));
  MadeUp lost = good;
  lost.history.calls[2].idempotent = true;
  EXPECT_TRUE(broken(lost.check("batches"), "ended no worker, and did not run again"));
  lost.history.calls[2].death_role.clear();
  EXPECT_TRUE(broken(lost.check("batches"), "ends no worker, and nothing hit worker 1.1"));
  MadeUp hit = lost;
  hit.kill(0ms);
  EXPECT_TRUE(holds(hit.check("batches"))) << "it was alone in a worker that was killed";
  lost.history.calls[2].left = true;
  EXPECT_TRUE(holds(lost.check("batches"))) << "nobody waits for it";
  MadeUp held = good;
  MadeUp::failed(held.call(30ms, "gather"), kQuarantined, Effect::kNone);
  EXPECT_TRUE(broken(held.check("batches"), "ends no worker"));
  MadeUp wrong = good;
  MadeUp::failed(wrong.call(20ms, "gather"), kError, Effect::kDone);
  EXPECT_TRUE(broken(wrong.check("batches"), "has the error of another call"));
  MadeUp swallowed = good;
  swallowed.call(20ms, "gather_raise");
  EXPECT_TRUE(broken(swallowed.check("batches"), "is ok, and was to raise"));
  EXPECT_EQ(MadeUp().check("batches").status, Status::kVacuous);
}

TEST(ChaosCheckers, ABatchBeginsAsAWholeAndHasItsWorkerToItself) {
  MadeUp good;
  good.ran_from(0ms, 10ms, 40ms, "gather");
  good.ran_from(5ms, 10ms, 40ms, "gather");
  good.ran_from(5ms, 40ms, 60ms, "gather");
  good.ran_from(5ms, 20ms, 50ms, "gather", 2);
  good.ran_from(6ms, 60ms, 61ms, "echo");
  EXPECT_TRUE(holds(good.check("batches")));
  MadeUp midst = good;
  midst.ran_from(5ms, 20ms, 40ms, "gather");
  EXPECT_TRUE(broken(midst.check("batches"), "began in the midst of the batch of call 0"));
  midst.history.calls.back().done = 60ms;  // its caller heard of it late: it may have begun before
  midst.history.calls.back().queued = 5ms;
  EXPECT_TRUE(holds(midst.check("batches")));
  MadeUp beside = good;
  beside.ran_from(5ms, 30ms, 35ms, "echo");
  EXPECT_TRUE(broken(beside.check("batches"), "which runs in batches"));
}

// Goal: who waits for a batch to fill holds up nobody, and of one function the older goes first.
TEST(ChaosCheckers, ABatchThatWaitsIsPassedByOthersOnly) {
  MadeUp good;
  good.ran_from(0ms, 20ms, 40ms, "gather");
  good.ran_from(5ms, 10ms, 12ms, "echo", 2);
  good.ran_from(6ms, 20ms, 40ms, "gather");
  EXPECT_TRUE(holds(good.check("order")));
  good.ran_from(7ms, 9ms, 40ms, "gather", 2);
  EXPECT_TRUE(broken(good.check("order"), "which is older and waited, too"));
}

TEST(ChaosCheckers, ASuspectRunsAloneUntilItIsAnswered) {
  MadeUp good;
  good.scenario.settings.quarantine.ttl = 10s;
  CallEvent& suspect = good.ran_from(0ms, 0ms, 50ms, "together");
  MadeUp::died_beside(suspect, "suspect").request = 5;
  good.ran_from(60ms, 60ms, 80ms, "together", 2).request = 5;
  good.ran_from(90ms, 90ms, 99ms, "together", 2);
  EXPECT_TRUE(holds(good.check("suspects-alone")));
  MadeUp beside = good;
  beside.ran_from(70ms, 70ms, 90ms, "together", 2);
  EXPECT_TRUE(broken(beside.check("suspects-alone"), "and ran beside call 3"));
  MadeUp elsewhere = good;
  elsewhere.ran_from(70ms, 70ms, 90ms, "together", 1);
  EXPECT_TRUE(holds(elsewhere.check("suspects-alone")));
  MadeUp killer = good;
  MadeUp::died_beside(killer.history.calls[1], "suspect");
  EXPECT_TRUE(broken(killer.check("suspects-alone"), "ran beside others"));
  MadeUp known = beside;  // that it is known to be the cause changes nothing
  known.history.calls[0].death_role = "culprit";
  EXPECT_TRUE(broken(known.check("suspects-alone"), "and ran beside call 3"));
  known.history.calls[0].death_cause = "killed";  // it did not end, and has ended nothing
  EXPECT_EQ(known.check("suspects-alone").status, Status::kVacuous);
  MadeUp bystander = beside;
  bystander.history.calls[0].death_role = "bystander";
  EXPECT_EQ(bystander.check("suspects-alone").status, Status::kVacuous);
  MadeUp ordered = beside;  // the laboratory's kill: nobody is suspected
  ordered.kill(40ms);
  EXPECT_EQ(ordered.check("suspects-alone").status, Status::kVacuous);
  MadeUp cleared = beside;
  cleared.ran_from(55ms, 55ms, 58ms, "together", 2).request = 5;
  EXPECT_TRUE(holds(cleared.check("suspects-alone"))) << "it has been answered meanwhile";
  MadeUp forgotten = beside;
  forgotten.scenario.settings.quarantine.ttl = 20ms;
  EXPECT_EQ(forgotten.check("suspects-alone").status, Status::kVacuous);
}

// Goal: a call that runs alone is not overtaken for ever: one worker takes none that is younger.
TEST(ChaosCheckers, OneWorkerIsEmptiedForACallThatRunsAlone) {
  MadeUp good;
  good.both_up();
  good.ran_from(0ms, 0ms, 100ms, "together", 1);
  good.ran_from(0ms, 0ms, 200ms, "together", 2);
  good.ran_from(5ms, 100ms, 110ms, "echo", 1);
  good.ran_from(10ms, 10ms, 30ms, "together", 2);
  good.ran_from(20ms, 20ms, 40ms, "threads", 2);
  EXPECT_TRUE(holds(good.check("order")));
  MadeUp starved = good;
  starved.ran_from(30ms, 30ms, 40ms, "together", 1);
  EXPECT_TRUE(broken(starved.check("order"), "each of 2 workers took a younger call"));
  MadeUp late = starved;  // it never had its turn
  CallEvent& echo = MadeUp::failed(late.history.calls[2], kTimeout, Effect::kNone);
  echo.worker = {};
  echo.attempts = 0;
  echo.deadline = 95ms;
  echo.queued = 95ms;
  echo.ran = 0ms;
  echo.done = 100ms;
  EXPECT_TRUE(broken(late.check("order"), "each of 2 workers took a younger call"));
  // What may have another reason accuses nobody.
  MadeUp older = starved;
  older.ran_from(0ms, 35ms, 60ms, "together", 1);
  std::ranges::rotate(older.history.calls, older.history.calls.end() - 1);
  for (std::size_t i = 0; i < older.history.calls.size(); ++i) older.history.calls[i].index = i;
  EXPECT_FALSE(broken(older.check("order"), "")) << "an older call went before it";
  MadeUp changed = starved;
  changed.history.workers.push_back({30ms, {3, 3}, 1, "ready"});
  EXPECT_FALSE(broken(changed.check("order"), "")) << "another worker came";
  MadeUp own = starved;
  own.history.calls[2].own = true;
  EXPECT_FALSE(broken(own.check("order"), "")) << "the application's echo may be anything";
}

TEST(ChaosCheckers, CallsThatRunAloneGoInTheOrderInWhichTheyCame) {
  MadeUp good;
  good.both_up();
  good.ran_from(0ms, 20ms, 30ms, "echo", 1);
  good.ran_from(5ms, 20ms, 40ms, "sleep", 2);
  EXPECT_FALSE(broken(good.check("order"), ""));
  good.history.calls[0].queued = 25ms;
  good.history.calls[0].ran = 5ms;
  EXPECT_TRUE(broken(good.check("order"), "which is older and waited, too"));
  good.history.calls[0].attempts = 2;
  EXPECT_FALSE(broken(good.check("order"), "")) << "its first attempt may have begun earlier";
}

// Goal: a younger call that runs alone does not go before an older one, and of one function the
// older call goes first. A call that may be suspected waits for other reasons.
TEST(ChaosCheckers, AYoungerCallWaitsForAnOlderOne) {
  MadeUp good;
  good.both_up();
  good.ran_from(0ms, 20ms, 40ms, "together", 1);
  good.ran_from(5ms, 10ms, 40ms, "threads", 1);
  good.ran_from(6ms, 30ms, 40ms, "echo", 2);
  good.ran_from(7ms, 20ms, 40ms, "together", 1);
  EXPECT_TRUE(holds(good.check("order"))) << "of another function, it found room";
  MadeUp alone = good;
  alone.history.calls[2].queued = 9ms;
  alone.history.calls[2].ran = 25ms;
  EXPECT_TRUE(
      broken(alone.check("order"), "call 2 (echo, of load, ok) began 5.0 ms before call 0"));
  MadeUp same = good;
  same.history.calls[3].queued = 8ms;
  same.history.calls[3].ran = 25ms;
  EXPECT_TRUE(broken(same.check("order"), "call 3 (together, of load, ok) began 5.0 ms"));
  MadeUp suspect = same;  // perhaps it runs alone, once another suspect has been answered
  suspect.history.calls[0].request = 5;
  MadeUp::failed(suspect.call(1ms, "together"), kWorkerDied, Effect::kMaybe).request = 5;
  EXPECT_TRUE(holds(suspect.check("order")));
  MadeUp in_session = same;  // perhaps its home was free
  in_session.history.calls[3].session = "s";
  EXPECT_TRUE(holds(in_session.check("order")));
}

TEST(ChaosCheckers, CallsOfASessionDoNotRunAtOnce) {
  MadeUp good;
  good.ran_from(0ms, 0ms, 20ms, "together_chain", 1, "s");
  good.ran_from(5ms, 20ms, 40ms, "chain", 1, "s");
  good.ran_from(5ms, 5ms, 40ms, "together_chain", 1, "t");
  EXPECT_TRUE(holds(good.check("order")));
  MadeUp at_once = good;
  at_once.history.calls[1].queued = 14ms;
  at_once.history.calls[1].ran = 21ms;
  EXPECT_TRUE(broken(at_once.check("order"), "of one session ran at once"));
  at_once.history.calls[1].birth = 8;
  EXPECT_TRUE(holds(at_once.check("order"))) << "another life of the session";
}

// ---- explained losses

TEST(ChaosLosses, AreExplainedByTimeTargetAndKindTogether) {
  MadeUp made;
  made.kill(1500ms);
  const auto how = [&] { return explain(made.input()).all.at(0).how; };
  CallEvent& call = MadeUp::failed(made.call(1495ms), kWorkerDied, Effect::kMaybe);
  EXPECT_EQ(how(), Explanation::kPrimary);
  call.worker = {2, 2};
  EXPECT_EQ(how(), Explanation::kUnexplained) << "another worker";
  call.worker = {1, 1};
  call.kind = kError;
  EXPECT_EQ(how(), Explanation::kUnexplained) << "a kill raises nothing";
  call.kind = kWorkerDied;
  call.sent = call.planned = 900ms;
  call.done = 910ms;
  EXPECT_EQ(how(), Explanation::kUnexplained) << "before it";
  call.sent = call.planned = 2900ms;
  call.done = 2910ms;
  EXPECT_EQ(how(), Explanation::kUnexplained) << "long after it";
  made.history.faults[0].placebo = true;
  call.sent = call.planned = 1495ms;
  EXPECT_EQ(how(), Explanation::kUnexplained) << "a placebo explains nothing";
}

// Goal: a machine that is too busy, or a pool that is too small, is not taken for one that breaks
// its promises, and never for one that keeps them; a loss of another kind still accuses.
TEST(ChaosLosses, WhatIsRefusedWithoutAnyFaultMakesTheRunInvalid) {
  MadeUp made;
  made.scenario.checks = {"I22"};
  for (Duration at = 0s; at < 3s; at += 10ms) made.call(at);
  made.kill(1500ms, {2, 2});
  MadeUp::failed(made.call(900ms), kOverloaded, Effect::kNone).worker = {};
  MadeUp::failed(made.call(2900ms), kTimeout, Effect::kNone).worker = {};
  Judgement judged = judge(made.input());
  EXPECT_EQ(judged.verdict, Verdict::kInvalid) << judged.why;
  EXPECT_THAT(judged.why, HasSubstr("1 calls were refused or too late before there was any fault"));
  MadeUp::failed(made.call(2950ms), kError, Effect::kMaybe);
  judged = judge(made.input());
  EXPECT_EQ(judged.verdict, Verdict::kSafety) << judged.why;
  EXPECT_THAT(judged.why, HasSubstr("I22 is broken"));
  made.history.calls.pop_back();
  made.history.calls[made.history.calls.size() - 2].kind = kOk;  // nothing was refused before
  EXPECT_EQ(judge(made.input()).verdict, Verdict::kSafety);
}

TEST(ChaosLosses, WantOfCapacityLastsAsLongAsTheBacklogAndNoLonger) {
  MadeUp made;
  made.kill(1500ms);
  for (Sample& sample : made.history.samples) {
    if (sample.at >= 1500ms && sample.at < 2500ms) sample.queue = 5;
  }
  CallEvent& late = MadeUp::failed(made.call(2400ms), kTimeout, Effect::kNone);
  late.worker = {};
  EXPECT_EQ(explain(made.input()).secondary, 1U);
  for (Sample& sample : made.history.samples) sample.queue = 0;
  EXPECT_EQ(explain(made.input()).unexplained, 1U) << "nothing waited: why did this one?";
}

TEST(ChaosLosses, ATableOfSessionsStaysFullUntilSomeExpireAndNoLonger) {
  MadeUp made;
  made.scenario.settings.sessions.max = 40;
  made.scenario.faults.push_back({.id = "f", .fault_class = "client.session_flood"});
  made.history.faults.push_back({.id = "f",
                                 .fault_class = "client.session_flood",
                                 .fired = 1100ms,
                                 .bit = true,
                                 .bite = 1150ms,
                                 .proof = "28 sessions were opened",
                                 .undone = false});
  for (Sample& sample : made.history.samples) {
    if (sample.at >= 1120ms && sample.at < 2500ms) sample.sessions = 40;
  }
  CallEvent& refused = MadeUp::failed(made.step(2400ms, 0), kSessionLimit, Effect::kNone);
  refused.worker = {};
  EXPECT_EQ(explain(made.input()).unexplained, 0U);
  refused.sent = refused.planned = 2900ms;
  refused.done = 2901ms;
  EXPECT_EQ(explain(made.input()).unexplained, 1U) << "there was room again";
  refused.kind = kTimeout;
  refused.sent = refused.planned = 2400ms;
  EXPECT_EQ(explain(made.input()).unexplained, 1U) << "a full table delays nobody";
  refused.kind = kSessionLimit;
  made.history.samples.clear();
  made.kill(1500ms);
  made.history.faults.erase(made.history.faults.begin());
  EXPECT_EQ(explain(made.input()).unexplained, 1U) << "a kill opens no sessions";
}

TEST(ChaosLosses, ASessionIsToldLateButOnce) {
  MadeUp made;
  made.step(500ms, 1);
  made.kill(1500ms);
  CallEvent& word = MadeUp::failed(made.step(2800ms, 0), kSessionLost, Effect::kNone);
  word.worker = {};
  Losses losses = explain(made.input());
  EXPECT_EQ(losses.primary, 1U);
  EXPECT_EQ(losses.late_words.size(), 1U);
  const PhaseStats after = phase_stats(made.history, losses, 2s, 3s);
  EXPECT_EQ(after.offered, 0U) << "its cost is the fault's, not the service's that is back";
  EXPECT_EQ(after.told, 1U);
  MadeUp::failed(made.step(2900ms, 0), kSessionLost, Effect::kNone).worker = {};
  losses = explain(made.input());
  EXPECT_EQ(losses.unexplained, 1U);
  EXPECT_EQ(losses.late_words.size(), 1U);
}

TEST(ChaosLosses, ASessionThatHasExpiredIsToldAsLate) {
  MadeUp made;
  made.scenario.faults.push_back({.id = "x", .fault_class = "pool.shorten_sessions"});
  made.scenario.faults.back().lasts = 100ms;
  made.history.faults.push_back({.id = "x",
                                 .fault_class = "pool.shorten_sessions",
                                 .fired = 1200ms,
                                 .bit = true,
                                 .bite = 1250ms,
                                 .proof = "fewer sessions",
                                 .undone = true,
                                 .undo = 1300ms});
  MadeUp::failed(made.step(2800ms, 0), kSessionExpired, Effect::kNone).worker = {};
  EXPECT_EQ(explain(made.input()).unexplained, 0U);
  MadeUp::failed(made.step(2900ms, 0), kSessionExpired, Effect::kNone).worker = {};
  EXPECT_EQ(explain(made.input()).unexplained, 1U) << "once";
}

TEST(ChaosLosses, ABreakerStaysOpenAsLongAsItsSettingSays) {
  MadeUp made;
  made.scenario.settings.breaker.open_for = 1s;
  made.kill(1500ms);
  MadeUp::failed(made.call(2500ms), kCircuitOpen, Effect::kNone).worker = {};
  EXPECT_EQ(explain(made.input()).unexplained, 0U);
  made.scenario.settings.breaker.open_for = 100ms;
  EXPECT_EQ(explain(made.input()).unexplained, 1U);
}

// ---- the verdict

class Verdicts : public testing::Test {
 protected:
  Verdicts() {
    made.scenario.checks = {"I1", "I3", "I13", "I22"};
    made.scenario.load.rate = 200;
    made.scenario.recovery = 1s;
    made.plan.firings = {{.fault = "k"}};
    made.kill(1500ms);
    for (Duration at = 0s; at < 3s; at += 5ms) made.call(at);
  }
  Judgement judged() const { return judge(made.input()); }
  MadeUp made;
};

// Goal: a recovery that is slow because other programs use this machine accuses nobody, and proves
// nothing. The load generator was late too: that is the evidence. Without it the pool is to blame.
TEST_F(Verdicts, ASlowMachineIsNotTakenForASlowService) {
  int slow = 0;
  for (CallEvent& call : made.history.calls) {
    if (call.planned < 2s || call.planned >= 2400ms || ++slow % 10 != 0) continue;
    call.sent = call.planned + 60ms;
    call.done = call.planned + 200ms;
  }
  Judgement judged = this->judged();
  EXPECT_EQ(judged.verdict, Verdict::kInconclusive) << judged.why;
  EXPECT_THAT(judged.why, HasSubstr("the load generator was 60.0 ms late at p99 after the faults"));
  for (CallEvent& call : made.history.calls) call.sent = call.planned;
  judged = this->judged();
  EXPECT_EQ(judged.verdict, Verdict::kLiveness) << judged.why;
  EXPECT_THAT(judged.why, HasSubstr("I13 is broken (slow)"));
}

TEST_F(Verdicts, APassNeedsABiteABaselineAndEveryCheck) {
  EXPECT_EQ(judged().verdict, Verdict::kPass) << judged().why;
  made.history.faults[0].bit = false;
  EXPECT_EQ(judged().verdict, Verdict::kInvalid);
  EXPECT_THAT(judged().why, HasSubstr("did not bite"));
  made.history.faults[0].bit = true;
  for (CallEvent& call : made.history.calls) {
    if (call.planned < 100ms) MadeUp::failed(call, kError, Effect::kDone);
  }
  EXPECT_EQ(judged().verdict, Verdict::kSafety) << "what no fault explains";
  made.scenario.unexplained_max = 1000;
  EXPECT_EQ(judged().verdict, Verdict::kInvalid) << judged().why;
  EXPECT_THAT(judged().why, HasSubstr("fails without any fault"));
}

TEST_F(Verdicts, DuringIsABudgetAndAfterAPromise) {
  made.scenario.unexplained_max = 1000;
  for (CallEvent& call : made.history.calls) {
    const bool lost = call.planned >= 1s && call.planned < 2s && call.index % 5 < 3;
    if (lost) MadeUp::failed(call, kTimeout, Effect::kMaybe);
  }
  // 40 % during the faults, all is well afterwards.
  made.scenario.during.ok = 0.5;
  EXPECT_EQ(judged().verdict, Verdict::kBudget) << judged().why;
  EXPECT_EQ(exit_code(judged().verdict), 3);
  made.scenario.during.ok = 0.35;
  EXPECT_EQ(judged().verdict, Verdict::kPass) << judged().why;
  for (CallEvent& call : made.history.calls) {
    if (call.planned >= 2s && call.index % 50 == 0) MadeUp::failed(call, kTimeout, Effect::kMaybe);
  }
  EXPECT_EQ(judged().verdict, Verdict::kLiveness) << "98 % are not what the baseline was";
  EXPECT_EQ(exit_code(judged().verdict), 2);
}

// Goal: where there was no time or no load to see the service come back, nothing is said of it.
TEST_F(Verdicts, ARecoveryThatCannotBeJudgedIsInvalid) {
  made.history.faults[0].bite = 2900ms;  // seen late: a daemon of its own, started and ended
  EXPECT_EQ(judged().verdict, Verdict::kInvalid) << judged().why;
  EXPECT_THAT(judged().why, HasSubstr("give recovery.for more"));
  made.history.faults[0].bite = 1500ms;
  std::erase_if(made.history.calls, [](const CallEvent& call) { return call.planned >= 2s; });
  EXPECT_EQ(judged().verdict, Verdict::kInvalid) << judged().why;
  EXPECT_THAT(judged().why, HasSubstr("the recovery has no calls"));
}

// Goal: a stray signal that ends its process is no loss to be explained away: it must not.
TEST_F(Verdicts, WhatAFaultMayNotDoIsSafety) {
  made.history.faults[0].fault_class = made.scenario.faults[0].fault_class = "proc.term";
  EXPECT_EQ(judged().verdict, Verdict::kPass) << judged().why;
  made.history.faults[0].harm = "worker 1.1 (pid 7) is gone after a signal that must not end it";
  EXPECT_EQ(judged().verdict, Verdict::kSafety);
  EXPECT_THAT(judged().why, HasSubstr("(proc.term): worker 1.1"));
}

TEST_F(Verdicts, TheWorstOneCounts) {
  made.scenario.during.ok = 1.0;
  for (CallEvent& call : made.history.calls) {
    if (call.planned >= 1500ms && call.planned < 1700ms) {
      MadeUp::failed(call, kTimeout, Effect::kMaybe);
    }
  }
  EXPECT_EQ(judged().verdict, Verdict::kBudget) << judged().why;
  made.history.facts.stopped = true;
  EXPECT_EQ(judged().verdict, Verdict::kBudget) << "a stop does not hide what was seen";
  made.history.calls[0].outcomes = 2;
  EXPECT_EQ(judged().verdict, Verdict::kSafety);
  made.history.faults[0].fault_class = made.scenario.faults[0].fault_class = "proc.stop";
  EXPECT_EQ(judged().verdict, Verdict::kResidue) << "nobody undid it";
  EXPECT_EQ(worst({Verdict::kPass, Verdict::kBudget, Verdict::kLiveness}), Verdict::kLiveness);
  EXPECT_EQ(worst({Verdict::kSkipped, Verdict::kPass}), Verdict::kPass);
  EXPECT_EQ(worst({Verdict::kSkipped}), Verdict::kSkipped);
}

}  // namespace
}  // namespace keelback::chaos
