// Calls, as callers meet them: limits, priorities, cancelling, deadlines, retries, breaker,
// quarantine, bulkhead, keys, streams.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

FunctionSpec spec(std::string name) {
  FunctionSpec made;
  made.name = std::move(name);
  return made;
}
// One worker is ready for the one function that there is, a stream; this asks for it.
CallSubmitted ready_to_stream(ModelDriver& driver, bool idempotent = false) {
  FunctionSpec tokens = spec("tokens");
  tokens.stream = true;
  tokens.idempotent = idempotent;
  driver.announce({tokens});
  driver.ready(driver.with(false).front());
  CallSubmitted call = driver.request("tokens");
  call.stream = true;
  return call;
}

// Goal: what cannot be right is refused at the door, each with its own word, and counted.
TEST(PoolCalls, BadRequestsAreRefusedAtTheDoor) {
  Settings settings = pool_of(1);
  settings.calls.payload_max = 1_KiB;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted call = driver.request();
  call.payload_bytes = 1024;
  EXPECT_EQ(driver.fate(driver.submit(call)), "running");
  call.payload_bytes = 1025;
  EXPECT_EQ(driver.fate(driver.submit(call)), "too_large");
  EXPECT_EQ(driver.fate(driver.submit("nosuch")), "unknown_function");
  const std::string at_most(256, 's'), too_long(257, 's');
  EXPECT_EQ(driver.fate(driver.submit("f", at_most)), "waiting");
  EXPECT_EQ(driver.fate(driver.submit("f", too_long)), "bad_request");
  EXPECT_EQ(driver.pool.stats(driver.now).accepted, 5u);
}

// Goal: a name that a cold pool took on trust is judged at the announcement, and the function's own
// terms apply to the calls that waited.
TEST(PoolCalls, TheAnnouncementJudgesWhatWaited) {
  ModelDriver driver(pool_of(1));
  const CallId wrong = driver.submit("nosuch"), right = driver.submit("f");
  EXPECT_EQ(driver.fate(wrong), "waiting");
  FunctionSpec f = spec("f");
  f.timeout = 3s;
  driver.advance(1s);
  driver.announce({f});
  EXPECT_EQ(driver.fate(wrong), "unknown_function");
  driver.advance(2s);
  EXPECT_EQ(driver.fate(right), "timeout");
  EXPECT_EQ(driver.outcome(right).effect, Effect::kNone);
}

// Goal: the queue is bounded; the refusal says when to come back.
TEST(PoolCalls, AFullQueueRefusesWithRetryAfter) {
  Settings settings = pool_of(1);
  settings.pool.queue_max = 2;
  ModelDriver driver(settings);
  driver.warm_up();
  for (int i = 0; i < 3; ++i) EXPECT_NE(driver.fate(driver.submit()), "overloaded");
  const CallId refused = driver.submit();
  EXPECT_EQ(driver.fate(refused), "overloaded");
  EXPECT_EQ(driver.outcome(refused).effect, Effect::kNone);
  EXPECT_GT(*driver.outcome(refused).retry_after, 0s);
  settings.pool.queue_max = 3;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(driver.submit()), "waiting") << "live";
}

// Goal: shedding goes by the queue delay of calls that any worker could serve; a session that waits
// for its own busy worker is nobody's overload.
TEST(PoolCalls, ShedsOnQueueDelay) {
  Settings settings = pool_of(2);
  settings.pool.queue_delay_max = 100ms;
  ModelDriver driver(settings);
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"));
  const CallId own = driver.submit("f", "ann");
  driver.submit("f", "ann");  // waits for its own worker alone
  driver.advance(1s);
  const CallId other = driver.submit();
  EXPECT_EQ(driver.fate(other), "running");
  driver.submit();
  driver.advance(101ms);
  EXPECT_EQ(driver.fate(driver.submit()), "overloaded");
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "waiting");
  driver.reply(other);
  EXPECT_EQ(driver.fate(driver.submit()), "waiting");
  static_cast<void>(own);
}

// Goal: how long calls have waited for a pool without workers says nothing of how long newcomers
// wait once there is one; what they wait from then on does.
TEST(PoolCalls, AnOutageThatIsOverShedsNobody) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.exit(driver.living()[0]);
  CallSubmitted request = driver.request();
  request.deadline = 5s;
  const auto ask = [&] { return driver.submit(request); };
  const CallId first = ask(), second = ask(), third = ask();
  driver.advance(4500ms);
  driver.ready(driver.living()[0]);
  EXPECT_EQ(driver.fate(first), "running");
  EXPECT_EQ(driver.fate(ask()), "waiting") << "those before it take no time";
  driver.reply(first);
  EXPECT_EQ(driver.fate(second), "running");
  EXPECT_EQ(driver.fate(third), "waiting");
  request.deadline = 300ms;
  EXPECT_EQ(driver.fate(ask()), "waiting");
  driver.advance(299ms);
  EXPECT_EQ(driver.fate(ask()), "overloaded") << "with a worker, too, the first has waited so long";
}

// Goal: high priority overtakes; within a session the order stays, and its head inherits.
TEST(PoolCalls, PriorityOrdersHeads) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId running = driver.submit();
  CallSubmitted low = driver.request("f", "ann");
  low.priority = Priority::kLow;
  const CallId head = driver.submit(low);
  const CallId normal = driver.submit();
  CallSubmitted high = driver.request("f", "ann");
  high.priority = Priority::kHigh;
  const CallId urgent = driver.submit(high);
  driver.reply(running);
  EXPECT_EQ(driver.fate(head), "running") << "for the sake of the one behind it";
  driver.reply(head);
  EXPECT_EQ(driver.fate(urgent), "running");
  driver.reply(urgent);
  EXPECT_EQ(driver.fate(normal), "running");
}

// Goal: sessions and stateless calls take turns at a worker; a long lane never keeps it.
TEST(PoolCalls, ALongLaneNeverKeepsItsWorker) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit("f", "bob"));
  const CallId ann1 = driver.submit("f", "ann"), ann2 = driver.submit("f", "ann"),
               ann3 = driver.submit("f", "ann"), bob = driver.submit("f", "bob"),
               stranger = driver.submit();
  for (const CallId next : {ann1, bob, stranger, ann2, ann3}) {
    ASSERT_EQ(driver.fate(next), "running");
    driver.reply(next);
  }
  const CallId ann4 = driver.submit("f", "ann"), ann5 = driver.submit("f", "ann"),
               other = driver.submit();
  driver.reply(ann4);
  EXPECT_EQ(driver.fate(other), "running") << "also when nobody else is bound to this worker";
  EXPECT_EQ(driver.fate(ann5), "waiting");
}

// Goal: of two calls that die at the same moment, neither is started for the other's sake.
TEST(PoolCalls, NothingStartsAtItsDeadline) {
  ModelDriver driver(pool_of(2));
  FunctionSpec one = spec("one");
  one.max_workers = 1;
  driver.announce({one, spec("f")});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  driver.submit("one");
  CallSubmitted held = driver.request("one", "ann");
  held.deadline = 1s;
  CallSubmitted behind = driver.request("f", "ann");
  behind.deadline = 1s;
  const CallId first = driver.submit(held), second = driver.submit(behind);
  driver.advance(1s);
  EXPECT_EQ(driver.fate(first), "timeout");
  EXPECT_EQ(driver.fate(second), "timeout");
  EXPECT_EQ(driver.outcome(second).attempts, 0u);
}

// Goal: cancelling ends a waiting call at once, with effect none.
TEST(PoolCalls, CancellingAWaitingCallEndsIt) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId running = driver.submit(), waiting = driver.submit();
  driver.handle(CallCancelled{waiting});
  EXPECT_EQ(driver.fate(waiting), "cancelled");
  EXPECT_EQ(driver.outcome(waiting).effect, Effect::kNone);
  driver.reply(running);
}

// Goal: cancelling a running call sets its flag and climbs no ladder; what the worker answers
// counts.
TEST(PoolCalls, CancellingARunningCallOnlySetsTheFlag) {
  Settings settings = pool_of(1);
  settings.calls.deadline = 10s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId obeys = driver.submit();
  driver.handle(CallCancelled{obeys});
  driver.handle(CallCancelled{obeys});
  driver.advance(9s);
  EXPECT_EQ(driver.count("cancel "), 1u);
  EXPECT_EQ(driver.count("interrupt "), 0u);
  driver.reply(obeys, ReplyKind::kCancelled);
  EXPECT_EQ(driver.fate(obeys), "cancelled");
  EXPECT_EQ(driver.outcome(obeys).effect, Effect::kMaybe);
  const CallId finishes = driver.submit();
  driver.handle(CallCancelled{finishes});
  driver.reply(finishes);
  EXPECT_EQ(driver.fate(finishes), "ok");
  EXPECT_EQ(driver.workers.size(), 1u) << "a client's leaving is never a worker's death";
}

// Goal: a result within the grace is a timeout with effect done, and a clean worker goes on.
TEST(PoolCalls, AResultWithinTheGraceIsATimeoutDone) {
  Settings settings = pool_of(1);
  settings.calls.answer_at = AnswerAt::kEnd;
  settings.calls.deadline = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit();
  driver.advance(1100ms);
  EXPECT_EQ(driver.pool.workers(driver.now).front().state, WorkerState::kSuspect);
  driver.reply(late);
  EXPECT_EQ(driver.fate(late), "timeout");
  EXPECT_EQ(driver.outcome(late).effect, Effect::kDone);
  EXPECT_EQ(driver.fate(driver.submit()), "running") << "on the same worker";
}

// Goal: a worker with old work in it is never handed out again after a timeout.
TEST(PoolCalls, AnUncleanWorkerIsKilledAfterATimeout) {
  Settings settings = pool_of(1);
  settings.calls.answer_at = AnswerAt::kEnd;
  settings.calls.deadline = 1s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId late = driver.submit();
  driver.advance(1100ms);
  driver.reply(late, ReplyKind::kCancelled, /*clean=*/false);
  EXPECT_EQ(driver.count("kill w1.1"), 1u);
  EXPECT_EQ(driver.fate(late), "waiting") << "its caller hears of it when nothing of it goes on";
  const CallId next = driver.submit();
  EXPECT_EQ(driver.fate(next), "waiting");
  driver.exit(WorkerId{1, 1});
  EXPECT_EQ(driver.outcome(late).kind, OutcomeKind::kTimeout);
  EXPECT_EQ(driver.outcome(late).effect, Effect::kMaybe);
  driver.warm_up();
  EXPECT_EQ(driver.fate(next), "running");
}

// Goal: what the worker answered is not forgotten while its death is waited for, and the wait ends
// with the grace, also if the process will not die.
TEST(PoolCalls, ALateUncleanAnswerIsToldAtTheDeathOrWithTheGrace) {
  Settings settings = pool_of(2);
  settings.calls.answer_at = AnswerAt::kEnd;
  settings.calls.deadline = 1s;
  settings.calls.grace = 2s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId dies = driver.submit();
  const CallId stays = driver.submit();
  driver.advance(1100ms);
  const WorkerId first = driver.worker_of(dies);
  driver.reply(dies, ReplyKind::kOk, /*clean=*/false);
  driver.reply(stays, ReplyKind::kOk, /*clean=*/false);
  driver.exit(first);
  EXPECT_EQ(driver.outcome(dies).kind, OutcomeKind::kTimeout);
  EXPECT_EQ(driver.outcome(dies).effect, Effect::kDone);
  EXPECT_EQ(driver.fate(stays), "waiting");
  driver.advance(1900ms);
  EXPECT_EQ(driver.outcome(stays).kind, OutcomeKind::kTimeout);
  EXPECT_EQ(driver.outcome(stays).effect, Effect::kDone);
}

// Goal: a call that was not pressed by the ladder leaves its worker alone, unclean or cancelled.
TEST(PoolCalls, OnlyTheLadderMakesUncleanDeadly) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  driver.reply(driver.submit("f", "ann"), ReplyKind::kOk, /*clean=*/false);
  const CallId left = driver.submit("f", "ann");
  driver.handle(CallCancelled{left});
  driver.reply(left, ReplyKind::kCancelled, /*clean=*/false);
  EXPECT_EQ(driver.fate(driver.submit("f", "ann")), "running");
  EXPECT_EQ(driver.count("kill"), 0u);
  EXPECT_EQ(driver.count("start"), 1u);
}

// Goal: the deadline is the least of the caller's, the function's and deadline_max.
TEST(PoolCalls, TheDeadlineIsTheLeastOfAll) {
  Settings settings = pool_of(1);
  settings.calls.deadline = 50s;
  settings.calls.deadline_max = 40s;
  ModelDriver driver(settings);
  FunctionSpec quick = spec("quick");
  quick.timeout = 5s;
  FunctionSpec slow = spec("slow");
  slow.timeout = 1h;
  driver.announce({spec("f"), quick, slow});
  const auto ends_after = [&](std::string_view function, std::optional<Duration> asked) {
    CallSubmitted call = driver.request(function);
    call.deadline = asked;
    const Time begin = driver.now;
    const CallId id = driver.submit(call);
    while (!driver.resolved(id)) driver.advance_to(*driver.pool.next_deadline());
    return driver.now - begin;
  };
  EXPECT_EQ(ends_after("f", {}), 40s);
  EXPECT_EQ(ends_after("f", 7s), 7s);
  EXPECT_EQ(ends_after("quick", {}), 5s);
  EXPECT_EQ(ends_after("quick", 20s), 5s);
  EXPECT_EQ(ends_after("slow", {}), 40s);
  EXPECT_EQ(ends_after("f", 0s), 0s) << "dead on arrival";
}

// Goal: a stateless call whose worker died before it began runs again silently.
TEST(PoolCalls, NotStartedIsDispatchedAgain) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId call = driver.submit();
  const WorkerId first = driver.worker_of(call);
  driver.exit(first, /*started=*/false);
  EXPECT_NE(driver.worker_of(call), first);
  driver.reply(call);
  EXPECT_EQ(driver.fate(call), "ok");
  EXPECT_EQ(driver.outcome(call).attempts, 2u);
  EXPECT_EQ(driver.pool.stats(driver.now).retries, 0u) << "free: nothing had run";
}

// Goal: a pool that stood still (its process was stopped) past a call's deadline and grace hears
// what the worker has said meanwhile before it kills anybody, and still ends a call that says
// nothing.
TEST(PoolCalls, APoolThatStoodStillListensBeforeItKills) {
  Settings settings = pool_of(2);
  settings.calls.answer_at = AnswerAt::kEnd;
  settings.calls.grace = 2s;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted request = driver.request();
  request.deadline = 1s;
  const CallId answered = driver.submit(request), silent = driver.submit(request);
  driver.grace_max = 1min;  // nobody could be told while it stood still
  driver.now += 30s;
  driver.handle(Tick{});
  EXPECT_EQ(driver.count("kill"), 0u);
  driver.reply(answered);
  EXPECT_EQ(driver.fate(answered), "timeout");
  EXPECT_EQ(driver.outcome(answered).effect, Effect::kDone);
  driver.advance(1s);
  EXPECT_EQ(driver.fate(silent), "timeout");
  EXPECT_EQ(driver.count("kill"), 1u) << "the silent one's worker only";
}

// Goal: an idempotent call is retried after a pause, calls.retries times, then tells the truth:
// worker_died, maybe. A deadline in between keeps the `maybe`.
TEST(PoolCalls, AnIdempotentCallIsRetriedWithinItsMeans) {
  Settings settings = pool_of(2);
  settings.calls.retries = 1;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted request = driver.request();
  request.idempotent = true;
  const CallId call = driver.submit(request);
  driver.exit(driver.worker_of(call));
  EXPECT_EQ(driver.fate(call), "waiting") << "a pause";
  EXPECT_EQ(driver.pool.stats(driver.now).in_flight, 1u);
  driver.warm_up();
  driver.advance(1s);
  EXPECT_EQ(driver.fate(call), "running");
  driver.exit(driver.worker_of(call));
  EXPECT_EQ(driver.fate(call), "worker_died");
  EXPECT_EQ(driver.outcome(call).attempts, 2u);
  EXPECT_EQ(driver.pool.stats(driver.now).retries, 1u);

  request.deadline = 100ms;
  const CallId brief = driver.submit(request);
  driver.exit(driver.worker_of(brief));
  const CallId hog = driver.submit();
  driver.advance(200ms);
  EXPECT_EQ(driver.fate(brief), "timeout");
  EXPECT_EQ(driver.outcome(brief).effect, Effect::kMaybe) << "its first attempt had started";
  static_cast<void>(hog);
}

// Goal: a call taken on trust by a cold pool is as idempotent as its function turns out to be.
TEST(PoolCalls, AColdCallIsRetriedIfItsFunctionAllowsIt) {
  ModelDriver driver(pool_of(1));
  const CallId call = driver.submit();
  FunctionSpec f = spec("f");
  f.idempotent = true;
  driver.announce({f});
  driver.ready(WorkerId{1, 1});
  driver.exit(WorkerId{1, 1});
  EXPECT_EQ(driver.fate(call), "waiting");
  driver.ready(WorkerId{1, 2});
  driver.advance(1s);
  EXPECT_EQ(driver.fate(call), "running");
}

// Goal: five deaths open one function's circuit and no other; a probe closes it again.
TEST(PoolCalls, ABreakerOpensForItsFunctionAlone) {
  Settings settings = pool_of(1);
  settings.breaker.failures = 2;
  settings.breaker.open_for = 5s;
  settings.quarantine.deaths = 0;
  ModelDriver driver(settings);
  driver.announce({"bad", "good"});
  for (int i = 0; i < 2; ++i) {
    driver.ready(driver.with(false).front());
    driver.exit(driver.worker_of(driver.submit("bad")));
  }
  driver.ready(driver.with(false).front());
  const CallId refused = driver.submit("bad");
  EXPECT_EQ(driver.fate(refused), "circuit_open");
  EXPECT_EQ(driver.outcome(refused).retry_after, 5s);
  driver.reply(driver.submit("good"));
  driver.advance(5s);
  const CallId probe = driver.submit("bad");
  EXPECT_EQ(driver.fate(probe), "running");
  EXPECT_EQ(driver.fate(driver.submit("bad")), "circuit_open") << "one probe at a time";
  driver.reply(probe);
  EXPECT_EQ(driver.fate(driver.submit("bad")), "running");
}

// Goal: a caller's tiny deadline trips nothing; the function's own limit does.
TEST(PoolCalls, OnlyTheFunctionsOwnLimitTripsItsBreaker) {
  Settings settings = pool_of(1);
  settings.breaker.failures = 1;
  settings.calls.deadline = 10s;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted tiny = driver.request();
  tiny.deadline = 10ms;
  const CallId hasty = driver.submit(tiny);
  driver.advance(20ms);
  driver.reply(hasty);
  const CallId slow = driver.submit();
  EXPECT_EQ(driver.fate(slow), "running");
  driver.advance(10s);
  driver.reply(slow);
  EXPECT_EQ(driver.fate(driver.submit()), "circuit_open");
}

// Goal: a request that killed two workers in a row is refused, listed, and released.
TEST(PoolCalls, ARequestThatKillsIsQuarantined) {
  Settings settings = pool_of(2);
  settings.breaker.failures = 0;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted poison = driver.request();
  poison.fingerprint = 77;
  for (int i = 0; i < 2; ++i) {
    driver.exit(driver.worker_of(driver.submit(poison)));
    driver.warm_up();
  }
  EXPECT_EQ(driver.fate(driver.submit(poison)), "quarantined");
  CallSubmitted healthy = driver.request();
  healthy.fingerprint = 78;
  EXPECT_EQ(driver.fate(driver.submit(healthy)), "running");
  const auto held = driver.pool.quarantine(driver.now);
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].fingerprint, 77u);
  EXPECT_EQ(held[0].deaths, 2u);
  EXPECT_EQ(driver.pool.stats(driver.now).quarantined, 1u);
  driver.handle(QuarantineReleased{77});
  EXPECT_EQ(driver.fate(driver.submit(poison)), "running");
}

// Goal: those that already waited when their like was quarantined end as those that come later; not
// one more worker dies of them.
TEST(PoolCalls, WhatWaitsIsQuarantinedToo) {
  Settings settings = pool_of(1);
  settings.breaker.failures = 0;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted poison = driver.request();
  poison.fingerprint = 77;
  std::vector<CallId> poisons;
  for (int i = 0; i < 5; ++i) poisons.push_back(driver.submit(poison));
  CallSubmitted healthy = driver.request();
  healthy.fingerprint = 78;
  const CallId last = driver.submit(healthy);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(driver.fate(poisons[static_cast<std::size_t>(i)]), "running");
    driver.exit(driver.worker_of(poisons[static_cast<std::size_t>(i)]));
    driver.warm_up();
  }
  for (std::size_t i = 2; i < poisons.size(); ++i)
    EXPECT_EQ(driver.fate(poisons[i]), "quarantined");
  EXPECT_EQ(driver.fate(last), "running");
}

// Goal: the same within a session, whose lane they would have filled one after another.
TEST(PoolCalls, ASessionsLaneIsQuarantinedToo) {
  Settings settings = pool_of(2);
  settings.breaker.failures = 0;
  settings.quarantine.deaths = 1;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted poison = driver.request();
  poison.fingerprint = 77;
  const CallId first = driver.submit(poison);
  CallSubmitted mine = driver.request();
  mine.session = "s";
  const CallId running = driver.submit(mine);
  mine.fingerprint = 77;
  const CallId behind = driver.submit(mine);
  const CallId further = driver.submit(mine);
  driver.exit(driver.worker_of(first));
  driver.reply(running);
  EXPECT_EQ(driver.fate(behind), "quarantined");
  EXPECT_EQ(driver.fate(further), "quarantined");
}

// Goal: our own kills quarantine nobody.
TEST(PoolCalls, TheLadderQuarantinesNobody) {
  Settings settings = pool_of(1);
  settings.calls.deadline = 1s;
  settings.breaker.failures = 0;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted slow = driver.request();
  slow.fingerprint = 77;
  for (int i = 0; i < 3; ++i) {
    const CallId call = driver.submit(slow);
    ASSERT_EQ(driver.fate(call), "running");
    driver.advance(2600ms);
    driver.exit(driver.worker_of(call), true, "killed");
    EXPECT_EQ(driver.fate(call), "timeout");
    driver.warm_up();
  }
}

// Goal: the chaos laboratory's kills quarantine nobody, however often they meet the same request;
// and it answers for the worker that it named, not for the next one.
TEST(PoolCalls, TheLaboratoryQuarantinesNobody) {
  Settings settings = pool_of(1);
  settings.breaker.failures = 0;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted request = driver.request();
  request.fingerprint = 77;
  for (int i = 0; i < 3; ++i) {
    const CallId call = driver.submit(request);
    ASSERT_EQ(driver.fate(call), "running");
    const WorkerId worker = driver.worker_of(call);
    driver.handle(DeathOrdered{worker});
    driver.exit(worker);
    EXPECT_EQ(driver.fate(call), "worker_died");
    driver.warm_up();
  }
  driver.handle(DeathOrdered{WorkerId{1, 4711}});  // nobody
  for (int i = 0; i < 2; ++i) {
    driver.exit(driver.worker_of(driver.submit(request)));
    driver.warm_up();
  }
  EXPECT_EQ(driver.fate(driver.submit(request)), "quarantined");
}

// Goal: a bulkhead holds at most max_workers at once and blocks nobody else.
TEST(PoolCalls, ABulkheadLeavesWorkersForOthers) {
  ModelDriver driver(pool_of(3));
  FunctionSpec one = spec("one");
  one.max_workers = 1;
  driver.announce({one, spec("f")});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  const CallId first = driver.submit("one"), second = driver.submit("one", "ann");
  const CallId third = driver.submit("one"), other = driver.submit("f");
  EXPECT_EQ(driver.fate(first), "running");
  EXPECT_EQ(driver.fate(second), "waiting");
  EXPECT_EQ(driver.fate(other), "running");
  driver.handle(CallCancelled{second});
  driver.reply(first);
  EXPECT_EQ(driver.fate(third), "running");
}

// Goal: the same key gives the same answer: joined while in flight, replayed afterwards, forgotten
// after the ttl; another body is refused; a call that nothing was done for leaves the key free.
TEST(PoolCalls, AnIdempotencyKeyGivesTheSameAnswer) {
  Settings settings = pool_of(1);
  settings.calls.idempotency_ttl = 1min;
  ModelDriver driver(settings);
  driver.warm_up();
  CallSubmitted keyed = driver.request();
  keyed.idempotency_key = "k";
  keyed.fingerprint = 1;
  const CallId leader = driver.submit(keyed), joined = driver.submit(keyed);
  EXPECT_EQ(driver.fate(joined), "waiting");
  driver.reply(leader);
  EXPECT_EQ(driver.fate(joined), "ok");
  const CallId replayed = driver.submit(keyed);
  EXPECT_EQ(driver.fate(replayed), "ok");
  EXPECT_EQ(driver.count("dispatch"), 1u);
  EXPECT_EQ(driver.count("replay r3 of r1 ok done"), 1u);
  CallSubmitted other = keyed;
  other.fingerprint = 2;
  const CallId refused = driver.submit(other);
  EXPECT_EQ(driver.fate(refused), "bad_request");
  EXPECT_TRUE(driver.outcome(refused).key_reused);
  driver.advance(1min);
  EXPECT_EQ(driver.count("forget r1"), 1u);
  EXPECT_TRUE(driver.retained.empty());
  const CallId anew = driver.submit(other);
  EXPECT_EQ(driver.fate(anew), "running");
  driver.handle(CallCancelled{driver.submit(keyed)});
}

// Goal: a joined call that gives up says whether what it waited for may have run.
TEST(PoolCalls, AJoinedCallThatLeavesKnowsTheEffect) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId hog = driver.submit();
  CallSubmitted keyed = driver.request();
  keyed.idempotency_key = "k";
  driver.submit(keyed);
  const CallId early = driver.submit(keyed), late = driver.submit(keyed);
  driver.handle(CallCancelled{early});
  EXPECT_EQ(driver.outcome(early).effect, Effect::kNone);
  driver.reply(hog);
  driver.handle(CallCancelled{late});
  EXPECT_EQ(driver.outcome(late).effect, Effect::kMaybe);
}

// Goal: when the first call of a key leaves while it waits, a joined one takes its place.
TEST(PoolCalls, AJoinedCallInheritsTheKey) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId hog = driver.submit();
  CallSubmitted keyed = driver.request("f", "ann");
  keyed.idempotency_key = "k";
  const CallId leader = driver.submit(keyed), heir = driver.submit(keyed),
               third = driver.submit(keyed);
  driver.handle(CallCancelled{leader});
  EXPECT_EQ(driver.fate(leader), "cancelled");
  driver.reply(hog);
  EXPECT_EQ(driver.fate(heir), "running");
  driver.handle(CallCancelled{heir});
  EXPECT_EQ(driver.count("cancel "), 0u) << "another still waits for the answer";
  driver.reply(heir);
  EXPECT_EQ(driver.fate(third), "ok");
}

// Goal: the one that inherits the key keeps its own place in its session: before what came later,
// behind what came earlier.
TEST(PoolCalls, AnHeirOfAKeyKeepsItsPlaceInItsSession) {
  ModelDriver driver(pool_of(1));
  driver.warm_up();
  const CallId hog = driver.submit();
  const CallSubmitted plain = driver.request("f", "ann");
  CallSubmitted keyed = plain;
  keyed.idempotency_key = "k";
  const CallId leader = driver.submit(keyed), earlier = driver.submit(plain),
               heir = driver.submit(keyed), later = driver.submit(plain);
  driver.handle(CallCancelled{leader});
  driver.reply(hog);
  for (const CallId next : {earlier, heir, later}) {
    ASSERT_EQ(driver.fate(next), "running") << next.value;
    driver.reply(next);
  }
}

// Goal: a stream may be long but not silent: calls.stream_idle after its last item it ends.
TEST(PoolCalls, ASilentStreamEnds) {
  Settings settings = pool_of(1);
  settings.calls.stream_idle = 1s;
  settings.calls.deadline = 1min;
  ModelDriver driver(settings);
  const CallSubmitted call = ready_to_stream(driver);
  const CallId stream = driver.submit(call);
  for (int i = 0; i < 5; ++i) {
    driver.advance(900ms);
    driver.handle(StreamMoved{driver.worker_of(stream), stream});
  }
  EXPECT_EQ(driver.count("cancel"), 0u);
  driver.advance(1s);
  EXPECT_EQ(driver.count("cancel"), 1u);
  driver.reply(stream, ReplyKind::kCancelled);
  EXPECT_EQ(driver.fate(stream), "timeout");
  EXPECT_NE(driver.outcome(stream).message.find("stream_idle"), std::string::npos);
}

// Goal: a reader that takes its time is no silence of the worker's: while the credit is used up
// calls.stream_idle does not run, and the call's deadline still does. With the next credit it runs
// anew, from then on.
TEST(PoolCalls, AStreamThatIsHeldBackByItsReaderIsNotSilent) {
  Settings settings = pool_of(1);
  settings.calls.stream_idle = 1s;
  settings.calls.deadline = 1min;
  settings.calls.grace = 1s;
  ModelDriver driver(settings);
  const CallSubmitted call = ready_to_stream(driver);
  const CallId slow = driver.submit(call), gone = driver.submit(call);
  driver.handle(StreamGranted{gone, 3});  // it waits; this counts when it runs
  const auto speak = [&](CallId stream, int items) {
    for (int i = 0; i < items; ++i) driver.handle(StreamMoved{driver.worker_of(stream), stream});
  };
  speak(slow, 16);
  driver.advance(20s);
  EXPECT_EQ(driver.count("cancel"), 0u) << "the reader's silence, not the worker's";
  driver.handle(StreamGranted{slow, 2});
  driver.advance(900ms);
  speak(slow, 1);
  driver.advance(900ms);
  EXPECT_EQ(driver.count("cancel"), 0u);
  driver.advance(200ms);
  EXPECT_EQ(driver.count("cancel"), 1u) << "it might have sent one more";
  driver.reply(slow, ReplyKind::kCancelled);

  speak(gone, 19);
  driver.advance(30s);
  EXPECT_EQ(driver.fate(gone), "running") << "16 and the 3 that were granted while it waited";
  driver.advance(10s);
  EXPECT_EQ(driver.fate(gone), "timeout") << "the deadline is total";
  EXPECT_EQ(driver.outcome(gone).message.find("stream_idle"), std::string::npos);
}

// Goal: a stream that has begun to speak is not begun again, idempotent or not: its caller would
// hear the first items twice. One that had said nothing yet is tried again.
TEST(PoolCalls, AStreamThatHasSpokenIsNotTriedAgain) {
  for (const bool spoke : {false, true}) {
    ModelDriver driver(pool_of(1));
    const CallSubmitted call = ready_to_stream(driver, /*idempotent=*/true);
    const CallId stream = driver.submit(call);
    const WorkerId worker = driver.worker_of(stream);
    if (spoke) driver.handle(StreamMoved{worker, stream});
    driver.exit(worker);
    EXPECT_EQ(driver.fate(stream), spoke ? "worker_died" : "waiting");
  }
}

}  // namespace
}  // namespace keelback::core
