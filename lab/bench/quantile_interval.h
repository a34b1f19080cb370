// An interval for a quantile of an unknown distribution, from a sample. It holds for every
// distribution, because it only counts how many values lie below the quantile (binomial).
#pragma once

#include <span>

namespace keelback::bench {

struct QuantileEstimate {
  double value = 0;  // of the sample
  double low = 0;    // the interval has at least the confidence that was asked for
  double high = 0;   // infinite: the sample is too small to bound the quantile above
};
// q and confidence in (0, 1); at least one value, none negative.
QuantileEstimate quantile_interval(std::span<const double> values, double q, double confidence);

}  // namespace keelback::bench
