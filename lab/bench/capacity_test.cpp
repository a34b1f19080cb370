#include "bench/capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelback::bench {
namespace {

using testing::HasSubstr;

LoadStep step(double offered, double p99_ms, double good_share = 1) {
  return {.offered = offered, .good = offered * good_share, .p50_ms = 1, .p99_ms = p99_ms};
}

// Goal: the knee is the end of the unbroken stretch from below that was carried; a lucky step
// beyond a failed one does not count.
TEST(Capacity, TheKneeIsTheEndOfWhatWasCarriedFromBelow) {
  EXPECT_EQ(knee(std::vector{step(300, 5), step(100, 2), step(200, 3)}, 10), 300);
  EXPECT_EQ(knee(std::vector{step(100, 2), step(200, 11), step(300, 3)}, 10), 100);
  EXPECT_EQ(knee(std::vector{step(100, 2), step(200, 3, 0.98)}, 10), 100)
      << "2 % were not answered";
  EXPECT_EQ(knee(std::vector{step(100, 20)}, 10), std::nullopt);
  EXPECT_EQ(knee({}, 10), std::nullopt);
  // Of several steps at one rate the median speaks.
  EXPECT_EQ(knee(std::vector{step(100, 2), step(100, 90), step(100, 3)}, 10), 100);
}

PoolCapacity pool(std::uint32_t workers, double at_objective) {
  PoolCapacity capacity{
      .workers = workers, .unloaded_p50_ms = 5, .unloaded_p99_ms = 6, .most = 1.2 * at_objective};
  if (at_objective > 0) capacity.at_objective = at_objective;
  return capacity;
}

// Goal: the fewest workers that do what is asked; without a wish, those that give nine tenths of
// the best, because the last tenth is what crosstalk eats.
TEST(Capacity, AdvisesTheFewestWorkersThatSuffice) {
  const std::vector pools{pool(1, 190), pool(2, 380), pool(4, 700), pool(8, 750)};
  EXPECT_EQ(advise(pools, 300, 25)->workers, 2u);
  EXPECT_EQ(advise(pools, 0, 25)->workers, 4u);
  const auto advice = *advise(pools, 300, 25);
  EXPECT_EQ(advice.queue_max, 10u) << "380 a second times 25 ms, rounded up";
  EXPECT_TRUE(advice.enough);
  EXPECT_THAT(advice.sentences.front(),
              HasSubstr("1 worker carries 190 calls a second with p99 within 25 ms"));
  EXPECT_THAT(advice.sentences.back(), HasSubstr("Set pool.workers = 2 and pool.queue_max = 10"));
}

// Goal: of workers that wait most of the time more are not better, unless the rate wants them.
TEST(Capacity, WorkersThatHaveRoomAreNotMultiplied) {
  std::vector pools{pool(1, 1200), pool(2, 2400), pool(4, 4800)};
  EXPECT_EQ(advise(pools, 0, 250)->workers, 4u);
  for (PoolCapacity& each : pools) each.has_room = true;
  const auto advice = *advise(pools, 0, 250);
  EXPECT_EQ(advice.workers, 1u);
  EXPECT_THAT(advice.sentences.back(), HasSubstr("Raise concurrency first"));
  EXPECT_EQ(advise(pools, 2000, 250)->workers, 2u);
}

TEST(Capacity, ASlowFirstCallIsToldWhereToLoad) {
  const auto told = about_first_call("predict", 1500, 0.2);
  ASSERT_TRUE(told);
  EXPECT_NE(told->find("The first call of predict in a new worker takes 1500 ms"), told->npos);
  EXPECT_NE(told->find("@keelback.setup"), told->npos);
  EXPECT_FALSE(about_first_call("predict", 40, 0.2)) << "nobody notices";
  EXPECT_FALSE(about_first_call("train", 1500, 1400)) << "each call takes that long";
}

TEST(Capacity, SaysWhenNothingSuffices) {
  const std::vector pools{pool(1, 0), pool(2, 100)};
  const auto advice = advise(pools, 500, 25);
  ASSERT_TRUE(advice);
  EXPECT_FALSE(advice->enough);
  EXPECT_EQ(advice->workers, 2u);
  EXPECT_THAT(advice->sentences[1],
              HasSubstr("more than any of these pools carries: the best is 100"));
  EXPECT_FALSE(advise(std::vector{pool(1, 0)}, 0, 25));
}

}  // namespace
}  // namespace keelback::bench
