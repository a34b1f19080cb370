// What an outcome says of its effect, against a ledger that no crash can falsify: a file to which
// the function itself appends a line, in one write, before anything else can happen to it. Workers
// are killed and recycled at random all the while.
//
//   not idempotent   at most one line
//   ok               exactly one line (an idempotent call: at least one)
//   effect none      no line
//   effect done      at least one line
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "conformance/driver_suite.h"
#include "conformance/trouble.h"

namespace keelback::test {
namespace {

struct Case {
  Backend backend;
  SnapshotMode snapshot;
};
std::string name_of(const testing::TestParamInfo<Case>& info) {
  const std::string mode = info.param.snapshot == SnapshotMode::kEachCall ? "each_call" : "off";
  return (info.param.backend == Backend::kFake ? "fake_" : "python_") + mode;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Backend backend : backends()) {
    if (backend == Backend::kSim) continue;  // it has no file to write to
    for (const SnapshotMode mode : {SnapshotMode::kOff, SnapshotMode::kEachCall}) {
      all.push_back({backend, mode});
    }
  }
  return all;
}

class EffectLedger : public testing::TestWithParam<Case> {
 protected:
  Ledger ledger_;
};

struct Sent {
  std::string line;
  bool idempotent = false;
  Pending pending;
};

TEST_P(EffectLedger, EveryOutcomeTellsTheTruthUnderRandomKills) {
  std::uint64_t seed = std::random_device{}();
  if (const char* given = std::getenv("KEELBACK_SEED")) seed = std::strtoull(given, nullptr, 0);
  SCOPED_TRACE("KEELBACK_SEED=" + std::to_string(seed));
  std::mt19937_64 chance(seed);

  Settings s = World::default_settings();
  s.pool.workers = 4;
  s.sessions.snapshot = GetParam().snapshot;
  s.calls.deadline = 5s;
  s.calls.grace = 500ms;
  s.calls.retries = 5;
  s.calls.retry_budget = 1.0;
  s.breaker.failures = 0;
  s.quarantine.deaths = 1000;
  constexpr int kCalls = 1500, kHunts = 10;
  std::vector<Sent> sent;
  sent.reserve(kCalls + kHunts);
  int kills = 0;
  {
    World world(GetParam().backend, s);
    world.warm();
    {
      Trouble trouble(world, seed + 1);
      for (int i = 0; i < kCalls; ++i) {
        Sent& one = sent.emplace_back();
        one.line = "c" + std::to_string(i);
        one.idempotent = chance() % 4 == 0;
        const std::string ms = chance() % 4 == 0 ? std::to_string(chance() % 3) : "0";
        Call call = ask("append", "[\"" + ledger_.path() + "\",\"" + one.line + "\"," + ms + "]");
        call.idempotent = one.idempotent;
        if (chance() % 3 == 0) call.session = "s" + std::to_string(chance() % 6);
        if (chance() % 16 == 0) call.deadline = std::chrono::microseconds(chance() % 4000);
        one.pending = world.submit(std::move(call));
        if (chance() % 16 == 0) world.driver().cancel(one.pending.id());
        // Several in flight, few enough that the kills hit calls that run and calls that wait.
        if (i < 8) continue;
        // A kill may hit workers that start, too. While none is up every call is refused at once.
        if (world.wait(sent[i - 8].pending).kind == OutcomeKind::kNotReady) world.warm();
      }
      // Which calls the random kills hit is chance. One that nothing but a kill ends is hit for
      // sure; one that was killed before its function began is tried again, and hit again.
      for (int i = 0; i < kHunts; ++i) {
        Sent& one = sent.emplace_back();
        one.line = "hunted" + std::to_string(i);
        Call call = ask("append", "[\"" + ledger_.path() + "\",\"" + one.line + "\",600000]");
        call.deadline = std::chrono::minutes(5);
        one.pending = world.submit(std::move(call));
        trouble.hunt(one.pending.id());
        const Outcome outcome = world.wait(one.pending);
        trouble.spare();
        if (outcome.kind == OutcomeKind::kWorkerDied && outcome.effect == Effect::kMaybe) break;
      }
      for (const Sent& one : sent) static_cast<void>(world.wait(one.pending));
      kills = trouble.kills();
    }
    EXPECT_TRUE(world.adds_up());
  }  // every worker is gone: nobody writes any more

  const auto ledger = ledger_.lines();
  std::map<std::string, int> kinds;
  int hit = 0;
  for (const Sent& one : sent) {
    const Outcome outcome = one.pending.outcome();
    const auto found = ledger.find(one.line);
    const int effects = found == ledger.end() ? 0 : found->second;
    SCOPED_TRACE(one.line + (one.idempotent ? " idempotent " : " ") + told(outcome) + ", " +
                 std::to_string(effects) + " effects");
    ++kinds[std::string(to_string(outcome.kind))];
    hit += outcome.kind == OutcomeKind::kWorkerDied && outcome.effect == Effect::kMaybe;
    if (!one.idempotent) {
      EXPECT_LE(effects, 1);
    }
    if (outcome.ok()) {
      EXPECT_GE(effects, 1);
    }
    if (outcome.effect == Effect::kNone) {
      EXPECT_EQ(effects, 0);
    }
    if (outcome.effect == Effect::kDone) {
      EXPECT_GE(effects, 1);
    }
  }
  // A run in which nothing was hit would prove nothing.
  EXPECT_GE(kills, Trouble::kKills / 2);
  EXPECT_GT(kinds["ok"], kCalls / 10);
  EXPECT_GT(hit, 0) << "no kill hit a call that ran";
  std::string summary;
  for (const auto& [kind, count] : kinds) summary += " " + kind + " " + std::to_string(count);
  std::printf("seed %llu: %d kills;%s\n", static_cast<unsigned long long>(seed), kills,
              summary.c_str());
}

// Deadlines that pass before, while and after the function begins: `none` is said exactly of those
// that never ran. At the deadline a worker may be about to begin: what it takes back a moment later
// was `maybe` when the caller heard. At the end there is no such moment.
TEST_P(EffectLedger, NoneIsSaidOfWhatDidNotStartAndOfNothingElse) {
  for (const AnswerAt answer_at : {AnswerAt::kDeadline, AnswerAt::kEnd}) {
    ledger_.forget();
    Settings s = World::default_settings();
    s.pool.workers = 2;
    s.sessions.snapshot = GetParam().snapshot;
    s.calls.answer_at = answer_at;
    s.calls.grace = 30s;  // nothing is interrupted, nothing is killed: what begins is written down
    s.breaker.failures = 0;
    constexpr int kCalls = 1500;
    std::vector<Sent> sent;
    sent.reserve(kCalls);
    {
      World world(GetParam().backend, s);
      world.warm();
      for (int i = 0; i < kCalls; ++i) {
        Sent& one = sent.emplace_back();
        one.line = "c" + std::to_string(i);
        Call call = ask("append", "[\"" + ledger_.path() + "\",\"" + one.line + "\",0]");
        if (i % 3 == 0) call.session = "s" + std::to_string(i % 6);
        // On a busy machine only those with time end well.
        call.deadline = i % 25 == 7 ? 10s : std::chrono::microseconds(i % 10 * 100 + 20);
        one.pending = world.submit(std::move(call));
        if (i % 16 == 0) world.driver().cancel(one.pending.id());
        if (i >= 4) static_cast<void>(world.wait(sent[i - 4].pending));
      }
      for (const Sent& one : sent) static_cast<void>(world.wait(one.pending));
    }  // every worker is gone
    const auto ledger = ledger_.lines();
    std::map<std::string, int> told_of;
    int taken_back = 0;
    for (const Sent& one : sent) {
      const Outcome outcome = one.pending.outcome();
      const bool ran = ledger.contains(one.line);
      SCOPED_TRACE(one.line + " " + told(outcome) + (ran ? ", ran" : ", did not run"));
      ++told_of[std::string(to_string(outcome.kind)) + " " +
                std::string(to_string(outcome.effect))];
      EXPECT_FALSE(outcome.effect == Effect::kNone && ran);
      EXPECT_FALSE(outcome.effect == Effect::kDone && !ran);
      taken_back += outcome.effect == Effect::kMaybe && !ran;
    }
    // The fake worker's function heeds a cancel between its beginning and its line, too.
    const bool exact = answer_at == AnswerAt::kEnd && GetParam().backend != Backend::kFake;
    EXPECT_LE(taken_back, exact ? 0 : kCalls / 100);
    std::string summary;
    for (const auto& [what, count] : told_of) summary += " " + what + " " + std::to_string(count);
    std::printf("%d taken back;%s\n", taken_back, summary.c_str());
    EXPECT_GT(told_of["ok done"], 0) << summary;
    EXPECT_GT(told_of["timeout none"], 0) << summary;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EffectLedger, testing::ValuesIn(cases()), name_of);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(EffectLedger);

}  // namespace
}  // namespace keelback::test
