// Batches in the pool: when they go and to whom, their deadlines, and what their deaths mean.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

FunctionSpec batched(std::string name, std::uint32_t batch, Duration wait = {}) {
  FunctionSpec made;
  made.name = std::move(name);
  made.batch = batch;
  made.batch_wait = wait;
  return made;
}

// "eight" takes up to 8 at once and waits for nobody, "patient" waits 10 ms, "f" runs alone.
void ready_for_batches(ModelDriver& driver) {
  FunctionSpec alone;
  alone.name = "f";
  driver.announce({batched("eight", 8), batched("patient", 8, 10ms), alone});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
}
std::vector<CallId> send_many(ModelDriver& driver, std::string_view function, int count,
                              bool idempotent = true) {
  std::vector<CallId> calls;
  for (int i = 0; i < count; ++i) {
    CallSubmitted call = driver.request(function);
    call.fingerprint = 100 + driver.calls.size();
    call.idempotent = idempotent;
    calls.push_back(driver.submit(call));
  }
  return calls;
}
std::size_t size_at(const ModelDriver& driver, CallId call) {
  return driver.workers.at(driver.worker_of(call)).calls.size();
}
void reply_all(ModelDriver& driver, const std::vector<CallId>& calls) {
  for (const CallId call : calls) {
    if (driver.fate(call) == "running") driver.reply(call);
  }
}
int count_fate(ModelDriver& driver, const std::vector<CallId>& calls, const std::string& fate) {
  return static_cast<int>(
      std::ranges::count_if(calls, [&](CallId call) { return driver.fate(call) == fate; }));
}

// ---- when, and to whom

// Goal: without a wait a batch is what waits when a worker becomes free, and the worker is free
// again when all of it has ended.
TEST(PoolBatch, ABatchIsWhatWaitsWhenAWorkerBecomesFree) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const auto calls = send_many(driver, "eight", 12);
  EXPECT_EQ(size_at(driver, calls[0]), 1u) << "the worker was idle";
  const CallId alone = driver.submit("f");
  driver.reply(calls[0]);
  EXPECT_EQ(size_at(driver, calls[1]), 8u);
  EXPECT_EQ(driver.fate(calls[9]), "waiting");
  for (int i = 1; i < 8; ++i) driver.reply(calls[i]);
  EXPECT_EQ(driver.fate(alone), "waiting") << "one of the batch still runs";
  driver.reply(calls[8]);
  EXPECT_EQ(size_at(driver, calls[9]), 3u) << "they came before the call that runs alone";
  reply_all(driver, calls);
  EXPECT_EQ(driver.fate(alone), "running");
  const PoolStats stats = driver.pool.stats(driver.now);
  ASSERT_EQ(stats.batches.size(), 2u);
  EXPECT_EQ(stats.batches[0].sizes.batches, 3u);
  EXPECT_EQ(stats.batches[0].sizes.calls, 12u);
  EXPECT_EQ(stats.capacity.used, 1u);
}

// Goal: a patient function's calls wait for others as long as they may, though a worker is idle,
// and go at once when the batch is full.
TEST(PoolBatch, AWaitEndsWithItsTimeOrWithAFullBatch) {
  ModelDriver driver(pool_of(2));
  ready_for_batches(driver);
  const auto few = send_many(driver, "patient", 3);
  EXPECT_EQ(count_fate(driver, few, "waiting"), 3);
  driver.advance(9ms);
  EXPECT_EQ(count_fate(driver, few, "waiting"), 3);
  driver.advance(1ms);
  EXPECT_EQ(size_at(driver, few[0]), 3u);
  const auto more = send_many(driver, "patient", 8);
  EXPECT_EQ(count_fate(driver, more, "running"), 8);
}

// Goal: a batch that waits for others holds up nobody.
TEST(PoolBatch, OthersPassABatchThatWaitsForMore) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const auto patient = send_many(driver, "patient", 2);
  const CallId alone = driver.submit("f");
  EXPECT_EQ(driver.fate(alone), "running");
  driver.advance(10ms);
  const CallId younger = driver.submit("f");
  driver.reply(alone);
  EXPECT_EQ(count_fate(driver, patient, "running"), 2) << "now it is its turn";
  EXPECT_EQ(driver.fate(younger), "waiting");
}

// Goal: if few calls come, none waits while a worker is idle, also one that came while none was.
TEST(PoolBatch, NobodyWaitsForOthersThatDoNotCome) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  reply_all(driver, send_many(driver, "patient", 1));
  driver.advance(10ms);
  for (const auto& [id, call] : driver.calls) driver.reply(CallId{id});
  driver.advance(1s);
  const auto next = send_many(driver, "patient", 1);
  EXPECT_EQ(driver.fate(next[0]), "running");
  const auto third = send_many(driver, "patient", 1);
  EXPECT_EQ(driver.fate(third[0]), "waiting");
  driver.reply(next[0]);
  EXPECT_EQ(driver.fate(third[0]), "running") << "the worker has become idle";
}

// Goal: the wait never costs a call its deadline.
TEST(PoolBatch, NoCallWaitsLongerThanItsSlack) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  CallSubmitted hurried = driver.request("patient");
  hurried.deadline = 4ms;
  const CallId call = driver.submit(hurried);
  EXPECT_EQ(driver.fate(call), "waiting");
  driver.advance(2ms);
  EXPECT_EQ(driver.fate(call), "running");
}

// Goal: priorities and batch keys keep calls apart; the more urgent batch goes first.
TEST(PoolBatch, KeysAndPrioritiesKeepCallsApart) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const CallId first = driver.submit("f");
  std::vector<CallId> low, keyed, high;
  for (int i = 0; i < 6; ++i) {
    CallSubmitted call = driver.request("eight");
    if (i % 3 == 0) call.priority = Priority::kHigh;
    if (i % 3 == 1) call.batch_key = "tenant 1";
    (i % 3 == 0 ? high : i % 3 == 1 ? keyed : low).push_back(driver.submit(call));
  }
  driver.reply(first);
  EXPECT_EQ(count_fate(driver, high, "running"), 2);
  EXPECT_EQ(size_at(driver, high[0]), 2u);
  reply_all(driver, high);
  EXPECT_EQ(size_at(driver, keyed[0]), 2u);
  reply_all(driver, keyed);
  EXPECT_EQ(size_at(driver, low[0]), 2u);
}

// Goal: the bulkhead counts workers, not calls; each free worker takes a batch.
TEST(PoolBatch, TheBulkheadCountsWorkers) {
  ModelDriver driver(pool_of(3));
  FunctionSpec two = batched("two", 2);
  two.max_workers = 2;
  driver.announce({two});
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
  const auto calls = send_many(driver, "two", 7);
  EXPECT_EQ(count_fate(driver, calls, "running"), 2) << "one alone in each";
  driver.reply(calls[0]);
  EXPECT_EQ(count_fate(driver, calls, "running"), 3);
  driver.reply(calls[1]);
  EXPECT_EQ(count_fate(driver, calls, "running"), 4);
  reply_all(driver, calls);
  reply_all(driver, calls);
  EXPECT_EQ(count_fate(driver, calls, "ok"), 7);
}

// Goal: what waits for others counts against the queue's bound, also while workers are idle.
TEST(PoolBatch, WaitingForOthersIsBounded) {
  Settings settings = pool_of(1);
  settings.pool.queue_max = 3;
  ModelDriver driver(settings);
  ready_for_batches(driver);
  const auto calls = send_many(driver, "patient", 4);
  EXPECT_EQ(count_fate(driver, calls, "waiting"), 3);
  EXPECT_EQ(driver.fate(calls[3]), "overloaded");
}

// Goal: a session is refused, also if the call came before its function was known.
TEST(PoolBatch, ASessionIsABadRequest) {
  ModelDriver driver(pool_of(1));
  const CallId early = driver.submit("eight", "ann");
  ready_for_batches(driver);
  EXPECT_EQ(driver.fate(early), "bad_request");
  const CallId call = driver.submit("eight", "ann");
  EXPECT_EQ(driver.fate(call), "bad_request");
  EXPECT_EQ(driver.outcome(call).effect, Effect::kNone);
}

// Goal: calls that waited before their function was known, or changed, go as it says now.
TEST(PoolBatch, AnAnnouncementRegroupsWhatWaits) {
  ModelDriver driver(pool_of(1));
  const auto calls = send_many(driver, "eight", 4);
  driver.announce({batched("eight", 8, 1h)});
  driver.ready(driver.with(false)[0]);
  EXPECT_EQ(count_fate(driver, calls, "waiting"), 4) << "they wait for others";
  FunctionSpec alone;
  alone.name = "eight";
  driver.announce({alone});
  EXPECT_EQ(count_fate(driver, calls, "running"), 1);
  driver.announce({batched("eight", 2)});
  driver.reply(calls[0]);
  EXPECT_EQ(count_fate(driver, calls, "running"), 2);
}

// Goal: a drain waits for nobody.
TEST(PoolBatch, ADrainEndsTheWait) {
  ModelDriver driver(pool_of(1));
  driver.announce({batched("eight", 8, 1h)});
  driver.ready(driver.with(false)[0]);
  const auto calls = send_many(driver, "eight", 3);
  driver.handle(DrainRequested{1h});
  EXPECT_EQ(count_fate(driver, calls, "running"), 3);
}

// ---- one outcome for each

// Goal: who is cancelled or times out while it waits is left out, and the others go in one batch.
TEST(PoolBatch, WhoLeavesBeforeTheStartIsLeftOut) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  auto calls = send_many(driver, "patient", 2);
  CallSubmitted short_lived = driver.request("patient");
  short_lived.deadline = 20ms;
  const CallId busy = driver.submit("f");
  const CallId timed = driver.submit(short_lived);
  driver.handle(CallCancelled{calls[0]});
  EXPECT_EQ(driver.fate(calls[0]), "cancelled");
  driver.advance(30ms);
  EXPECT_EQ(driver.fate(timed), "timeout");
  EXPECT_EQ(driver.outcome(timed).effect, Effect::kNone);
  driver.reply(busy);
  EXPECT_EQ(driver.fate(calls[1]), "running");
  EXPECT_EQ(size_at(driver, calls[1]), 1u);
}

// Goal: an error is that of its call alone.
TEST(PoolBatch, AnErrorIsThatOfItsCallAlone) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const auto calls = send_many(driver, "eight", 4);
  driver.reply(calls[0]);
  driver.reply(calls[1]);
  driver.reply(calls[2], ReplyKind::kError);
  driver.reply(calls[3]);
  EXPECT_EQ(driver.fate(calls[2]), "error");
  EXPECT_EQ(count_fate(driver, calls, "ok"), 3);
}

// Goal: each caller hears at its own deadline; the ladder begins when the last one has passed, and
// presses the batch once.
TEST(PoolBatch, TheLadderBeginsAtTheLastDeadline) {
  Settings settings = pool_of(1);
  settings.calls.grace = 1s;
  ModelDriver driver(settings);
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  std::vector<CallId> calls;
  for (const Duration deadline : {3s, 1s, 2s}) {
    CallSubmitted call = driver.request("eight");
    call.deadline = deadline;
    calls.push_back(driver.submit(call));
  }
  driver.reply(busy);
  driver.advance(1s);
  EXPECT_EQ(driver.fate(calls[1]), "timeout");
  EXPECT_EQ(driver.fate(calls[0]), "running");
  driver.advance(1s);
  EXPECT_EQ(driver.fate(calls[2]), "timeout");
  driver.advance(999ms);
  EXPECT_EQ(driver.count("interrupt"), 0u);
  EXPECT_EQ(driver.count("kill"), 0u);
  driver.advance(1ms);
  EXPECT_EQ(driver.fate(calls[0]), "timeout");
  driver.advance(601ms);
  EXPECT_EQ(driver.count("interrupt"), 1u);
  EXPECT_EQ(driver.count("kill"), 0u);
  driver.advance(300ms);
  EXPECT_EQ(driver.count("dump"), 1u);
  EXPECT_EQ(driver.count("kill"), 1u);
  const WorkerId worker = driver.worker_of(calls[0]);
  driver.exit(worker, true, "killed");
  EXPECT_EQ(driver.pool.stats(driver.now).late, 0u);
}

// Goal: a call that has been answered has no say in when the ladder begins.
TEST(PoolBatch, TheLadderLooksAtTheCallsThatStillRun) {
  Settings settings = pool_of(1);
  settings.calls.grace = 1s;
  ModelDriver driver(settings);
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  std::vector<CallId> calls;
  for (const Duration deadline : {30s, 1s, 1s}) {
    CallSubmitted call = driver.request("eight");
    call.deadline = deadline;
    calls.push_back(driver.submit(call));
  }
  driver.reply(busy);
  driver.refuse(calls[0], ReplyKind::kBadRequest);
  driver.advance(1950ms);
  EXPECT_EQ(driver.count("kill"), 1u);
}

// Goal: with calls.answer_at = end a caller hears when its grace is over, though the batch has
// more time.
TEST(PoolBatch, WithAnswerAtEndACallerHearsWhenItsGraceIsOver) {
  Settings settings = pool_of(1);
  settings.calls.grace = 1s;
  settings.calls.answer_at = AnswerAt::kEnd;
  ModelDriver driver(settings);
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  std::vector<CallId> calls;
  for (const Duration deadline : {1s, 30s}) {
    CallSubmitted call = driver.request("eight");
    call.deadline = deadline;
    calls.push_back(driver.submit(call));
  }
  driver.reply(busy);
  driver.advance(1999ms);
  EXPECT_EQ(driver.fate(calls[0]), "running");
  driver.advance(1ms);
  EXPECT_EQ(driver.fate(calls[0]), "timeout");
  driver.reply(calls[0]);
  driver.reply(calls[1]);
  EXPECT_EQ(driver.fate(calls[1]), "ok");
}

// ---- deaths

// Starts workers until none waits to be.
void start_all(ModelDriver& driver) {
  for (const WorkerId worker : driver.with(false)) driver.ready(worker);
}

// Plays until all calls have ended: a worker that has `killer` dies, every other one answers.
void play_out(ModelDriver& driver, const std::vector<CallId>& calls, CallId killer = {}) {
  const auto open = [&] {
    return count_fate(driver, calls, "waiting") + count_fate(driver, calls, "running");
  };
  for (int round = 0; round < 200 && open() > 0; ++round) {
    driver.advance(10ms);
    start_all(driver);
    for (const CallId call : calls) {
      if (driver.fate(call) != "running") continue;
      const WorkerId worker = driver.worker_of(call);
      if (killer && driver.worker_of(killer) == worker) {
        driver.exit(worker);
      } else {
        driver.reply(call);
      }
    }
  }
}

// Goal: of idempotent calls the one that kills is found by halves and quarantined, and all others
// end ok. The halves use no retries, no budget, and open no breaker.
TEST(PoolBatch, HalvesFindTheCallThatKills) {
  for (int place = 0; place < 8; ++place) {
    Settings settings = pool_of(2);
    settings.calls.retries = 0;
    settings.calls.retry_budget = 0;
    settings.breaker.failures = 2;
    settings.quarantine.deaths = 3;
    ModelDriver driver(settings);
    ready_for_batches(driver);
    const CallId first = driver.submit("f"), second = driver.submit("f");
    const auto calls = send_many(driver, "eight", 8);
    driver.reply(first);
    ASSERT_EQ(size_at(driver, calls[0]), 8u);
    driver.reply(second);
    const CallId killer = calls[static_cast<std::size_t>(place)];
    play_out(driver, calls, killer);
    EXPECT_EQ(count_fate(driver, calls, "ok"), 7) << place;
    EXPECT_EQ(driver.fate(killer), "worker_died");
    EXPECT_EQ(driver.outcome(killer).death->role, DeathRole::kNone);
    EXPECT_EQ(driver.calls.at(killer.value).dispatches, 4u) << "8, 4, 2, 1";
    const PoolStats stats = driver.pool.stats(driver.now);
    EXPECT_EQ(stats.retries, 0u);
    EXPECT_EQ(stats.quarantined, 1u);
    EXPECT_NE(driver.fate(send_many(driver, "eight", 1)[0]), "circuit_open") << "one failure";
  }
}

// Goal: calls that may not run twice end worker_died as suspects, and the idempotent ones beside
// them run again.
TEST(PoolBatch, WhatMayNotRunTwiceEndsAsSuspect) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  const auto once = send_many(driver, "eight", 2, false);
  const auto twice = send_many(driver, "eight", 2, true);
  driver.reply(busy);
  driver.exit(driver.worker_of(once[0]));
  for (const CallId call : once) {
    EXPECT_EQ(driver.fate(call), "worker_died");
    EXPECT_EQ(driver.outcome(call).effect, Effect::kMaybe);
    EXPECT_EQ(driver.outcome(call).death->role, DeathRole::kSuspect);
  }
  EXPECT_EQ(count_fate(driver, twice, "waiting"), 2);
  play_out(driver, twice);
  EXPECT_EQ(count_fate(driver, twice, "ok"), 2);
}

// Goal: a suspect's next call goes by itself; alone it has no role, and its death counts.
TEST(PoolBatch, ASuspectGoesByItself) {
  Settings settings = pool_of(1);
  settings.quarantine.deaths = 1;
  ModelDriver driver(settings);
  ready_for_batches(driver);
  const auto send = [&](std::uint64_t fingerprint) {
    CallSubmitted call = driver.request("eight");
    call.fingerprint = fingerprint;
    return driver.submit(call);
  };
  const CallId busy = driver.submit("f");
  const CallId killer = send(1), bystander = send(2);
  driver.reply(busy);
  driver.exit(driver.worker_of(killer));
  EXPECT_EQ(driver.fate(bystander), "worker_died");
  const CallId suspect = send(1), other = send(3);
  start_all(driver);
  EXPECT_EQ(driver.fate(suspect), "running");
  EXPECT_EQ(size_at(driver, suspect), 1u);
  EXPECT_EQ(driver.fate(other), "waiting");
  driver.exit(driver.worker_of(suspect));
  EXPECT_EQ(driver.outcome(suspect).death->role, DeathRole::kNone);
  EXPECT_EQ(driver.fate(send(1)), "quarantined");
}

// Goal: calls of a batch that had not begun are dispatched again for nothing, together with others.
TEST(PoolBatch, WhatHadNotBegunIsDispatchedAgain) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  const auto calls = send_many(driver, "eight", 4, false);
  driver.reply(busy);
  driver.exit(driver.worker_of(calls[0]), false);
  EXPECT_EQ(count_fate(driver, calls, "waiting"), 4);
  const auto more = send_many(driver, "eight", 2, false);
  start_all(driver);
  EXPECT_EQ(size_at(driver, calls[0]), 6u);
  EXPECT_EQ(driver.fate(more[1]), "running");
}

// Goal: a half whose worker dies before it begins stays as it is: nobody joins it.
TEST(PoolBatch, AHalfThatHadNotBegunStaysAsItIs) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  const auto calls = send_many(driver, "eight", 4);
  driver.reply(busy);
  driver.exit(driver.worker_of(calls[0]));
  const auto more = send_many(driver, "eight", 2);
  start_all(driver);
  ASSERT_EQ(size_at(driver, calls[0]), 2u);
  driver.exit(driver.worker_of(calls[0]), false);
  start_all(driver);
  ASSERT_EQ(size_at(driver, calls[0]), 2u);
  play_out(driver, calls);
  play_out(driver, more);
  EXPECT_EQ(count_fate(driver, calls, "ok") + count_fate(driver, more, "ok"), 6);
}

// Goal: a cancelled call of a dead batch does not run again, the others do.
TEST(PoolBatch, ACancelledCallOfADeadBatchDoesNotRunAgain) {
  ModelDriver driver(pool_of(1));
  ready_for_batches(driver);
  const CallId busy = driver.submit("f");
  const auto calls = send_many(driver, "eight", 3);
  driver.reply(busy);
  driver.handle(CallCancelled{calls[1]});
  EXPECT_EQ(driver.count("cancel r3"), 1u);
  driver.exit(driver.worker_of(calls[0]));
  EXPECT_EQ(driver.fate(calls[1]), "cancelled");
  EXPECT_EQ(driver.outcome(calls[1]).effect, Effect::kMaybe);
  play_out(driver, calls);
  EXPECT_EQ(count_fate(driver, calls, "ok"), 2);
}

}  // namespace
}  // namespace keelback::core
