#include "bench/rank_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/prng.h"
#include "oracle/oracle_data.h"

namespace keelback::bench {
namespace {

// The clumsy, obviously right model: every way to choose which of n + m ranks are the second's.
std::vector<double> enumerate(std::size_t n, std::size_t m) {
  std::vector<double> counts(n * m + 1, 0.0);
  double ways = 0;
  for (unsigned chosen = 0; chosen < 1u << (n + m); ++chosen) {
    if (static_cast<std::size_t>(std::popcount(chosen)) != m) continue;
    std::size_t u = 0, firsts = 0;
    for (std::size_t rank = 0; rank < n + m; ++rank) {
      if (chosen >> rank & 1)
        u += firsts;
      else
        ++firsts;
    }
    ++counts[u];
    ++ways;
  }
  for (double& count : counts) count /= ways;
  return counts;
}

// Goal: the null distribution is exact.
TEST(RankSum, DistributionEqualsEnumeration) {
  for (const auto& [n, m] :
       {std::pair{1u, 1u}, std::pair{3u, 5u}, std::pair{6u, 6u}, std::pair{2u, 9u}}) {
    const auto ours = rank_sum_distribution(n, m), truth = enumerate(n, m);
    ASSERT_EQ(ours.size(), truth.size());
    for (std::size_t u = 0; u < truth.size(); ++u)
      EXPECT_NEAR(ours[u], truth[u], 1e-12) << n << " " << m << " " << u;
  }
}

// Goal: p values are those of an independent implementation.
TEST(RankSum, AgreesWithSciPy) {
  for (const auto& [first, second, p] : oracle::kRankSum)
    EXPECT_NEAR(rank_sum(first, second, 0.95).p, p, 1e-9);
}

// Goal: the interval covers the true shift as often as it says, and the estimate is its middle.
TEST(RankSum, TheIntervalCoversAsOftenAsItSays) {
  Prng prng(3);
  int covered = 0;
  constexpr int kRuns = 2000;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> first, second;
    for (int i = 0; i < 6; ++i) first.push_back(std::tan(3 * (prng.unit() - 0.5)));
    for (int i = 0; i < 8; ++i) second.push_back(2 + std::tan(3 * (prng.unit() - 0.5)));
    const Estimate shift = rank_sum(first, second, 0.95).shift;
    ASSERT_GE(shift.confidence, 0.95);
    covered += shift.low <= 2 && 2 <= shift.high;
  }
  EXPECT_GE(covered, static_cast<int>(0.935 * kRuns));
}

// Goal: Benjamini and Hochberg's own example (1995, 15 tests, q = .05): the first four are
// rejected.
TEST(FalseDiscovery, RejectsAsInTheOriginalPaper) {
  const std::vector<double> p = {0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                                 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000};
  const auto rejected = false_discovery(p, 0.05);
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(rejected[i], i < 4) << p[i];
  EXPECT_TRUE(false_discovery({}, 0.05).empty());
}

}  // namespace
}  // namespace keelback::bench
