// Two independent samples, such as a run and the accepted one before it: Mann and Whitney's test,
// exact, with the shift between them. What is drawn on different days is not randomised, so this
// advises and never gates; `bench compare` is the gate.
#pragma once

#include <span>
#include <vector>

#include "bench/signed_rank.h"

namespace keelback::bench {

// counts[u] = in how many of the ways to mix n and m values U is u, as a share. O(n m (n + m)).
std::vector<double> rank_sum_distribution(std::size_t n, std::size_t m);

struct RankSum {
  Estimate shift;  // of `second` over `first`: the median of all differences, with its interval
  double p = 1;    // two-sided, exact where there are no ties, conservative where there are
};
// Requires at least one value on each side; confidence in (0, 1).
RankSum rank_sum(std::span<const double> first, std::span<const double> second, double confidence);

// Benjamini and Hochberg 1995: which of the hypotheses to reject so that of those rejected at most
// the share q is expected to be wrong.
std::vector<bool> false_discovery(std::span<const double> p, double q);

}  // namespace keelback::bench
