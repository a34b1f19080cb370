// The model itself: functions, the ladder, streams, faults. What the pool decides is tested in
// core/, and over every backend in tests/conformance/.
#include "sim/simulation.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "sim/json_text.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

Simulation::Options options(std::uint32_t workers = 2) {
  Simulation::Options out;
  out.settings.pool.workers = workers;
  out.check_invariants = true;
  return out;
}

// Submits and runs until the outcome is there, at most a virtual day.
Outcome run(Simulation& sim, Call call) {
  std::optional<Outcome> outcome;
  sim.submit(std::move(call), [&](Outcome&& o) { outcome = std::move(o); });
  EXPECT_TRUE(sim.run_while_not([&] { return outcome.has_value(); }, sim.now() + 24h));
  return outcome.value_or(Outcome{});
}

TEST(JsonText, CutsArgumentListsAndRefusesWhatIsNone) {
  const auto positional = read_arguments(R"( [1, "a,b]", {"k": [1, 2]}, null] )");
  ASSERT_TRUE(positional);
  ASSERT_EQ(positional->count, 4u);
  EXPECT_EQ(positional->items[1].raw, R"("a,b]")");
  EXPECT_EQ(positional->items[2].raw, R"({"k": [1, 2]})");
  const auto named = read_arguments(R"({"ms": 12.5, "text": "q\"uote"})");
  ASSERT_TRUE(named);
  EXPECT_EQ(as_integer(*named->find(0, "ms")), 12);
  EXPECT_EQ(*named->find(9, "text"), R"("q\"uote")");
  EXPECT_FALSE(named->find(0, "other"));
  for (const char* bad : {"", "1", "[", "[1", "[1,", "{1:2}", "[1]]", "{\"a\"}", "[\"a]", "[,]"}) {
    EXPECT_FALSE(read_arguments(bad)) << bad;
  }
  EXPECT_TRUE(read_arguments("[1,2,3,4,5,6,7,8]"));
  EXPECT_FALSE(read_arguments("[1,2,3,4,5,6,7,8,9]")) << "one past the most";
}

TEST(Simulation, AFunctionAnswersAfterTheTimeItTakesAndNoRealTimePasses) {
  Simulation sim(options());
  EXPECT_EQ(run(sim, {.function = "echo", .payload = R"([{"a": 1}])"}).payload, R"({"a": 1})");
  const Time before = sim.now();
  const Outcome slept = run(sim, {.function = "sleep", .payload = "[3000]"});
  EXPECT_TRUE(slept.ok());
  EXPECT_GE(slept.ran, 3s);
  EXPECT_GE(sim.now() - before, 3s);
}

// Goal: existence is answered by a lookup, at the present time: what is over is not there.
TEST(Simulation, AnOperatorHearsWhetherWhatAnEventNamesIsThere) {
  Simulation sim(options());
  EXPECT_FALSE(sim.apply(core::SessionEnded{"ann"}));
  EXPECT_FALSE(sim.apply(core::QuarantineReleased{7}));
  EXPECT_FALSE(sim.apply(core::RecycleRequested{0}));
  EXPECT_FALSE(sim.apply(core::RecycleRequested{3}));
  EXPECT_TRUE(sim.apply(core::RecycleRequested{2}));
  EXPECT_TRUE(run(sim, {.function = "echo", .payload = "[1]", .session = "ann"}).ok());
  EXPECT_TRUE(run(sim, {.function = "echo", .payload = "[1]", .session = "bob"}).ok());
  EXPECT_TRUE(sim.apply(core::SessionEnded{"ann"}));
  EXPECT_FALSE(sim.apply(core::SessionEnded{"ann"})) << "it has ended";
  sim.advance(options().settings.sessions.idle_ttl);
  EXPECT_FALSE(sim.apply(core::SessionEnded{"bob"})) << "it has expired";
}

TEST(Simulation, EveryStandardFunctionEndsAsItsNameSays) {
  Simulation sim(options());
  const Outcome failed = run(sim, {.function = "fail", .payload = R"(["no luck"])"});
  EXPECT_EQ(failed.kind, OutcomeKind::kError);
  ASSERT_TRUE(failed.python);
  EXPECT_EQ(failed.python->type, "ValueError");
  EXPECT_EQ(failed.python->message, "no luck");
  EXPECT_EQ(run(sim, {.function = "unserialisable"}).kind, OutcomeKind::kError);
  EXPECT_EQ(run(sim, {.function = "nosuch"}).kind, OutcomeKind::kUnknownFunction);
  EXPECT_EQ(run(sim, {.function = "echo"}).kind, OutcomeKind::kBadRequest);
  EXPECT_EQ(run(sim, {.function = "echo", .payload = "[1, 2]"}).kind, OutcomeKind::kBadRequest);
  EXPECT_EQ(run(sim, {.function = "echo", .payload = "nonsense"}).kind, OutcomeKind::kBadRequest);
  EXPECT_EQ(run(sim, {.function = "blob", .payload = "[10]"}).payload.size(), 12u);
  EXPECT_EQ(run(sim, {.function = "items", .payload = "[3]"}).payload, "[0, 1, 2]");
  const Outcome crashed = run(sim, {.function = "crash", .payload = "[6]"});
  EXPECT_EQ(crashed.kind, OutcomeKind::kWorkerDied);
  EXPECT_EQ(crashed.effect, Effect::kMaybe);
  ASSERT_TRUE(crashed.death);
  EXPECT_EQ(crashed.death->signal, 6);
  const Outcome left = run(sim, {.function = "exit", .payload = "[3]"});
  EXPECT_EQ(left.kind, OutcomeKind::kWorkerDied);
  ASSERT_TRUE(left.death);
  EXPECT_EQ(left.death->exit_code, 3);
}

TEST(Simulation, AResultAtTheLimitPassesAndOneByteMoreIsAnError) {
  auto small = options();
  small.settings.calls.payload_max = {100};
  Simulation sim(small);
  EXPECT_TRUE(run(sim, {.function = "blob", .payload = "[98]"}).ok());
  EXPECT_EQ(run(sim, {.function = "blob", .payload = "[99]"}).kind, OutcomeKind::kError);
}

TEST(Simulation, ASessionCountsOnOneWorkerInOrder) {
  Simulation sim(options(4));
  std::vector<std::string> seen;
  std::vector<WorkerRef> homes;
  for (int i = 0; i < 50; ++i) {
    sim.submit({.function = "count", .session = "ann"}, [&](Outcome&& o) {
      seen.push_back(o.payload);
      homes.push_back(o.worker);
    });
  }
  sim.advance(10s);
  ASSERT_EQ(seen.size(), 50u);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(seen[i], std::to_string(i + 1));
    EXPECT_EQ(homes[i], homes[0]);
  }
  EXPECT_TRUE(sim.apply(core::SessionEnded{"ann"}));
  EXPECT_FALSE(sim.apply(core::SessionEnded{"ann"}));
  EXPECT_FALSE(sim.apply(core::SessionEnded{"an"}));
}

// Goal: each function heeds exactly the rungs it says: sleep and spin the interrupt, hold nothing
// but the kill.
TEST(Simulation, TheLadderClimbsAsFarAsTheFunctionMakesIt) {
  Simulation sim(options(1));
  const auto timed_out = [&](const char* function) {
    return run(sim, {.function = function, .payload = "[60000]", .deadline = 100ms});
  };
  for (const char* function : {"sleep", "spin"}) {
    const WorkerRef before = run(sim, {.function = "pid"}).worker;
    EXPECT_EQ(timed_out(function).kind, OutcomeKind::kTimeout) << function;
    EXPECT_NE(run(sim, {.function = "pid"}).worker, before) << function << ": it was interrupted";
  }
  Settings keep = options(1).settings;
  keep.calls.after_interrupt = AfterInterrupt::kKeep;
  sim.configure(keep);
  for (const char* function : {"sleep", "spin"}) {
    const WorkerRef before = run(sim, {.function = "pid"}).worker;
    EXPECT_EQ(timed_out(function).kind, OutcomeKind::kTimeout) << function;
    EXPECT_EQ(run(sim, {.function = "pid"}).worker, before) << function << ": the worker lives";
  }
  const WorkerRef before = run(sim, {.function = "pid"}).worker;
  const Outcome held = timed_out("hold");
  EXPECT_EQ(held.kind, OutcomeKind::kTimeout);
  EXPECT_EQ(held.effect, Effect::kMaybe);
  EXPECT_NE(run(sim, {.function = "pid"}).worker, before) << "killed and replaced";
  const auto dump = sim.calls().dump(sim.now(), CallId{held.call});
  ASSERT_TRUE(dump) << "it is taken after the caller has heard";
  EXPECT_NE(dump->find("most recent call first"), std::string::npos) << *dump;
}

TEST(Simulation, AStreamStopsAtItsCreditUntilMoreIsGranted) {
  Simulation sim(options(1));
  std::vector<std::string> items;
  std::optional<Outcome> end;
  const CallId call = sim.stream(
      {.function = "items", .payload = "[20]"}, [&](std::string&& item) { items.push_back(item); },
      [&](Outcome&& o) { end = std::move(o); });
  sim.advance(1s);
  EXPECT_EQ(items.size(), 16u);
  EXPECT_FALSE(end);
  sim.grant(call, 2);
  sim.advance(1s);
  EXPECT_EQ(items.size(), 18u);
  sim.grant(call, 100);
  sim.advance(1s);
  ASSERT_EQ(items.size(), 20u);
  EXPECT_EQ(items.back(), "19");
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->ok());
}

// Goal: credit is the stream's and not its worker's: when the first dies before it began, the next
// may send as many.
TEST(Simulation, AStreamKeepsItsCreditOnItsNextWorker) {
  Simulation sim(options(1));
  sim.advance(1s);
  int items = 0;
  std::optional<Outcome> end;
  ASSERT_TRUE(sim.freeze(1, 5s));
  const CallId call = sim.stream(
      {.function = "items", .payload = "[40]"}, [&](std::string&&) { ++items; },
      [&](Outcome&& o) { end = std::move(o); });
  sim.grant(call, 24);
  ASSERT_TRUE(sim.kill(1));
  sim.advance(5s);
  EXPECT_EQ(items, 40);
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->ok());
}

TEST(Simulation, ACancelledStreamWithoutCreditEnds) {
  Simulation sim(options(1));
  std::optional<Outcome> end;
  const CallId call = sim.stream(
      {.function = "items", .payload = "[1000]"}, [](std::string&&) {},
      [&](Outcome&& o) { end = std::move(o); });
  sim.advance(1s);
  EXPECT_TRUE(sim.cancel(call));
  sim.advance(1s);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->kind, OutcomeKind::kCancelled);
  EXPECT_FALSE(sim.cancel(call));
}

TEST(Simulation, AKilledWorkerCostsItsOwnCallOnly) {
  Simulation sim(options(2));
  sim.advance(1s);
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 2; ++i) {
    sim.submit({.function = "hold", .payload = "[500]"},
               [&](Outcome&& o) { outcomes.push_back(std::move(o)); });
  }
  sim.advance(100ms);
  ASSERT_TRUE(sim.kill(1));
  sim.advance(1s);
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].kind, OutcomeKind::kWorkerDied);
  ASSERT_TRUE(outcomes[0].death);
  EXPECT_TRUE(outcomes[0].death->oom_suspected) << "a SIGKILL that is not ours";
  EXPECT_TRUE(outcomes[1].ok());
  EXPECT_EQ(sim.stats().restarts, 1u);
}

TEST(Simulation, AFrozenWorkerGoesOnWhereItWas) {
  Simulation sim(options(1));
  sim.advance(1s);
  std::optional<Outcome> outcome;
  sim.submit({.function = "sleep", .payload = "[100]"},
             [&](Outcome&& o) { outcome = std::move(o); });
  sim.advance(10ms);
  ASSERT_TRUE(sim.freeze(1, 5s));
  sim.advance(4s);
  EXPECT_FALSE(outcome);
  sim.advance(2s);
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(outcome->ok()) << "a stopped worker is no dead worker";
}

TEST(Simulation, ADrainFinishesWhatRunsAndThenSaysSo) {
  Simulation sim(options(2));
  sim.advance(1s);
  std::optional<Outcome> running, refused;
  bool drained = false;
  sim.submit({.function = "sleep", .payload = "[1000]"},
             [&](Outcome&& o) { running = std::move(o); });
  sim.drain(10s, [&] { drained = true; });
  sim.submit({.function = "echo", .payload = "[1]"}, [&](Outcome&& o) { refused = std::move(o); });
  sim.advance(500ms);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, OutcomeKind::kShuttingDown);
  EXPECT_FALSE(drained);
  sim.advance(5s);
  ASSERT_TRUE(running);
  EXPECT_TRUE(running->ok());
  EXPECT_TRUE(drained);
  EXPECT_FALSE(sim.kill(1) || sim.kill(2)) << "no worker is left";
}

TEST(Simulation, AReloadReplacesEveryWorkerAndLosesNoCall) {
  Simulation sim(options(2));
  sim.advance(1s);
  const WorkerRef before = run(sim, {.function = "pid"}).worker;
  std::optional<std::string> result;
  sim.reload([&](std::string error) { result = std::move(error); });
  int ok = 0;
  for (int i = 0; i < 100; ++i) {
    sim.at(sim.now() + i * 1ms, [&] {
      sim.submit({.function = "echo", .payload = "[1]"}, [&](Outcome&& o) { ok += o.ok(); });
    });
  }
  sim.advance(10s);
  EXPECT_EQ(result, "");
  EXPECT_EQ(ok, 100);
  EXPECT_GT(run(sim, {.function = "pid"}).worker.generation, before.generation);
}

// Submits it, and notes how it ends and when.
struct Watched {
  Watched(Simulation& sim, Call call) {
    id = sim.submit(std::move(call), [this, &sim](Outcome&& o) {
      outcome = std::move(o);
      at = sim.now();
    });
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;
  CallId id;
  std::optional<Outcome> outcome;
  Time at;
};

// Goal: shared calls run side by side in one worker and end in the order of their own lengths.
TEST(Simulation, SharedCallsRunTogetherInOneWorkerAndEndInAnyOrder) {
  Simulation sim(options(1));
  sim.advance(1s);
  const Time begun = sim.now();
  Watched slow(sim, {.function = "together", .payload = "[300]"});
  Watched fast(sim, {.function = "together", .payload = "[100]"});
  Watched thread(sim, {.function = "threads", .payload = "[200]"});
  sim.advance(1s);
  ASSERT_TRUE(slow.outcome && fast.outcome && thread.outcome);
  EXPECT_TRUE(slow.outcome->ok() && fast.outcome->ok() && thread.outcome->ok());
  EXPECT_EQ(slow.outcome->worker, fast.outcome->worker);
  EXPECT_LT(fast.at, thread.at);
  EXPECT_LT(thread.at, slow.at);
  EXPECT_LT(slow.at, begun + 301ms);
}

// Goal: of a function no more calls run in a worker than its concurrency says.
TEST(Simulation, OfAFunctionNoMoreCallsRunThanItsConcurrencySays) {
  Simulation sim(options(1));
  sim.advance(1s);
  const Time begun = sim.now();
  std::vector<Time> ended;
  for (int i = 0; i < 9; ++i) {
    sim.submit({.function = "threads", .payload = "[100]"},
               [&](Outcome&& o) { ended.push_back(o.ok() ? sim.now() : Time::max()); });
  }
  sim.advance(1s);
  ASSERT_EQ(ended.size(), 9u);
  EXPECT_LT(ended[7], begun + 101ms);
  EXPECT_GE(ended[8], begun + 200ms);
  EXPECT_LT(ended[8], begun + 201ms);
}

// Goal: streams that run side by side have a credit each: one whose reader is slow holds up no
// other.
TEST(Simulation, AStreamWithoutCreditHoldsUpNoOtherInItsWorker) {
  Simulation sim(options(1));
  int slow = 0;
  int fast = 0;
  std::optional<Outcome> end;
  const Call call = {.function = "together_stream", .payload = "[40, 1]"};
  sim.stream(call, [&](std::string&&) { ++slow; }, [](Outcome&&) {});
  const CallId granted =
      sim.stream(call, [&](std::string&&) { ++fast; }, [&](Outcome&& o) { end = std::move(o); });
  sim.grant(granted, 100);
  sim.advance(1s);
  EXPECT_EQ(slow, 16);
  EXPECT_EQ(fast, 40);
  EXPECT_TRUE(end && end->ok());
}

// Goal: when a worker dies, all calls that it runs die with it. Nobody knows which is the cause.
// The idempotent one runs again, and its second try is alone.
TEST(Simulation, ADeathHitsEveryCallOfItsWorker) {
  Simulation sim(options(1));
  sim.advance(1s);
  Watched plain(sim, {.function = "together", .payload = "[500]"});
  Watched again(sim, {.function = "together", .payload = "[400]", .idempotent = true});
  Watched deadly(sim, {.function = "together_die", .payload = "[50]"});
  sim.advance(2s);
  ASSERT_TRUE(plain.outcome && again.outcome && deadly.outcome);
  for (const Watched* lost : {&plain, &deadly}) {
    EXPECT_EQ(lost->outcome->kind, OutcomeKind::kWorkerDied);
    EXPECT_EQ(lost->outcome->effect, Effect::kMaybe);
    ASSERT_TRUE(lost->outcome->death);
    EXPECT_EQ(lost->outcome->death->role, DeathRole::kSuspect);
  }
  EXPECT_TRUE(again.outcome->ok());
  EXPECT_EQ(again.outcome->attempts, 2u);
}

// Goal: where the dying thread tells whose call it was, the others are bystanders.
TEST(Simulation, ADeathThatLeadsToItsCallBlamesNoOther) {
  for (const char* function : {"together_crash", "together_exit", "threads_crash"}) {
    Simulation sim(options(1));
    sim.advance(1s);
    Watched plain(sim, {.function = "together", .payload = "[500]"});
    Watched again(sim, {.function = "together", .payload = "[400]", .idempotent = true});
    Watched guilty(sim, {.function = function, .payload = "[50]"});
    sim.advance(2s);
    ASSERT_TRUE(plain.outcome && again.outcome && guilty.outcome);
    ASSERT_TRUE(plain.outcome->death && guilty.outcome->death);
    EXPECT_EQ(guilty.outcome->death->role, DeathRole::kCulprit) << function;
    EXPECT_EQ(plain.outcome->death->role, DeathRole::kBystander);
    EXPECT_TRUE(again.outcome->ok());
  }
}

// Goal: a call that swallows its cancellation costs its worker, but not the calls beside it.
TEST(Simulation, ACallThatDoesNotEndLetsItsNeighboursFinish) {
  Simulation::Options patient = options(1);
  patient.settings.calls.grace = 200ms;
  patient.settings.workers.drain_timeout = 5s;
  Simulation sim(patient);
  sim.advance(1s);
  const Time begun = sim.now();
  Watched stuck(sim, {.function = "together_stuck", .payload = "[60000]", .deadline = 100ms});
  Watched beside(sim, {.function = "together", .payload = "[1000]"});
  sim.advance(400ms);
  Watched later(sim, {.function = "together", .payload = "[10]"});
  sim.advance(2s);
  ASSERT_TRUE(stuck.outcome && beside.outcome && later.outcome);
  EXPECT_EQ(stuck.outcome->kind, OutcomeKind::kTimeout);
  EXPECT_TRUE(beside.outcome->ok()) << beside.outcome->message;
  EXPECT_LT(beside.at, begun + 1001ms);
  EXPECT_TRUE(later.outcome->ok());
  EXPECT_NE(later.outcome->worker, beside.outcome->worker) << "it takes no call any more";
}

// Goal: a worker whose event loop is blocked beyond the grace of a call is killed. The others are
// told that they are not the cause.
TEST(Simulation, ABlockedEventLoopCostsTheCallsBesideItToo) {
  Simulation::Options patient = options(1);
  patient.settings.calls.grace = 200ms;
  Simulation sim(patient);
  sim.advance(1s);
  const Time begun = sim.now();
  Watched block(sim, {.function = "together_block", .payload = "[60000]", .deadline = 100ms});
  Watched beside(sim, {.function = "threads", .payload = "[1000]"});
  Watched waits(sim, {.function = "together", .payload = "[10]"});
  sim.advance(3s);
  ASSERT_TRUE(block.outcome && beside.outcome && waits.outcome);
  EXPECT_EQ(block.outcome->kind, OutcomeKind::kTimeout);
  EXPECT_EQ(beside.outcome->kind, OutcomeKind::kWorkerDied);
  EXPECT_LT(beside.at, begun + 400ms);
  ASSERT_TRUE(beside.outcome->death);
  EXPECT_EQ(beside.outcome->death->role, DeathRole::kBystander);
  EXPECT_TRUE(waits.outcome->ok()) << "it had not started, so it runs again";
  EXPECT_EQ(waits.outcome->attempts, 2u);
}

// Goal: a call that blocks its worker's event loop is noticed when workers.loop_lag_warn is over,
// and the loop turns again when it has ended.
TEST(Simulation, ABlockedEventLoopIsNoticedAndTurnsAgain) {
  for (const Duration warn : {Duration{30ms}, Duration{100ms}, Duration{2s}, Duration{0}}) {
    Simulation::Options some = options(1);
    some.settings.workers.loop_lag_warn = warn;
    Simulation sim(some);
    sim.advance(1s);
    std::vector<core::LoopBlocked> blocks;
    std::vector<Time> turns;
    sim.observe(
        [&](Time now, const core::Event& event) {
          if (const auto* blocked = std::get_if<core::LoopBlocked>(&event)) {
            blocks.push_back(*blocked);
          } else if (std::holds_alternative<core::LoopTurned>(event)) {
            turns.push_back(now);
          }
        },
        [](Time, const core::Action&) {});
    Watched waits(sim, {.function = "together", .payload = "[10]"});
    const Watched block(sim, {.function = "together_block", .payload = "[5000]"});
    sim.advance(4s);
    ASSERT_FALSE(blocks.empty());
    EXPECT_EQ(blocks.front().by, block.id);
    EXPECT_EQ(blocks.front().lag, warn == 0s ? 100ms : std::min<Duration>(warn, 100ms));
    EXPECT_EQ(blocks.size(), warn == 2s ? 2u : 1u);
    EXPECT_TRUE(turns.empty());
    EXPECT_EQ(sim.notices().empty(), warn == 0s);
    if (warn > 0s) {
      EXPECT_NE(sim.notices().back().text.find("in together_block"), std::string::npos);
    }
    sim.advance(2s);
    EXPECT_TRUE(block.outcome && block.outcome->ok());
    EXPECT_TRUE(waits.outcome && waits.outcome->ok());
    EXPECT_FALSE(turns.empty());
    EXPECT_EQ(sim.stats().loop_blocks, 1u);
    EXPECT_GT(sim.loop_lag().sum, 0);
  }
}

// Goal: a call in a thread of a worker with others is interrupted alone.
TEST(Simulation, AnInterruptEndsOneSharedCallAndNotTheOthers) {
  Simulation sim(options(1));
  sim.advance(1s);
  Watched late(sim, {.function = "threads", .payload = "[60000]", .deadline = 100ms});
  Watched beside(sim, {.function = "threads", .payload = "[20000]"});
  sim.advance(22s);
  ASSERT_TRUE(late.outcome && beside.outcome);
  EXPECT_EQ(late.outcome->kind, OutcomeKind::kTimeout);
  EXPECT_TRUE(beside.outcome->ok()) << beside.outcome->message;
}

}  // namespace
}  // namespace keelback::sim
