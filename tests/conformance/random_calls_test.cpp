// Ten thousand random calls: exclusive and shared, in coroutines and in threads, streams, calls of
// sessions; some with tiny deadlines, some cancelled, some that kill their worker, and workers that
// are killed and recycled. Each ends in one outcome, and the outcome tells the truth.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "conformance/driver_suite.h"
#include "conformance/trouble.h"

namespace keelback::test {
namespace {

enum class Kind { kAlone, kTask, kThread, kStream, kCounter, kDeadly };

struct Sent {
  Kind kind = Kind::kAlone;
  std::string line;  // that it writes to the ledger; empty: none
  std::string session;
  bool idempotent = false;
  Pending pending;
};

class RandomCalls : public DriverTest {
 protected:
  RandomCalls() {
    if (const char* given = std::getenv("KEELBACK_SEED")) seed_ = std::strtoull(given, nullptr, 0);
    chance_.seed(seed_);
  }
  bool writes() const { return GetParam() != Backend::kSim; }
  // One in so many.
  bool one_in(unsigned n) { return chance_() % n == 0; }
  std::string number(unsigned below) { return std::to_string(chance_() % below); }

  // The call as its backend can do it: the simulator has no file to write to.
  Call make(Sent& one, const std::string& ms) {
    const bool task = one.kind == Kind::kTask;
    const bool thread = one.kind == Kind::kThread;
    if (one.kind == Kind::kStream) return ask("together_stream", "[5, 1]");
    if (one.kind == Kind::kDeadly) return ask("together_die", "[" + ms + "]");
    if (one.kind == Kind::kCounter) {
      return ask(writes() && one_in(2) ? "count_together" : "counter", "[]", one.session);
    }
    if (!writes()) return ask(task ? "together" : thread ? "threads" : "sleep", "[" + ms + "]");
    const char* name = task ? "append_together" : thread ? "append_threads" : "append";
    const std::string shared_ms = task || thread ? ms : "0";
    return ask(name, "[\"" + ledger_.path() + "\",\"" + one.line + "\"," + shared_ms + "]");
  }

  void check_effects(const std::vector<Sent>& sent) const;
  static void check_sessions(const std::vector<Sent>& sent);
  static void check_roles(const std::vector<Sent>& sent);
  void check_order(const std::vector<Sent>& sent) const;

  std::uint64_t seed_ = std::random_device{}();
  std::mt19937_64 chance_;
  Ledger ledger_;
};

std::string about(const Sent& one) {
  const Outcome outcome = one.pending.outcome();
  return one.line + one.session + (one.idempotent ? " idempotent " : " ") + told(outcome);
}

void RandomCalls::check_effects(const std::vector<Sent>& sent) const {
  const auto lines = ledger_.lines();
  for (const Sent& one : sent) {
    if (one.line.empty()) continue;
    const Outcome outcome = one.pending.outcome();
    const auto found = lines.find(one.line);
    const int effects = found == lines.end() ? 0 : found->second;
    SCOPED_TRACE(about(one) + ", " + std::to_string(effects) + " effects");
    if (!one.idempotent) {
      EXPECT_LE(effects, 1);
    }
    if (outcome.effect == Effect::kNone) {
      EXPECT_EQ(effects, 0);
    }
    if (outcome.effect == Effect::kDone) {
      EXPECT_GE(effects, 1);
    }
  }
}

// A session's calls run one after another, in the order in which they came: of one birth each count
// that is answered is higher than those before it.
void RandomCalls::check_sessions(const std::vector<Sent>& sent) {
  std::map<std::pair<std::string, std::uint64_t>, int> counts;
  for (const Sent& one : sent) {
    const Outcome outcome = one.pending.outcome();
    if (one.session.empty() || !outcome.ok()) continue;
    int& before = counts[{one.session, outcome.birth}];
    const int count = std::stoi(outcome.payload);
    EXPECT_GT(count, before) << about(one);
    before = count;
  }
}

// What the calls of one death were to it: one culprit at most, and suspects only where there is
// none.
void RandomCalls::check_roles(const std::vector<Sent>& sent) {
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::map<DeathRole, int>> deaths;
  for (const Sent& one : sent) {
    const Outcome outcome = one.pending.outcome();
    if (!outcome.death) continue;
    ++deaths[{outcome.worker.slot, outcome.worker.generation}][outcome.death->role];
  }
  for (auto& [worker, roles] : deaths) {
    SCOPED_TRACE("worker " + std::to_string(worker.first) + "." + std::to_string(worker.second));
    EXPECT_LE(roles[DeathRole::kCulprit], 1);
    if (roles[DeathRole::kCulprit] > 0) {
      EXPECT_EQ(roles[DeathRole::kSuspect], 0);
    }
  }
}

// In one worker without faults: a call that runs alone begins after all that came before it and
// before all that came after it, if they have begun at all.
void RandomCalls::check_order(const std::vector<Sent>& sent) const {
  std::map<std::string, std::size_t> begun;
  for (const std::string& line : ledger_.in_order()) begun.emplace(line, begun.size());
  std::size_t latest = 0, alone = 0;  // places in the ledger, from 1
  int compared = 0;
  for (const Sent& one : sent) {
    const auto found = begun.find(one.line);
    if (one.line.empty() || found == begun.end()) continue;
    const std::size_t at = found->second + 1;
    EXPECT_GT(at, alone) << one.line << " has overtaken an older call that runs alone";
    if (one.kind == Kind::kAlone) {
      EXPECT_GT(at, latest) << one.line << " runs alone, and has overtaken an older call";
      alone = at;
      ++compared;
    }
    latest = std::max(latest, at);
  }
  EXPECT_GT(compared, 50);
}

TEST_P(RandomCalls, EndInOneTrueOutcomeEach) {
  SCOPED_TRACE("KEELBACK_SEED=" + std::to_string(seed_));
  Settings s = settings();
  s.pool.workers = 3;
  s.calls.deadline = 10s;
  s.calls.grace = 500ms;
  s.calls.retries = 5;
  s.calls.retry_budget = 1.0;
  s.breaker.failures = 0;
  s.quarantine.deaths = 1000;
  constexpr std::size_t kCalls = 10'000, kAtOnce = 64;
  std::vector<Sent> sent;
  sent.reserve(kCalls);
  std::map<Kind, int> kinds;
  {
    World world(GetParam(), s);
    world.warm();
    std::optional<Trouble> trouble;
    if (writes()) trouble.emplace(world, seed_ + 1);  // the simulator's processes cannot be killed
    for (std::size_t i = 0; i < kCalls; ++i) {
      Sent& one = sent.emplace_back();
      const unsigned draw = chance_() % 100;
      one.kind = i % 700 == 699 ? Kind::kDeadly
                 : draw < 35    ? Kind::kTask
                 : draw < 55    ? Kind::kThread
                 : draw < 70    ? Kind::kAlone
                 : draw < 80    ? Kind::kStream
                                : Kind::kCounter;
      ++kinds[one.kind];
      const bool marked =
          one.kind != Kind::kStream && one.kind != Kind::kDeadly && one.kind != Kind::kCounter;
      if (marked && writes()) one.line = "c" + std::to_string(i);
      one.idempotent = marked && one_in(4);
      if (one.kind == Kind::kCounter) one.session = "s" + number(12);
      Call call = make(one, number(4));
      call.idempotent = one.idempotent;
      if (one_in(16)) call.deadline = std::chrono::microseconds(chance_() % 6000);
      one.pending =
          one.kind == Kind::kStream ? world.stream(std::move(call)) : world.submit(std::move(call));
      if (one_in(16)) world.driver().cancel(one.pending.id());
      if (one_in(2000)) world.driver().recycle(1 + chance_() % s.pool.workers);
      if (i < kAtOnce) continue;
      // While no worker is up every call is refused at once.
      const Outcome outcome = world.wait(sent[i - kAtOnce].pending);
      if (outcome.kind == OutcomeKind::kNotReady) world.warm();
    }
    for (const Sent& one : sent) static_cast<void>(world.wait(one.pending));
    trouble.reset();
    EXPECT_TRUE(world.adds_up());
    EXPECT_TRUE(world.until([&] { return world.stats().capacity.used == 0; }));
    EXPECT_EQ(world.stats().in_flight, 0u);
  }  // every worker is gone: nobody writes any more

  check_effects(sent);
  check_sessions(sent);
  check_roles(sent);
  std::map<OutcomeKind, int> outcomes;
  std::map<DeathRole, int> roles;
  for (const Sent& one : sent) {
    const Outcome outcome = one.pending.outcome();
    ++outcomes[outcome.kind];
    if (outcome.death) ++roles[outcome.death->role];
    EXPECT_NE(outcome.kind, OutcomeKind::kQuarantined) << about(one);
  }
  // A run in which nothing was hit would prove nothing.
  EXPECT_GT(outcomes[OutcomeKind::kOk], static_cast<int>(kCalls / 4));
  EXPECT_GT(outcomes[OutcomeKind::kWorkerDied], 0);
  EXPECT_GT(outcomes[OutcomeKind::kTimeout], 0);
  EXPECT_GT(outcomes[OutcomeKind::kCancelled], 0);
  EXPECT_GT(roles[DeathRole::kSuspect], 0) << "nobody died beside others";
  std::string summary;
  for (const auto& [kind, count] : outcomes) {
    summary += " " + std::string(to_string(kind)) + " " + std::to_string(count);
  }
  std::printf("seed %llu:%s; suspects %d, bystanders %d, culprits %d\n",
              static_cast<unsigned long long>(seed_), summary.c_str(), roles[DeathRole::kSuspect],
              roles[DeathRole::kBystander], roles[DeathRole::kCulprit]);
}

// Goal: first come, first served between calls that run alone and calls that run together, whatever
// deadlines and cancels take out of the queue.
TEST_P(RandomCalls, KeepTheOrderBetweenAloneAndTogether) {
  if (!writes()) GTEST_SKIP() << "its seeds check the order strictly (src/sim/seeds_witness.h)";
  SCOPED_TRACE("KEELBACK_SEED=" + std::to_string(seed_));
  Settings s = settings();
  s.pool.workers = 1;
  s.calls.deadline = 30s;
  s.calls.grace = 30s;  // nothing is interrupted, nothing is killed
  s.breaker.failures = 0;
  constexpr std::size_t kCalls = 2000, kAtOnce = 64;
  std::vector<Sent> sent;
  sent.reserve(kCalls);
  {
    World world(GetParam(), s);
    world.warm();
    for (std::size_t i = 0; i < kCalls; ++i) {
      Sent& one = sent.emplace_back();
      const unsigned draw = chance_() % 10;
      one.kind = draw < 2 ? Kind::kAlone : draw < 6 ? Kind::kTask : Kind::kThread;
      one.line = "c" + std::to_string(i);
      Call call = make(one, number(4));
      if (one_in(16)) call.deadline = std::chrono::microseconds(chance_() % 6000);
      one.pending = world.submit(std::move(call));
      if (one_in(16)) world.driver().cancel(one.pending.id());
      if (i >= kAtOnce) static_cast<void>(world.wait(sent[i - kAtOnce].pending));
    }
    for (const Sent& one : sent) static_cast<void>(world.wait(one.pending));
  }
  check_effects(sent);
  check_order(sent);
}

INSTANTIATE_TEST_SUITE_P(Backends, RandomCalls, testing::ValuesIn(backends()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kSim    ? "sim"
                                  : chosen.param == Backend::kFake ? "fake"
                                                                   : "python";
                         });

}  // namespace
}  // namespace keelback::test
