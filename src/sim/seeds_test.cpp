// Seeds: random load and faults on the production core, then a phase without faults in which all
// must resolve. A failing run prints its seed; KEELBACK_SIM_SEED=n runs that one alone,
// KEELBACK_SIM_SEEDS=n as many as you have time for.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/sanitizer.h"
#include "sim/load.h"
#include "sim/seeds_witness.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

// Functions whose calls share workers, each with a concurrency of its own; 1: they run alone.
std::map<std::string, std::uint32_t> draw_concurrency(Prng& prng) {
  std::map<std::string, std::uint32_t> drawn;
  for (const char* name :
       {"count", "count_together", "echo", "items", "peek", "sleep", "threads", "threads_stuck",
        "together", "together_block", "together_die", "together_stream", "together_stuck"}) {
    if (prng.chance(0.6)) drawn[name] = 1 + static_cast<std::uint32_t>(prng.below(16));
  }
  return drawn;
}

// Pools of a fixed size, and some whose size follows the load, from zero workers too. Chance of its
// own: the rest of a run is as it would be without.
void draw_size(std::uint64_t seed, Settings& settings) {
  Prng prng(seed ^ 0x5ca1e);
  if (prng.chance(0.6)) return;
  auto& pool = settings.pool;
  if (prng.chance(0.4)) pool.workers = 0;
  pool.workers_max = pool.workers + 1 + static_cast<std::uint32_t>(prng.below(6));
  pool.scale_up_delay = Duration(prng.below(30'000'000));
  pool.scale_down_after = Duration(prng.below(300'000'000));
}

// Every run draws its own mix of faults and limits from its seed.
Simulation::Options draw_options(Prng& prng, std::uint64_t seed) {
  Simulation::Options out;
  out.seed = seed;
  out.check_invariants = true;
  Settings& s = out.settings;
  s.pool.workers = 1 + static_cast<std::uint32_t>(prng.below(5));
  s.pool.queue_max = 4 + static_cast<std::uint32_t>(prng.below(200));
  if (prng.chance(0.3)) s.pool.queue_delay_max = 5ms + Duration(prng.below(50'000'000));
  s.calls.deadline = 50ms + Duration(prng.below(2'000'000'000));
  s.calls.grace = 10ms + Duration(prng.below(200'000'000));
  s.calls.retries = static_cast<std::uint32_t>(prng.below(4));
  s.sessions.idle_ttl = 20ms + Duration(prng.below(2'000'000'000));
  s.sessions.max_age = 100ms + Duration(prng.below(5'000'000'000));
  s.sessions.max = 2 + static_cast<std::uint32_t>(prng.below(20));
  s.sessions.queue_max = 1 + static_cast<std::uint32_t>(prng.below(40));
  s.sessions.mode = static_cast<Affinity>(prng.below(3));
  s.workers.start_timeout = 2s;
  s.workers.drain_timeout = 100ms;
  if (prng.chance(0.3)) s.workers.max_calls = 5 + prng.below(100);
  if (prng.chance(0.2)) s.workers.max_age = 200ms + Duration(prng.below(1'000'000'000));
  if (prng.chance(0.3)) s.breaker.failures = 0;
  if (prng.chance(0.4)) s.workers.concurrency = 1 + static_cast<std::uint32_t>(prng.below(12));
  ModelSettings& m = out.model;
  if (prng.chance(0.8)) m.concurrency = draw_concurrency(prng);
  m.service = {10us, 500us + Duration(prng.below(3'000'000)), 0.02, 50ms};
  m.start = {1ms, 5ms, 0.1, 200ms};
  const auto sometimes = [&](double most) { return prng.chance(0.5) ? prng.unit() * most : 0.0; };
  m.start_failure = sometimes(0.3);
  m.die_before_start = sometimes(0.02);
  m.die_running = sometimes(0.03);
  m.die_after_end = sometimes(0.02);
  m.unclean = sometimes(0.05);
  m.unkillable = sometimes(0.3);
  m.unkillable_for = 2s;
  s.sessions.snapshot = static_cast<SnapshotMode>(prng.below(3));
  m.store_failure = sometimes(0.1);
  m.store = {10us, 500us, 0.02, 100ms};
  draw_size(seed, s);
  return out;
}

LoadSettings draw_load(Prng& prng) {
  LoadSettings load;
  load.rate = 200 + static_cast<double>(prng.below(3000));
  load.length = 300ms + Duration(prng.below(500'000'000));
  load.sessions = 1 + static_cast<std::uint32_t>(prng.below(24));
  load.cancel = prng.chance(0.5) ? prng.unit() * 0.1 : 0.0;
  load.mix = {
      {.call = {.function = "echo", .payload = "[1]"}, .weight = 30},
      {.call = {.function = "echo", .payload = "[2]", .idempotent = true}, .weight = 10},
      {.call = {.function = "echo", .payload = "[3]", .priority = Priority::kHigh}, .weight = 5},
      {.call = {.function = "echo", .payload = "[4]", .idempotency_key = "k1"}, .weight = 3},
      {.call = {.function = "crash", .payload = "[11]", .idempotency_key = "k2"}, .weight = 1},
      {.call = {.function = "count"}, .weight = 30, .in_session = true},
      {.call = {.function = "count", .affinity = Affinity::kHint}, .weight = 5, .in_session = true},
      {.call = {.function = "peek", .open = SessionOpen::kExisting},
       .weight = 3,
       .in_session = true},
      {.call = {.function = "fail", .payload = R"(["x"])"}, .weight = 5},
      {.call = {.function = "nosuch"}, .weight = 1},
      {.call = {.function = "echo"}, .weight = 1},
      {.call = {.function = "hold", .payload = "[5000]", .deadline = 20ms}, .weight = 1},
      {.call = {.function = "spin", .payload = "[5000]", .deadline = 20ms}, .weight = 2},
      {.call = {.function = "sleep", .payload = "[10]"}, .weight = 3, .in_session = true},
      {.call = {.function = "crash", .payload = "[11]"}, .weight = 1},
      {.call = {.function = "items", .payload = "[10]"}, .weight = 3, .stream = true},
  };
  if (prng.chance(0.2)) return load;
  const LoadSettings::Kind shared[] = {
      {.call = {.function = "together", .payload = "[2]"}, .weight = 20},
      {.call = {.function = "together", .payload = "[9]", .idempotent = true}, .weight = 10},
      {.call = {.function = "together", .payload = "[1]", .priority = Priority::kHigh},
       .weight = 3},
      {.call = {.function = "together", .payload = "[4]"}, .weight = 5, .in_session = true},
      {.call = {.function = "together", .payload = "[8]", .idempotency_key = "k3"}, .weight = 2},
      {.call = {.function = "together", .payload = "[900]", .deadline = 30ms}, .weight = 2},
      {.call = {.function = "threads", .payload = "[3]"}, .weight = 10},
      {.call = {.function = "threads", .payload = "[800]", .deadline = 25ms}, .weight = 1},
      {.call = {.function = "together_stream", .payload = "[10]"}, .weight = 5, .stream = true},
      {.call = {.function = "together_stream", .payload = "[30, 1]"}, .weight = 2, .stream = true},
      {.call = {.function = "together_stuck", .payload = "[700]", .deadline = 20ms}, .weight = 1},
      {.call = {.function = "threads_stuck", .payload = "[700]", .deadline = 20ms}, .weight = 1},
      {.call = {.function = "count_together"}, .weight = 5, .in_session = true},
      {.call = {.function = "together_block", .payload = "[3]"}, .weight = 2},
      {.call = {.function = "together_block", .payload = "[600]", .deadline = 20ms}, .weight = 1},
      {.call = {.function = "together_die", .payload = "[5]"}, .weight = 1},
      {.call = {.function = "spin", .payload = "[2]"}, .weight = 4},
      {.call = {.function = "spin", .payload = "[60]"}, .weight = 1},
      {.call = {.function = "pid", .priority = Priority::kLow}, .weight = 2},
  };
  load.mix.insert(load.mix.end(), std::begin(shared), std::end(shared));
  if (prng.chance(0.4)) return load;
  const LoadSettings::Kind batched[] = {
      {.call = {.function = "gather", .payload = "[1]"}, .weight = 20},
      {.call = {.function = "gather", .payload = "[2]", .idempotent = true}, .weight = 20},
      {.call = {.function = "gather", .payload = "[0]", .priority = Priority::kHigh}, .weight = 5},
      {.call = {.function = "gather", .payload = "[1]", .batch_key = "k"}, .weight = 10},
      {.call = {.function = "gather", .payload = R"([1,"raise"])"}, .weight = 3},
      {.call = {.function = "gather", .payload = R"([1,"short"])"}, .weight = 1},
      {.call = {.function = "gather", .payload = R"([1,"die"])"}, .weight = 1},
      {.call = {.function = "gather", .payload = R"([2,"die"])", .idempotent = true}, .weight = 1},
      {.call = {.function = "gather"}, .weight = 1},
      {.call = {.function = "gather", .payload = "[3]", .idempotency_key = "k4"}, .weight = 2},
      {.call = {.function = "gather", .payload = "[400]", .deadline = 30ms}, .weight = 1},
      {.call = {.function = "gather", .payload = "[1]", .deadline = 5ms}, .weight = 5},
  };
  load.mix.insert(load.mix.end(), std::begin(batched), std::end(batched));
  return load;
}

void schedule_faults(Simulation& sim, Prng& prng, const Settings& settings) {
  for (std::uint64_t i = prng.below(8); i > 0; --i) {
    const Duration when{static_cast<Duration::rep>(prng.below(800'000'000))};
    const auto slot = static_cast<std::uint32_t>(1 + prng.below(settings.pool.size_max()));
    switch (prng.below(7)) {
      case 0:
        sim.at(sim.now() + when, [&sim, slot] { sim.kill(slot); });
        break;
      case 1:
        sim.at(sim.now() + when, [&sim, slot] { sim.freeze(slot, 300ms); });
        break;
      case 2:
        sim.at(sim.now() + when, [&sim, slot] { sim.apply(core::RecycleRequested{slot}); });
        break;
      case 3:
        sim.at(sim.now() + when, [&sim] { sim.reload([](std::string) {}); });
        break;
      case 4:
        sim.at(sim.now() + when, [&sim] { sim.apply(core::SessionEnded{"s0"}); });
        break;
      case 5:
        sim.at(sim.now() + when, [&sim, changed = draw_concurrency(prng)] {
          sim.model().concurrency = changed;
          sim.reload([](std::string) {});
        });
        break;
      default: {
        Settings changed = settings;
        changed.pool.workers = 1 + static_cast<std::uint32_t>(prng.below(5));
        if (settings.pool.scales() && i % 2 == 0) changed.pool.workers_max = 0;
        changed.sessions.idle_ttl = 10ms + Duration(prng.below(1'000'000'000));
        changed.workers.concurrency = static_cast<std::uint32_t>(prng.below(10));
        if (prng.chance(0.3)) changed.sessions.snapshot = static_cast<SnapshotMode>(prng.below(3));
        sim.at(sim.now() + when, [&sim, changed] { sim.configure(changed); });
      }
    }
  }
}

void expect_sums(const PoolStats& stats) {
  std::uint64_t outcomes = 0;
  for (const std::uint64_t n : stats.outcomes) outcomes += n;
  EXPECT_EQ(stats.accepted, stats.in_flight + outcomes);
}

// What the seeds have met, all together.
struct Met {
  std::uint64_t shared = 0, overtaken = 0, suspects = 0, innocent = 0, culprits = 0, blocks = 0;
  std::uint64_t batched = 0;
  std::uint64_t scaled = 0, shrunk = 0;  // runs; times that a pool wanted fewer
};

// One run; its trace hash.
std::uint64_t run_seed(std::uint64_t seed, Met* met = nullptr, bool strict = false) {
  Prng prng(seed);
  const Simulation::Options options = draw_options(prng, seed);
  Simulation sim(options);
  Witness witness(sim, options.settings, strict);
  OpenLoad load(sim, draw_load(prng), seed + 1);
  schedule_faults(sim, prng, options.settings);
  load.start();
  std::uint32_t wanted = 0;
  std::uint64_t shrunk = 0;
  for (int i = 0; i < 20; ++i) {
    sim.advance(50ms);
    const PoolStats stats = sim.stats();
    expect_sums(stats);
    EXPECT_LE(stats.scaling.wanted, sim.pool().config().pool.size_max());
    EXPECT_GE(stats.scaling.wanted, sim.pool().config().pool.workers);
    shrunk += stats.scaling.wanted < std::exchange(wanted, stats.scaling.wanted);
  }
  // Liveness: no more faults. All that was accepted ends, and a fresh call succeeds.
  ModelSettings calm;
  calm.service = options.model.service;
  sim.model() = calm;
  EXPECT_TRUE(
      sim.run_while_not([&] { return load.ended() == load.submitted(); }, sim.now() + 10min))
      << load.submitted() - load.ended() << " calls never ended";
  sim.advance(1min);  // the longest back-off of crash-looping starts
  std::optional<Outcome> fresh;
  sim.submit({.function = "echo", .payload = "[\"fresh\"]"},
             [&](Outcome&& o) { fresh = std::move(o); });
  EXPECT_TRUE(sim.run_while_not([&] { return fresh.has_value(); }, sim.now() + 1min));
  EXPECT_TRUE(fresh && fresh->ok())
      << (fresh ? to_string(fresh->kind) : "no outcome") << " " << (fresh ? fresh->message : "");
  bool drained = false;
  sim.drain(1s, [&] { drained = true; });
  EXPECT_TRUE(sim.run_while_not([&] { return drained; }, sim.now() + 1min)) << "the drain hangs";
  EXPECT_EQ(witness.submitted(), witness.resolved());
  const PoolStats stats = sim.stats();
  expect_sums(stats);
  EXPECT_EQ(stats.in_flight, 0u);
  EXPECT_EQ(stats.accepted, witness.submitted());
  EXPECT_EQ(stats.late, 0u);
  if (met != nullptr) {
    met->shared += witness.shared();
    met->overtaken += witness.overtaken();
    met->suspects += witness.suspects();
    met->innocent += witness.innocent();
    met->culprits += witness.culprits();
    met->blocks += stats.loop_blocks;
    met->batched += witness.batched();
    met->scaled += options.settings.pool.scales();
    met->shrunk += shrunk;
  }
  return sim.trace_hash();
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

class Seeds : public testing::Test {
 protected:
  void SetUp() override { set_unexpected_fatal(true); }
};

TEST_F(Seeds, EveryCallEndsOnceEverySessionStaysInOrderAndAllResolvesInTheEnd) {
  const std::uint64_t only = number_from("KEELBACK_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t count =
      only != 0 ? 1 : number_from("KEELBACK_SIM_SEEDS", kSanitizer.empty() ? 300 : 60);
  Met met;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    // Before the run, so that a crash names it too; one line, rewritten.
    std::fprintf(stderr, "seed %llu\r", static_cast<unsigned long long>(seed));
    run_seed(seed, &met);
    ASSERT_FALSE(HasFailure()) << "replay: KEELBACK_SIM_SEED=" << seed;
  }
  if (count < 20) return;
  EXPECT_GT(met.shared, 1000u) << "calls share workers";
  EXPECT_GT(met.overtaken, 100u) << "calls go before one that waits to run alone";
  EXPECT_GT(met.suspects, 0u);
  EXPECT_GT(met.innocent, 10u);
  EXPECT_GT(met.culprits, 10u) << "a call is known to have ended its worker";
  EXPECT_GT(met.blocks, 10u) << "calls block event loops";
  EXPECT_GT(met.batched, 1000u) << "calls go in batches";
  EXPECT_GT(met.scaled, count / 4);
  EXPECT_GT(met.shrunk, count / 20);
}

// Goal: a worker takes no call that is younger than one that waits to run alone in it, not even in
// the step in which it has become empty.
TEST_F(Seeds, AWorkerThatHasBecomeEmptyTakesNoCallBeforeItsTurn) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    run_seed(seed, nullptr, /*strict=*/true);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST_F(Seeds, TheSameSeedGoesTheSameWayAndAnotherOneDoesNot) {
  std::set<std::uint64_t> hashes;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const std::uint64_t hash = run_seed(seed);
    EXPECT_EQ(run_seed(seed), hash) << "seed " << seed;
    hashes.insert(hash);
  }
  EXPECT_EQ(hashes.size(), 20u);
}

}  // namespace
}  // namespace keelback::sim
