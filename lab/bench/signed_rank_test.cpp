#include "bench/signed_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/prng.h"
#include "oracle/oracle_data.h"

namespace keelback::bench {
namespace {

// The clumsy, obviously right model: try every assignment of signs.
double enumerate_tail(const std::vector<int>& ranks, long observed) {
  const std::size_t n = ranks.size();
  long hits = 0;
  for (std::size_t signs = 0; signs < std::size_t{1} << n; ++signs) {
    long sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += (signs >> i & 1) ? ranks[i] : 0;
    hits += sum >= observed;
  }
  return static_cast<double>(hits) / std::pow(2.0, static_cast<double>(n));
}

// Goal: the tail is exact, with and without ties, for every value the sum can take.
TEST(SignedRank, TailEqualsEnumerationOverAllSigns) {
  for (const std::vector<int>& ranks :
       {std::vector{2, 4, 6, 8, 10, 12}, std::vector{3, 3, 6, 9, 9, 12},
        std::vector{7, 7, 7, 7, 7, 7}, std::vector{2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24}}) {
    const long total = std::accumulate(ranks.begin(), ranks.end(), 0L);
    for (long w = 0; w <= total + 1; ++w) {
      ASSERT_NEAR(upper_tail(ranks, w), enumerate_tail(ranks, w), 1e-12) << w;
    }
  }
}

// Goal: the published critical values. Wilcoxon's table, one-sided .005 at n = 12: W <= 7.
// Twelve scores all above zero are the strongest evidence n = 12 can give: 2^-12.
TEST(SignedRank, AgreesWithThePublishedTable) {
  std::vector<int> ranks(12);
  for (int i = 0; i < 12; ++i) ranks[static_cast<std::size_t>(i)] = 2 * (i + 1);
  EXPECT_LE(upper_tail(ranks, 2 * (78 - 7)), 0.005);
  EXPECT_GT(upper_tail(ranks, 2 * (78 - 8)), 0.005);
  std::vector<double> scores{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  EXPECT_DOUBLE_EQ(signed_rank(scores, 0).p_greater, std::pow(2.0, -12));
  EXPECT_DOUBLE_EQ(signed_rank(scores, 0).p_less, 1.0);
}

// Goal: p values are those of an independent implementation.
TEST(SignedRank, AgreesWithSciPy) {
  for (const auto& [scores, greater, less] : oracle::kSignedRank) {
    const SignedRank ours = signed_rank(scores, 0);
    EXPECT_NEAR(ours.p_greater, greater, 1e-9) << scores.size();
    EXPECT_NEAR(ours.p_less, less, 1e-9) << scores.size();
  }
}

// Goal: the estimate is the median of pairwise means, and the interval covers the true effect at
// least as often as it says, for noise with tails far heavier than normal.
TEST(SignedRank, TheIntervalCoversAsOftenAsItSays) {
  Prng prng(20260101);
  constexpr int kRuns = 2000;
  constexpr double kTruth = 0.05;
  int covered = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> scores;
    for (int i = 0; i < 18; ++i) {
      const double u = prng.unit() - 0.5;
      scores.push_back(kTruth + 0.01 * std::tan(3.0 * u));  // close to Cauchy
    }
    const Estimate estimate = hodges_lehmann(scores, 0.95);
    ASSERT_GE(estimate.confidence, 0.95);
    ASSERT_LT(estimate.confidence, 0.97);
    covered += estimate.low <= kTruth && kTruth <= estimate.high;
  }
  // Three standard errors below .95 for 2000 runs is .935.
  EXPECT_GE(covered, static_cast<int>(0.935 * kRuns));
}

// Goal: too few scores give the widest interval and own up to what it covers.
TEST(SignedRank, AnIntervalFromThreeScoresSaysWhatItCovers) {
  const std::vector<double> scores{1, 2, 4};
  const Estimate estimate = hodges_lehmann(scores, 0.99);
  EXPECT_DOUBLE_EQ(estimate.value, 2.25);
  EXPECT_DOUBLE_EQ(estimate.low, 1);
  EXPECT_DOUBLE_EQ(estimate.high, 4);
  EXPECT_NEAR(estimate.confidence, 0.75, 1e-12);
}

TEST(SignedRank, ScoresAtTheMarginSayNothing) {
  const std::vector<double> scores{0.5, 0.5, 0.5};
  const SignedRank result = signed_rank(scores, 0.5);
  EXPECT_EQ(result.n, 0u);
  EXPECT_EQ(result.p_greater, 1.0);
  EXPECT_EQ(result.p_less, 1.0);
}

}  // namespace
}  // namespace keelback::bench
