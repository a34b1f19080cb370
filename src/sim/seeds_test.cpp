// Seeds: random load and faults on the production core, then a phase without faults in which all
// must resolve. A failing run prints its seed; KEELBACK_SIM_SEED=n runs that one alone,
// KEELBACK_SIM_SEEDS=n as many as you have time for.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/sanitizer.h"
#include "sim/load.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

// What the core does, watched from outside with structures too simple to be wrong.
class Witness {
 public:
  explicit Witness(Simulation& sim) {
    sim.observe([this](Time, const core::Event& e) { see(e); },
                [this](Time, const core::Action& a) { see(a); });
  }

  std::uint64_t submitted() const { return submitted_; }
  std::uint64_t resolved() const { return resolved_.size(); }

 private:
  void see(const core::Event& event) {
    if (std::holds_alternative<core::CallSubmitted>(event)) {
      ++submitted_;
    } else if (const auto* ready = std::get_if<core::WorkerReady>(&event)) {
      idle_.insert(ready->worker);
    } else if (const auto* reply = std::get_if<core::WorkerReplied>(&event)) {
      if (running_.erase(reply->worker) > 0) idle_.insert(reply->worker);
    } else if (const auto* failed = std::get_if<core::RestoreFailed>(&event)) {
      if (running_.erase(failed->worker) > 0) idle_.insert(failed->worker);
    } else if (const auto* exit = std::get_if<core::WorkerExited>(&event)) {
      gone_.insert(exit->worker);
      idle_.erase(exit->worker);
      running_.erase(exit->worker);
    }
  }
  void see(const core::Action& action) {
    if (const auto* d = std::get_if<core::Dispatch>(&action)) {
      EXPECT_EQ(resolved_.count(d->call), 0u) << "dispatched after its outcome";
      EXPECT_EQ(idle_.erase(d->worker), 1u) << "dispatched to a worker that is not ready and idle";
      running_[d->worker] = d->call;
      if (d->session) dispatched_in_session(*d);
    } else if (const auto* r = std::get_if<core::Resolve>(&action)) {
      EXPECT_TRUE(resolved_.insert(r->call).second) << "two outcomes for call " << r->call.value;
      EXPECT_TRUE(r->kind != OutcomeKind::kOk || r->effect == Effect::kDone);
    } else if (const auto* p = std::get_if<core::ReplayOutcome>(&action)) {
      EXPECT_TRUE(resolved_.insert(p->call).second) << "two outcomes for call " << p->call.value;
    } else if (const auto* s = std::get_if<core::StopWorker>(&action)) {
      idle_.erase(s->worker);
    }
  }
  void dispatched_in_session(const core::Dispatch& d) {
    const core::SessionTicket& ticket = *d.session;
    // An epoch opens with its first dispatch; if that worker dies before any user code ran, the
    // same epoch may open again elsewhere, and nowhere else is it served.
    const auto [home, fresh] = home_.try_emplace({ticket.birth, ticket.epoch}, d.worker);
    const bool anew = ticket.opens || ticket.restore != 0;
    EXPECT_TRUE(!fresh || anew) << "an epoch was never opened";
    if (!fresh && anew) {
      EXPECT_TRUE(gone_.contains(home->second)) << "an epoch was opened twice";
      home->second = d.worker;
    }
    birth_of_[d.call] = ticket.birth;
    EXPECT_EQ(home->second, d.worker) << "a session on two workers in one epoch";
    for (const auto& [worker, call] : running_) {
      if (call == d.call || !birth_of_.contains(call)) continue;
      EXPECT_NE(birth_of_[call], ticket.birth)
          << "two calls of session " << ticket.id << " at once";
    }
    // FIFO: ids count up in the order of submission; only a retry may repeat its own.
    CallId& last = last_call_[ticket.id];
    EXPECT_LE(last, d.call) << "session " << ticket.id << " overtook itself";
    last = d.call;
  }

  std::uint64_t submitted_ = 0;
  std::set<CallId> resolved_;
  std::set<WorkerId> idle_;
  std::set<WorkerId> gone_;
  std::map<WorkerId, CallId> running_;
  std::map<CallId, std::uint64_t> birth_of_;  // of the session it was last dispatched in
  std::map<std::pair<std::uint64_t, std::uint32_t>, WorkerId> home_;
  std::map<std::string, CallId> last_call_;
};

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
  ModelSettings& m = out.model;
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
  return load;
}

void schedule_faults(Simulation& sim, Prng& prng, const Settings& settings) {
  for (std::uint64_t i = prng.below(8); i > 0; --i) {
    const Duration when{static_cast<Duration::rep>(prng.below(800'000'000))};
    const auto slot = static_cast<std::uint32_t>(1 + prng.below(settings.pool.workers));
    switch (prng.below(6)) {
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
      default: {
        Settings changed = settings;
        changed.pool.workers = 1 + static_cast<std::uint32_t>(prng.below(5));
        changed.sessions.idle_ttl = 10ms + Duration(prng.below(1'000'000'000));
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

// One run; its trace hash.
std::uint64_t run_seed(std::uint64_t seed) {
  Prng prng(seed);
  const Simulation::Options options = draw_options(prng, seed);
  Simulation sim(options);
  Witness witness(sim);
  OpenLoad load(sim, draw_load(prng), seed + 1);
  schedule_faults(sim, prng, options.settings);
  load.start();
  for (int i = 0; i < 20; ++i) {
    sim.advance(50ms);
    expect_sums(sim.stats());
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
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    // Before the run, so that a crash names it too; one line, rewritten.
    std::fprintf(stderr, "seed %llu\r", static_cast<unsigned long long>(seed));
    run_seed(seed);
    ASSERT_FALSE(HasFailure()) << "replay: KEELBACK_SIM_SEED=" << seed;
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
