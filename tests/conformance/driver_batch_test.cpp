// Calls that go to a function together, on every driver: each has its own answer, error, deadline
// and cancel, and a death is found out by halves.
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

class BatchCalls : public DriverTest {
 protected:
  static Settings with_workers(std::uint32_t workers) {
    Settings s = settings();
    s.pool.workers = workers;
    return s;
  }
  static Call gather(int ms, const std::string& act = {}, bool idempotent = false) {
    Call call = ask("gather", "[" + std::to_string(ms) + ",\"" + act + "\"]");
    call.idempotent = idempotent;
    return call;
  }
  static BatchSizes sizes(World& world, const std::string& function = "gather") {
    for (const FunctionBatches& each : world.stats().batches) {
      if (each.function == function) return each.sizes;
    }
    return {};
  }
  // Keeps the one worker busy until `calls` wait behind it.
  static Pending hold_up(World& world, std::uint32_t ms) {
    Pending busy = world.submit(ask("sleep", "[" + std::to_string(ms) + "]"));
    EXPECT_TRUE(world.until([&] { return world.stats().capacity.used == 1; }));
    return busy;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, BatchCalls, testing::ValuesIn(backends()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kSim    ? "sim"
                                  : chosen.param == Backend::kFake ? "fake"
                                                                   : "python";
                         });

// Goal: what waits goes together, and each call gets its own result or error.
TEST_P(BatchCalls, EachGetsItsOwnResultOrError) {
  World world(GetParam(), with_workers(1));
  world.warm();
  const Pending busy = hold_up(world, 200);
  std::vector<Pending> good;
  for (int i = 1; i <= 6; ++i) good.push_back(world.submit(gather(i)));
  const Pending bad = world.submit(gather(3, "raise"));
  const Pending wrong = world.submit(ask("gather", R"({"nosuch":1})"));
  for (int i = 1; i <= 6; ++i) {
    const Outcome outcome = world.wait(good[static_cast<std::size_t>(i - 1)]);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.payload, std::to_string(i));
  }
  const Outcome error = world.wait(bad);
  EXPECT_OUTCOME(error, kError, kDone);
  EXPECT_EQ(error.message, "ValueError: this call was to fail");
  EXPECT_OUTCOME(world.wait(wrong), kBadRequest, kNone);
  EXPECT_EQ(sizes(world).batches, 1u);
  EXPECT_EQ(sizes(world).calls, 8u);
  EXPECT_OUTCOME(world.wait(busy), kOk, kDone);
  EXPECT_TRUE(world.adds_up());
}

// Goal: a list of another length is an error for all.
TEST_P(BatchCalls, AnotherLengthIsAnErrorForAll) {
  World world(GetParam(), with_workers(1));
  world.warm();
  const Pending busy = hold_up(world, 200);
  const Pending calls[] = {world.submit(gather(1)), world.submit(gather(1, "short"))};
  for (const Pending& each : calls) {
    const Outcome outcome = world.wait(each);
    EXPECT_OUTCOME(outcome, kError, kDone);
    EXPECT_NE(outcome.message.find("TypeError: "), std::string::npos) << outcome.message;
  }
}

// Goal: batch keys keep calls apart, and a session is refused.
TEST_P(BatchCalls, KeysKeepCallsApartAndSessionsAreRefused) {
  World world(GetParam(), with_workers(1));
  world.warm();
  const Pending busy = hold_up(world, 200);
  std::vector<Pending> calls;
  for (int i = 0; i < 6; ++i) {
    Call call = gather(1);
    call.batch_key = i % 2 == 0 ? "even" : "odd";
    calls.push_back(world.submit(call));
  }
  for (const Pending& each : calls) EXPECT_OUTCOME(world.wait(each), kOk, kDone);
  EXPECT_EQ(sizes(world).batches, 2u);
  EXPECT_OUTCOME(world.call("gather", "[1]", "ann"), kBadRequest, kNone);
}

// Goal: no call waits for others for longer than its deadline allows, and none for others that are
// not needed. batch_wait is a minute here.
TEST_P(BatchCalls, NoCallWaitsForOthersLongerThanItCanAfford) {
  Settings s = with_workers(1);
  s.calls.deadline = 10min;
  World world(GetParam(), s);
  world.warm();
  const auto gather_wait = [&](std::optional<std::chrono::nanoseconds> deadline) {
    Call call = ask("gather_wait", "[1]");
    call.deadline = deadline;
    return world.submit(call);
  };
  EXPECT_OUTCOME(world.wait(gather_wait(2s)), kOk, kDone);
  std::vector<Pending> four;
  for (int i = 0; i < 4; ++i) four.push_back(gather_wait({}));
  for (const Pending& each : four) EXPECT_OUTCOME(world.wait(each), kOk, kDone);
  // One that is pressed for time takes the others along.
  std::vector<Pending> three;
  for (int i = 0; i < 2; ++i) three.push_back(gather_wait({}));
  three.push_back(gather_wait(2s));
  for (const Pending& each : three) EXPECT_OUTCOME(world.wait(each), kOk, kDone);
  EXPECT_EQ(sizes(world, "gather_wait").batches, 3u);
}

// Goal: in a batch that runs, a caller hears at its own deadline; the others get their results and
// the worker stays.
TEST_P(BatchCalls, ADeadlineInARunningBatchConcernsItsCallerOnly) {
  World world(GetParam(), with_workers(1));
  world.warm();
  const Pending busy = hold_up(world, 100);
  Call hurried = gather(1);
  hurried.deadline = 400ms;
  const Pending slow = world.submit(gather(1000));
  const Pending late = world.submit(hurried);
  EXPECT_OUTCOME(world.wait(late), kTimeout, kMaybe);
  EXPECT_FALSE(slow.done()) << "it hears before the batch has ended";
  const Outcome outcome = world.wait(slow);
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_EQ(outcome.worker.generation, 1u);
  EXPECT_EQ(sizes(world).batches, 1u);
}

// Goal: when the last deadline has passed the ladder ends the batch.
TEST_P(BatchCalls, TheLadderEndsABatchAfterItsLastDeadline) {
  Settings s = with_workers(1);
  s.calls.grace = 500ms;
  World world(GetParam(), s);
  world.warm();
  const Pending busy = hold_up(world, 100);
  std::vector<Pending> calls;
  for (const auto deadline : {300ms, 500ms}) {
    Call call = gather(60'000);
    call.deadline = deadline;
    calls.push_back(world.submit(call));
  }
  for (const Pending& each : calls) EXPECT_OUTCOME(world.wait(each), kTimeout, kMaybe);
  EXPECT_TRUE(world.until([&] { return world.stats().late == 0; }));
  EXPECT_OUTCOME(world.call("gather", "[1]"), kOk, kDone);
}

// Goal: a call that is cancelled before the batch starts is left out; one that is cancelled while
// it runs is told to stop, and the others do not notice.
TEST_P(BatchCalls, ACancelConcernsTheOneCall) {
  World world(GetParam(), with_workers(1));
  world.warm();
  const Pending busy = hold_up(world, 200);
  const Pending early = world.submit(gather(1));
  std::vector<Pending> others;
  for (int i = 0; i < 3; ++i) others.push_back(world.submit(gather(300)));
  const Pending running = world.submit(gather(300));
  world.driver().cancel(early.id());
  EXPECT_OUTCOME(world.wait(early), kCancelled, kNone);
  EXPECT_OUTCOME(world.wait(busy), kOk, kDone);
  EXPECT_TRUE(world.until([&] { return sizes(world).batches == 1; }));
  world.driver().cancel(running.id());
  for (const Pending& each : others) EXPECT_OUTCOME(world.wait(each), kOk, kDone);
  EXPECT_EQ(sizes(world).calls, 4u);
  const Outcome outcome = world.wait(running);  // it may not have begun when it was cancelled
  EXPECT_TRUE(outcome.ok() || outcome.kind == OutcomeKind::kCancelled) << told(outcome);
}

// Goal: of idempotent calls the one that kills is found and quarantined; all others end ok, and no
// retry is counted. What may not run twice ends as a suspect.
TEST_P(BatchCalls, HalvesFindTheCallThatKills) {
  World world(GetParam(), with_workers(2));
  world.warm();
  const Pending first = hold_up(world, 300);
  const Pending second = world.submit(ask("sleep", "[300]"));
  std::vector<Pending> good, once;
  for (int i = 1; i <= 12; ++i) good.push_back(world.submit(gather(i, "", true)));
  for (int i = 0; i < 3; ++i) once.push_back(world.submit(gather(i)));
  const Pending killer = world.submit(gather(1, "die", true));
  for (const Pending& each : good) EXPECT_OUTCOME(world.wait(each), kOk, kDone);
  for (const Pending& each : once) {
    const Outcome outcome = world.wait(each);
    EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
    ASSERT_TRUE(outcome.death);
    EXPECT_EQ(outcome.death->role, DeathRole::kSuspect);
  }
  const Outcome outcome = world.wait(killer);
  EXPECT_OUTCOME(outcome, kWorkerDied, kMaybe);
  ASSERT_TRUE(outcome.death);
  EXPECT_EQ(outcome.death->role, DeathRole::kNone);
  EXPECT_EQ(world.stats().retries, 0u);
  EXPECT_EQ(world.stats().quarantined, 1u);
  EXPECT_OUTCOME(world.wait(world.submit(gather(1, "die", true))), kQuarantined, kNone);
}

// Goal: ten thousand random calls with cancels, deadlines, errors and crashes end in one outcome
// each. No idempotent call that is innocent ends worker_died, and no error is another call's.
TEST_P(BatchCalls, RandomCallsEndInOneTrueOutcomeEach) {
  std::uint64_t seed = std::random_device{}();
  if (const char* given = std::getenv("KEELBACK_SEED")) seed = std::strtoull(given, nullptr, 0);
  SCOPED_TRACE("KEELBACK_SEED=" + std::to_string(seed));
  std::mt19937_64 chance(seed);
  const auto one_in = [&](unsigned n) { return chance() % n == 0; };
  struct Sent {
    std::string act;
    int ms = 0;
    bool idempotent = false;
    bool hurried = false;
    Pending pending;
  };
  Settings s = with_workers(3);
  s.calls.deadline = 20s;
  s.calls.grace = 1s;
  s.breaker.failures = 0;
  constexpr std::size_t kCalls = 10'000, kAtOnce = 96;
  std::vector<Sent> sent;
  sent.reserve(kCalls);
  World world(GetParam(), s);
  world.warm();
  for (std::size_t i = 0; i < kCalls; ++i) {
    Sent& one = sent.emplace_back();
    one.act = i % 500 == 499 ? "die" : one_in(40) ? "raise" : one_in(300) ? "short" : "";
    one.ms = static_cast<int>(chance() % 3);
    one.idempotent = !one_in(4);
    Call call = gather(one.ms, one.act, one.idempotent);
    if (one.act == "die") call.payload.insert(call.payload.size() - 1, std::string(i % 7, ' '));
    one.hurried = one_in(16);
    if (one.hurried) call.deadline = std::chrono::microseconds(500 + chance() % 8000);
    if (one_in(8)) call.batch_key = one_in(2) ? "a" : "b";
    if (one_in(20)) call.priority = Priority::kHigh;
    one.pending = world.submit(std::move(call));
    if (one_in(16)) world.driver().cancel(one.pending.id());
    if (i < kAtOnce) continue;
    // While no worker is up every call is refused at once.
    const Outcome outcome = world.wait(sent[i - kAtOnce].pending);
    if (outcome.kind == OutcomeKind::kNotReady) world.warm();
  }
  std::map<OutcomeKind, int> outcomes;
  for (const Sent& one : sent) {
    const Outcome outcome = world.wait(one.pending);
    SCOPED_TRACE(one.act + (one.idempotent ? " idempotent " : " ") + told(outcome));
    ++outcomes[outcome.kind];
    if (outcome.ok()) {
      EXPECT_EQ(outcome.payload, std::to_string(one.ms));
      EXPECT_TRUE(one.act.empty());
    }
    if (outcome.kind == OutcomeKind::kWorkerDied) {
      ASSERT_TRUE(outcome.death);
      const bool innocent = one.idempotent && one.act != "die";
      EXPECT_FALSE(innocent);
      if (!one.idempotent && one.act != "die") {
        EXPECT_EQ(outcome.death->role, DeathRole::kSuspect);
      }
    }
    EXPECT_TRUE(one.hurried || outcome.kind != OutcomeKind::kTimeout) << "it had 20 s";
    if (outcome.kind == OutcomeKind::kError && one.act != "raise") {
      EXPECT_NE(outcome.message.find("TypeError"), std::string::npos) << "an error of another call";
    }
  }
  EXPECT_TRUE(world.adds_up());
  EXPECT_TRUE(world.until([&] { return world.stats().capacity.used == 0; }));
  EXPECT_EQ(world.stats().in_flight, 0u);
  EXPECT_GT(sizes(world).mean(), 2.0);
  EXPECT_GT(outcomes[OutcomeKind::kOk], static_cast<int>(kCalls / 2));
  for (const OutcomeKind met : {OutcomeKind::kError, OutcomeKind::kWorkerDied,
                                OutcomeKind::kTimeout, OutcomeKind::kCancelled}) {
    EXPECT_GT(outcomes[met], 0) << to_string(met);
  }
}

}  // namespace
}  // namespace keelback::test
