#include "bench/batching.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelback::bench {
namespace {

using testing::Contains;
using testing::HasSubstr;

// Of one worker: a run takes `fixed_ms` and `each_ms` for each of its calls. Half of the calls in
// flight wait while the others run.
std::vector<FlightStep> runs_of(double fixed_ms, double each_ms, std::uint32_t declared) {
  std::vector<FlightStep> steps;
  for (std::uint32_t n = 1; n <= 2 * declared; n *= 2) {
    const double batch = std::max(1.0, n / 2.0);
    const double run_ms = fixed_ms + each_ms * batch;
    steps.push_back({.in_flight = n,
                     .per_second = 1e3 * batch / run_ms,
                     .p50_ms = 2 * run_ms,
                     .p99_ms = 2.2 * run_ms,
                     .batch = batch});
  }
  return steps;
}

// Goal: the smallest batches that carry nearly the most, and no larger ones than the objective
// allows.
TEST(Batching, TakesTheSmallestBatchThatCarriesNearlyTheMost) {
  const BatchAdvice knee = advise_batch("f", runs_of(10, 1, 64), 64, 1000);
  EXPECT_EQ(knee.batch, 64u) << "32 calls take 42 ms, 64 take 74";
  EXPECT_FALSE(knee.rises_on) << "64 carry 1.14 times as many as 32";
  EXPECT_THAT(knee.sentences, Contains(HasSubstr("Set batch = 64 on f, as it has.")));

  const BatchAdvice early = advise_batch("f", runs_of(1, 1, 64), 64, 1000);
  EXPECT_EQ(early.batch, 8u) << "889 a second of at most 985";
  EXPECT_NEAR(early.run_ms, 9, 1e-9);

  EXPECT_EQ(advise_batch("f", runs_of(10, 1, 64), 64, 60).batch, 16u) << "p99 of 32 is 92 ms";
}

// Goal: a function that takes as long for two calls as twice for one has nothing of batches.
TEST(Batching, IsLeftOutWhereRunsOfManyTakeAsLongAsManyRuns) {
  const BatchAdvice advice = advise_batch("f", runs_of(0.1, 1, 32), 32, 1000);
  EXPECT_EQ(advice.batch, 1u);
  EXPECT_THAT(advice.sentences.back(), HasSubstr("Leave batch out of f"));
}

// Goal: where the largest batch still carries far more than its half, the answer says so.
TEST(Batching, SaysThatLargerBatchesWouldCarryMore) {
  const BatchAdvice advice = advise_batch("f", runs_of(100, 0.1, 16), 16, 1000);
  EXPECT_EQ(advice.batch, 16u);
  EXPECT_TRUE(advice.rises_on);
  EXPECT_THAT(advice.sentences.back(), HasSubstr("declare batch = 64"));
}

TEST(Batching, OneStepIsNoGroundForBatches) {
  EXPECT_EQ(advise_batch("f", runs_of(8, 1, 64), 64, 5).batch, 1u) << "nothing keeps the objective";
}

// Goal: the shortest wait that saves a fifth of the processor time; none if p99 does not allow it.
TEST(Batching, WaitsOnlyWhereThatSavesProcessorTime) {
  const std::vector<WaitStep> steps = {
      {.wait_ms = 0, .batch = 2, .p50_ms = 5, .p99_ms = 9, .computed_ms = 2},
      {.wait_ms = 4, .batch = 6, .p50_ms = 8, .p99_ms = 13, .computed_ms = 1.2},
      {.wait_ms = 8, .batch = 9, .p50_ms = 12, .p99_ms = 18, .computed_ms = 1}};
  EXPECT_DOUBLE_EQ(advise_wait("f", steps, 25).wait_ms, 4);
  EXPECT_THAT(advise_wait("f", steps, 25).sentences.back(), HasSubstr("it saves 40 %"));
  EXPECT_DOUBLE_EQ(advise_wait("f", steps, 10).wait_ms, 0) << "p99 is beyond the objective";
  const std::vector<WaitStep> same = {{.wait_ms = 0, .batch = 8, .p99_ms = 9, .computed_ms = 1},
                                      {.wait_ms = 4, .batch = 9, .p99_ms = 12, .computed_ms = 0.9}};
  EXPECT_DOUBLE_EQ(advise_wait("f", same, 25).wait_ms, 0) << "batches are full without it";
}

}  // namespace
}  // namespace keelback::bench
