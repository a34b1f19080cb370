#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "chaos/lab.h"
#include "chaos/report.h"

namespace keelback::chaos {
namespace {

Scenario scenario(const std::string& name, const Overrides& overrides = {}) {
  const auto parsed =
      parse_scenario(*library_text(name), Level::kLight, scenario_lookup(), "library", overrides);
  EXPECT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
  return *parsed.scenario;
}
RunResult run(const std::string& name, std::uint64_t seed, const Overrides& overrides = {}) {
  auto result = run_scenario(scenario(name, overrides), {.level = Level::kLight, .seed = seed});
  EXPECT_TRUE(result) << result.error();
  return std::move(*result);
}
bool simulates(const std::string& name) {
  const auto backends = scenario(name).backends;
  return std::ranges::find(backends, Backend::kSim) != backends.end();
}

// Goal: the production core stands every scenario that the simulator can inject, on every seed.
TEST(ChaosOnTheSimulator, EveryScenarioPasses) {
  int played = 0;
  for (const std::string& name : library_names()) {
    if (!simulates(name)) continue;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const RunResult result = run(name, seed);
      EXPECT_EQ(result.judgement.verdict, Verdict::kPass) << report_text(result);
      ++played;
    }
  }
  EXPECT_GE(played, 3 * 20);
}

// Goal: a fault that does nothing is never a pass, whatever the class.
TEST(ChaosOnTheSimulator, EveryPlaceboIsInvalid) {
  for (const std::string& name : library_names()) {
    if (!simulates(name)) continue;
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

}  // namespace
}  // namespace keelback::chaos
