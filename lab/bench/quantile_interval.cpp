#include "bench/quantile_interval.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <limits>
#include <vector>

namespace keelback::bench {

QuantileEstimate quantile_interval(std::span<const double> values, double q, double confidence) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  const double tail = (1 - confidence) / 2, all = static_cast<double>(n);
  QuantileEstimate estimate{.value = sorted[std::min(n - 1, static_cast<std::size_t>(q * all))],
                            .high = std::numeric_limits<double>::infinity()};
  // Of n values, so many lie below the quantile: binomial. The k-th smallest lies above it if fewer
  // than k do, and below it if at least k do.
  const boost::math::binomial below(all, q);
  for (std::size_t k = 1; k <= n; ++k) {
    const double fewer = boost::math::cdf(below, static_cast<double>(k - 1));
    if (fewer <= tail) estimate.low = sorted[k - 1];
    if (1 - fewer <= tail) {
      estimate.high = sorted[k - 1];
      break;
    }
  }
  return estimate;
}

}  // namespace keelback::bench
