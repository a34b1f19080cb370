#include "load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace keelback::load {

// 0 … 63 ns have a bucket each; above, octave o (values 64·2^o … 128·2^o − 1) has 64 buckets.
std::size_t Histogram::index_of(std::uint64_t nanoseconds) {
  if (nanoseconds < kSubBuckets) return static_cast<std::size_t>(nanoseconds);
  const int octave = std::bit_width(nanoseconds) - 7;
  if (octave >= kOctaves) return kBuckets - 1;
  const std::uint64_t sub = (nanoseconds >> octave) - kSubBuckets;
  return static_cast<std::size_t>(kSubBuckets * (octave + 1)) + static_cast<std::size_t>(sub);
}

std::uint64_t Histogram::middle_of(std::size_t index) {
  CHECK(index < kBuckets);
  if (index < kSubBuckets) return index;
  const std::size_t octave = index / kSubBuckets - 1;
  const std::uint64_t low = (kSubBuckets + index % kSubBuckets) << octave;
  return low + ((std::uint64_t{1} << octave) >> 1);
}

void Histogram::record(Duration value) {
  value = std::max(value, Duration{0});
  ++counts_[index_of(static_cast<std::uint64_t>(value.count()))];
  ++count_;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

void Histogram::record_censored(Duration at_least) {
  at_least = std::max(at_least, Duration{0});
  ++censored_[index_of(static_cast<std::uint64_t>(at_least.count()))];
  ++count_;
  ++censored_count_;
  min_ = std::min(min_, at_least);
  max_ = std::max(max_, at_least);
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) {
    counts_[i] += other.counts_[i];
    censored_[i] += other.censored_[i];
  }
  count_ += other.count_;
  censored_count_ += other.censored_count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

// A censored value may be anything from its bound upwards, so everything at or above the lowest
// censored bucket on the way to the rank makes the answer a lower bound.
Histogram::Quantile Histogram::quantile(double q) const {
  CHECK(q >= 0 && q <= 1);
  Quantile result;
  if (count_ == 0) return result;
  const auto n = static_cast<double>(count_);
  const auto rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(q * n - 1e-9)));
  std::uint64_t seen = 0;
  bool met_censored = false;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    met_censored |= censored_[i] != 0;
    seen += counts_[i] + censored_[i];
    if (seen >= rank) {
      const auto middle = static_cast<Duration::rep>(middle_of(i));
      result.value = std::clamp(Duration{middle}, min(), max());
      result.at_least = met_censored;
      return result;
    }
  }
  CHECK(!"rank beyond the count");
  return result;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  std::vector<Bucket> result;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    if (counts_[i] || censored_[i]) {
      result.push_back(
          {Duration{static_cast<Duration::rep>(middle_of(i))}, counts_[i], censored_[i]});
    }
  }
  return result;
}

}  // namespace keelback::load
