#include "bench/change_points.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/prng.h"

namespace keelback::bench {
namespace {

double normal(Prng& prng) {
  return std::sqrt(-2 * std::log(1 - prng.unit())) * std::cos(2 * std::numbers::pi * prng.unit());
}

std::vector<double> noise(std::size_t n, double memory, Prng& prng) {
  std::vector<double> series;
  double level = 0;
  for (std::size_t i = 0; i < n; ++i) {
    level = memory * level + std::sqrt(1 - memory * memory) * normal(prng);
    series.push_back(level);
  }
  return series;
}

int alarms(double memory, int runs, Prng& prng) {
  int count = 0;
  for (int run = 0; run < runs; ++run) {
    const auto series = noise(60, memory, prng);
    count +=
        !change_points(
             series, {.alpha = 0.05, .shuffles = 199, .seed = static_cast<std::uint64_t>(run) + 1})
             .empty();
  }
  return count;
}

// Goal: looking at every split is paid for: pure noise is called a change about as often as alpha
// says. (Testing the best split as if it had been the only one alarms on 40 % and more.)
TEST(ChangePoints, PureNoiseIsNotCalledAChange) {
  Prng prng(1);
  EXPECT_LE(alarms(0, 300, prng), 30) << "5 % is 15";
  // Neighbours that resemble each other are what histories are made of. The blocks of three do not
  // take all of that away; a test of single values would alarm on half.
  EXPECT_LE(alarms(0.4, 300, prng), 60);
}

// Goal: a step of three deviations is found, where it is, and its size is told.
TEST(ChangePoints, AStepIsFoundWhereItIs) {
  Prng prng(2);
  int found = 0;
  for (int run = 0; run < 50; ++run) {
    auto series = noise(40, 0, prng);
    for (std::size_t i = 25; i < series.size(); ++i) series[i] += 3;
    const auto changes = change_points(series, {.seed = 3});
    if (changes.size() != 1) continue;
    found += changes[0].at >= 23 && changes[0].at <= 27 &&
             std::abs(changes[0].after - changes[0].before - 3) < 1.2;
  }
  EXPECT_GE(found, 45);
}

// Goal: a staircase is as many changes as it has steps, and each level is told.
TEST(ChangePoints, TwoStepsAreTwo) {
  std::vector<double> series(36, 1.0);
  Prng prng(5);
  for (std::size_t i = 0; i < series.size(); ++i)
    series[i] += 0.05 * normal(prng) + (i >= 24 ? 2 : i >= 12 ? 1 : 0);
  const auto changes = change_points(series, {.alpha = 0.05});
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].at, 12u);
  EXPECT_EQ(changes[1].at, 24u);
  EXPECT_NEAR(changes[0].after, 2, 0.1);
  EXPECT_NEAR(changes[1].after, 3, 0.1);
}

TEST(ChangePoints, ShortSeriesHaveNone) {
  EXPECT_TRUE(change_points({}).empty());
  EXPECT_TRUE(change_points(std::vector<double>{1, 1, 1, 9, 9, 9}).empty());
}

}  // namespace
}  // namespace keelback::bench
