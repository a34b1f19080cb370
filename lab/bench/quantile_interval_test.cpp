#include "bench/quantile_interval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/prng.h"

namespace keelback::bench {
namespace {

std::vector<double> up_to(int n) {
  std::vector<double> values;
  for (int i = 1; i <= n; ++i) values.push_back(i);
  return values;
}

// Goal: the order statistics of the textbook. The median of ten: the second to the ninth, which
// cover with 97.9 % (the third to the eighth with 89.1 %).
TEST(QuantileInterval, IsTheTextbooksForTheMedian) {
  const QuantileEstimate ten = quantile_interval(up_to(10), 0.5, 0.95);
  EXPECT_EQ(ten.low, 2);
  EXPECT_EQ(ten.high, 9);
}

// Goal: nobody knows from 100 values how large the 99th percentile can be (.99^100 = .37 that none
// lies beyond it); from 368 on one does (.99^368 = .0248).
TEST(QuantileInterval, DoesNotBoundWhatTheSampleCannotBound) {
  EXPECT_TRUE(std::isinf(quantile_interval(up_to(367), 0.99, 0.95).high));
  EXPECT_EQ(quantile_interval(up_to(368), 0.99, 0.95).high, 368);
  EXPECT_EQ(quantile_interval(up_to(100), 0.99, 0.95).low, 97);
  EXPECT_EQ(quantile_interval(up_to(1), 0.99, 0.95).value, 1);
}

// Goal: it covers as often as it says, of a skewed distribution as of any other.
TEST(QuantileInterval, CoversAsOftenAsItSays) {
  Prng prng(1);
  const double truth = -std::log1p(-0.9);
  int covered = 0;
  constexpr int kRuns = 2000;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> values;
    for (int i = 0; i < 60; ++i)
      values.push_back(-std::log((static_cast<double>(prng.below(1'000'000)) + 0.5) / 1e6));
    const QuantileEstimate estimate = quantile_interval(values, 0.9, 0.95);
    covered += estimate.low <= truth && truth <= estimate.high;
  }
  EXPECT_GE(covered, kRuns * 94 / 100);
}

}  // namespace
}  // namespace keelback::bench
