// The paired test behind every verdict: Wilcoxon's signed rank, exact.
//
// Blocks assign base and head to their places by an independent fair coin, so under "the labels do
// not matter" the signs of the block scores are independent and fair given their absolute values,
// whatever the noise is (Fisher's randomisation). The distribution of the rank sum is then known
// exactly: each rank is in the sum with probability 1/2. Ties get mid-ranks; ranks are kept
// doubled, hence whole, so ties stay exact too (no simulation, no normal approximation).
//
// Sources: Wilcoxon 1945; Pratt 1959 (zeros: dropped here, the conservative choice for n small);
// Hodges and Lehmann 1963 for the estimate and its interval.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace keelback::bench {

// P(W >= observed) where W sums each of `doubled_ranks` with probability 1/2. O(n * sum).
double upper_tail(std::span<const int> doubled_ranks, long observed);

struct SignedRank {
  std::size_t n = 0;       // scores that are not exactly the margin
  long rank_sum = 0;       // doubled ranks of the scores above the margin
  double p_greater = 1.0;  // H0: effect <= margin
  double p_less = 1.0;     // H0: effect >= margin
};
// Tests scores - margin. Scores equal to the margin are dropped; n == 0 gives p = 1 on both sides.
SignedRank signed_rank(std::span<const double> scores, double margin);

struct Estimate {
  double value = 0;       // median of the Walsh averages
  double low = 0;         // interval by inverting the exact test; the widest the data allow when
  double high = 0;        // `confidence` cannot be reached with so few scores
  double confidence = 0;  // what the interval really covers, >= what was asked where n allows
};
// The median of `sorted` with its interval: from the k-th smallest to the k-th largest value. The
// error on each side is P(statistic < k), by `probability`, the distribution of the statistic.
Estimate interval_of(std::span<const double> sorted, std::span<const double> probability,
                     double confidence);
// Requires at least one score; confidence in (0, 1).
Estimate hodges_lehmann(std::span<const double> scores, double confidence);

// Robust spread: 1.4826 times the median absolute deviation.
double robust_deviation(std::span<const double> values);
double median(std::span<const double> values);  // requires at least one

}  // namespace keelback::bench
