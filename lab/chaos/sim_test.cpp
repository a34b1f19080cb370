#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/reached.h"
#include "base/sanitizer.h"
#include "chaos/lab.h"
#include "chaos/report.h"
#include "chaos/shrink.h"
#include "chaos/swarm.h"

namespace keelback::chaos {
namespace {

Scenario scenario(const std::string& name, const Overrides& overrides = {},
                  Level level = Level::kLight) {
  const auto parsed =
      parse_scenario(*library_text(name), level, scenario_lookup(), "library", overrides);
  EXPECT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
  return *parsed.scenario;
}
RunResult play(Scenario chosen, std::uint64_t seed, Level level = Level::kLight,
               bool twice = false) {
  RunRequest request{.level = level, .seed = seed, .twice = twice};
  auto result = run_scenario(std::move(chosen), request);
  EXPECT_TRUE(result) << result.error();
  return std::move(*result);
}
RunResult run(const std::string& name, std::uint64_t seed, const Overrides& overrides = {}) {
  return play(scenario(name, overrides), seed);
}
std::vector<std::string> simulated() {
  std::vector<std::string> out;
  for (const std::string& name : library_names()) {
    const auto backends = scenario(name).backends;
    if (std::ranges::find(backends, Backend::kSim) != backends.end()) out.push_back(name);
  }
  return out;
}
// KEELBACK_SIM_SEEDS=n: as many as you have time for.
std::uint64_t seeds() {
  const char* asked = std::getenv("KEELBACK_SIM_SEEDS");
  const std::uint64_t otherwise = kSanitizer.empty() ? 8 : kSanitizer == "thread" ? 1 : 2;
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : otherwise;
}

// Goal: the production core stands every scenario that the simulator can inject, at every level, on
// every seed; and a plan that is played twice gives one history.
TEST(ChaosOnTheSimulator, EveryScenarioPasses) {
  EXPECT_GE(simulated().size(), 25U);
  for (const std::string& name : simulated()) {
    for (const Level level : {Level::kLight, Level::kMedium, Level::kHeavy}) {
      const Scenario chosen = scenario(name, {}, level);
      for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
        const RunResult result = play(chosen, seed, level, /*twice=*/seed == 1);
        EXPECT_EQ(result.judgement.verdict, Verdict::kPass) << report_text(result);
      }
    }
  }
}

// Goal: the report of a pool that grows shows how its size followed the load.
TEST(ChaosOnTheSimulator, TheReportOfAPoolThatGrowsShowsItsSize) {
  const Overrides grows{.settings = {{"pool.workers_max", "6"}, {"pool.scale_up_delay", "0s"}}};
  const RunResult result = run("overload-is-refused", 1, grows);
  std::set<std::uint32_t> slots;
  for (const WorkerEvent& event : result.history.workers) slots.insert(event.worker.slot);
  EXPECT_GT(slots.size(), 2U) << "it has grown";
  constexpr auto kSaid = "The size of the pool follows the load";
  EXPECT_THAT(report_html(result), testing::HasSubstr(kSaid));
  EXPECT_THAT(report_html(run("overload-is-refused", 1)), testing::Not(testing::HasSubstr(kSaid)))
      << "where the size is fixed there is nothing to show";
}

// Goal: the scenarios together take the core through its rare paths; the ones that they cannot take
// are known by name.
TEST(ChaosOnTheSimulator, TheScenariosReachTheRarePaths) {
  if (!kSanitizer.empty()) GTEST_SKIP() << "what is reached, the release build shows in a tenth";
  // What no scenario can reach (docs/chaos.md says why); unit tests of the core lead there.
  const std::set<std::string> known = {"ladder: abandon", "shutting_down", "worker_died: none"};
  std::vector<std::string> never;
  const auto look = [&] {
    never.clear();
    for (const ReachedMark::Count& mark : ReachedMark::all()) {
      if (mark.times == 0) never.emplace_back(mark.name);
    }
    return never.size() > known.size();
  };
  for (std::uint64_t seed = 1; seed <= 6 && look(); ++seed) {
    for (const std::string& name : simulated()) {
      for (const Level level : {Level::kLight, Level::kHeavy}) {
        play(scenario(name, {}, level), seed, level);
      }
    }
  }
  look();
  for (const std::string& each : never) std::printf("never reached: %s\n", each.c_str());
  for (const std::string& each : never) EXPECT_TRUE(known.contains(each)) << each;
  for (const std::string& each : known) {
    EXPECT_THAT(never, testing::Contains(each)) << "it is reached: it needs no excuse any more";
  }
  EXPECT_GE(ReachedMark::all().size(), 20U);
}

// Goal: combinations that nobody wrote down break no invariant, cost nothing unexplained, and end
// with the service back.
TEST(ChaosOnTheSimulator, SwarmsPass) {
  std::uint64_t invalid = 0;
  const std::uint64_t n = 20 * seeds();
  for (std::uint64_t seed = 1; seed <= n; ++seed) {
    const std::string text = swarm_scenario(seed, Backend::kSim);
    const auto parsed = parse_scenario(text, Level::kMedium, scenario_lookup(), "swarm");
    ASSERT_TRUE(parsed.ok()) << text << describe(parsed.findings.at(0));
    const RunResult result = play(*parsed.scenario, seed, Level::kMedium);
    const Verdict verdict = result.judgement.verdict;
    if (verdict == Verdict::kInvalid) {
      ++invalid;
      std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed),
                  result.judgement.why.c_str());
    }
    EXPECT_TRUE(verdict == Verdict::kPass || verdict == Verdict::kInvalid)
        << report_text(result) << text;
  }
  std::printf("%llu of %llu swarms did not bite\n", static_cast<unsigned long long>(invalid),
              static_cast<unsigned long long>(n));
  if (n < 100) return;  // a share of few says nothing: sanitizers play 20 or 40
  EXPECT_LE(invalid, n / 10) << "drawn faults that do not bite test nothing";
}

// Goal: a fault that does nothing is never a pass, whatever the class.
TEST(ChaosOnTheSimulator, EveryPlaceboIsInvalid) {
  for (const std::string& name : simulated()) {
    const RunResult result = run(name, 5, {.placebo = true});
    EXPECT_EQ(result.judgement.verdict, Verdict::kInvalid) << report_text(result);
    EXPECT_EQ(exit_code(result.judgement.verdict), 4);
    EXPECT_EQ(result.judgement.losses.unexplained, 0U) << report_text(result);
  }
}

TEST(ChaosOnTheSimulator, OnePlanGivesOneHistory) {
  const RunResult one = run("cascading-failure", 9);
  const RunResult two = run("cascading-failure", 9);
  EXPECT_EQ(hash(one.plan), hash(two.plan));
  EXPECT_EQ(to_jsonl(one.history), to_jsonl(two.history));
  EXPECT_NE(one.history.facts.trace_hash, run("cascading-failure", 10).history.facts.trace_hash);
}

TEST(ChaosOnTheSimulator, AHistoryJudgesTheSameWhenItIsReadBack) {
  const RunResult one = run("worker-kill", 4);
  const auto back = history_from_jsonl(to_jsonl(one.history));
  ASSERT_TRUE(back) << back.error();
  RunResult again = one;
  again.history = *back;
  again.judgement = judge({again.history, again.scenario, again.plan});
  EXPECT_EQ(report_json(again), report_json(one));
}

TEST(ChaosOnTheSimulator, ABudgetThatIsMissedSaysSo) {
  Scenario hard = scenario("worker-stop-for-good");
  hard.during.ok = 1.0;
  const auto result = run_scenario(hard, {.level = Level::kLight, .seed = 2});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->judgement.verdict, Verdict::kBudget) << report_text(*result);
  EXPECT_EQ(exit_code(result->judgement.verdict), 3);
}

TEST(ChaosOnTheSimulator, LossesThatTheFaultMayNotCostAreUnexplained) {
  Scenario strict = scenario("worker-stop-for-good");
  for (FaultSpec& fault : strict.faults) fault.expected = {OutcomeKind::kCancelled};
  const auto result = run_scenario(strict, {.level = Level::kLight, .seed = 2});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->judgement.verdict, Verdict::kSafety) << report_text(*result);
  EXPECT_GT(result->judgement.losses.unexplained, 0U);
}

TEST(ChaosOnTheSimulator, AStopConditionEndsTheRunAsAborted) {
  Scenario brittle = scenario("worker-stop-for-good");
  brittle.stop_ok = 1.0;
  brittle.stop_for = std::chrono::milliseconds(500);
  const auto result = run_scenario(brittle, {.level = Level::kLight, .seed = 2});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->judgement.verdict, Verdict::kAborted) << report_text(*result);
}

// Goal: what does not come back is exit 2, not a matter of budgets: a breaker that stays open keeps
// a third of the load from being served, before and after a rest.
const char* const kNeverComesBack = R"(
name = "never-comes-back"
why = "A breaker opens and stays open."
[settings.pool]
workers = 4
[settings.calls]
deadline = "300ms"
grace = "200ms"
[settings.breaker]
failures = 3
ratio = 0.0
open_for = "1h"
[load]
rate = 100
mix = { echo = 0.5, sleep = 0.5 }
[[fault]]
id = "g"
class = "call.slow"
at = "200ms"
for = "1s"
with = { share = 0.05, takes = "2s" }
[during]
ok = 0.0
)";

TEST(ChaosOnTheSimulator, WhatNeverComesBackIsLivenessAndDamaged) {
  const auto parsed = parse_scenario(kNeverComesBack, Level::kMedium, scenario_lookup(), "test");
  ASSERT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
  const RunResult result = play(*parsed.scenario, 1);
  EXPECT_EQ(result.judgement.verdict, Verdict::kLiveness) << report_text(result);
  EXPECT_EQ(exit_code(result.judgement.verdict), 2);
  EXPECT_EQ(result.judgement.latch, Latch::kDamaged);
}

// Goal: the cap on what is broken at once holds at run time too, and what was not injected is said.
TEST(ChaosOnTheSimulator, AFaultBeyondTheBlastCapIsNotInjected) {
  for (const bool capped : {false, true}) {
    const std::string text =
        "extends = \"worker-stop\"\n[[fault]]\nid = \"a\"\nclass = "
        "\"proc.stop\"\ntarget = \"slot=1\"\nat = \"100ms\"\nfor = \"300ms\"\n"
        "[[fault]]\nid = \"b\"\nclass = \"proc.stop\"\ntarget = \"slot=2\"\nat = "
        "\"200ms\"\nfor = \"300ms\"\n" +
        std::string(capped ? "[safety]\nslots_pct = 25\n" : "");
    const auto parsed = parse_scenario(text, Level::kLight, scenario_lookup(), "test");
    ASSERT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
    const RunResult result = play(*parsed.scenario, 1);
    EXPECT_EQ(result.judgement.verdict, capped ? Verdict::kInvalid : Verdict::kPass)
        << report_text(result);
    EXPECT_EQ(result.judgement.why.find("safety.slots_pct") != std::string::npos, capped)
        << result.judgement.why;
  }
}

// ---- shrinking

// Goal: the smallest plan that fails alike is small, and fails alike.
TEST(ChaosShrink, FindsAPlanOfAFewCallsThatFailsAlike) {
  const auto parsed =
      parse_scenario("extends = \"comprehensive-recovery\"\n[expect]\nnever = [\"session_lost\"]\n",
                     Level::kLight, scenario_lookup(), "test");
  ASSERT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
  const RunResult whole = play(*parsed.scenario, 3);
  ASSERT_EQ(whole.judgement.verdict, Verdict::kSafety) << report_text(whole);
  const auto shrunk = shrink_plan(whole.plan, {.runs_max = 3000});
  ASSERT_TRUE(shrunk) << shrunk.error();
  EXPECT_EQ(shrunk->symptom.verdict, Verdict::kSafety);
  EXPECT_TRUE(shrunk->complete);
  EXPECT_EQ(shrunk->plan.firings.size(), 1U) << size_of(shrunk->plan);
  // One call that gives the session its state, one that learns of its loss.
  EXPECT_LE(shrunk->plan.load.size(), 2U) << size_of(shrunk->plan);
  EXPECT_TRUE(shrunk->plan.verify.empty());
  const auto again = replay_plan(shrunk->plan, {.conduct = {}});
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(symptom_of(again->judgement), shrunk->symptom);
}

TEST(ChaosShrink, APlanThatPassesHasNothingToShrink) {
  const RunResult whole = run("worker-kill", 2);
  const auto shrunk = shrink_plan(whole.plan, {.run = {}});
  ASSERT_FALSE(shrunk);
  EXPECT_THAT(shrunk.error(), testing::HasSubstr("nothing to shrink"));
}

// Goal: a failure that shows in one run of five is given as many runs as make a miss unlikely.
TEST(ChaosShrink, GivesARareFailureMoreTries) {
  EXPECT_EQ(tries_for(1), 1U);
  EXPECT_EQ(tries_for(0.5), 5U);
  EXPECT_EQ(tries_for(0.2), 14U);
  EXPECT_EQ(tries_for(0.1), 29U);
  const Plan plan = run("multiple-kills", 1).plan;
  std::uint64_t n = 0;
  const auto shrunk =
      shrink(plan, {.run = [&](const Plan& candidate) -> std::expected<Judgement, std::string> {
                      Judgement judgement;
                      // Needs a fault, and shows every third time only.
                      const bool fails = !candidate.firings.empty() && ++n % 3 == 0;
                      judgement.verdict = fails ? Verdict::kSafety : Verdict::kPass;
                      return judgement;
                    },
                    .first_runs = 9,
                    .runs_max = 5000});
  ASSERT_TRUE(shrunk) << shrunk.error();
  EXPECT_EQ(shrunk->first_failed, 3U);
  EXPECT_EQ(shrunk->plan.firings.size(), 1U);
  EXPECT_TRUE(shrunk->plan.load.empty());
}

}  // namespace
}  // namespace keelback::chaos
