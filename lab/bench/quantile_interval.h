// Where a quantile of a distribution lies that nobody knows, from a sample of it: two of its order
// statistics, by the binomial distribution alone.
#pragma once

#include <span>

namespace keelback::bench {

struct QuantileEstimate {
  double value = 0;  // of the sample
  double low = 0;    // covers with at least the confidence that was asked for
  double high = 0;   // infinite: so few values bound it on this side only with less confidence
};
// q and confidence in (0, 1); at least one value, none negative.
QuantileEstimate quantile_interval(std::span<const double> values, double q, double confidence);

}  // namespace keelback::bench
