// Latencies without loss of shape: a log-linear histogram, 64 buckets an octave, from 1 ns to
// 2^37 ns (137 s); a value is known to within 0.8 %. Requests that never finished are kept as
// censored at the time they had already taken, so a percentile that falls among them is a lower
// bound and says so, instead of quietly leaving out the worst.
//
// Not thread-safe: one histogram a thread, merged afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/time.h"

namespace keelback::load {

class Histogram {
 public:
  static constexpr int kSubBuckets = 64;
  static constexpr int kOctaves = 32;  // above the exact range 0 … 63 ns
  static constexpr std::size_t kBuckets = kSubBuckets * (kOctaves + 1);

  Histogram() : counts_(kBuckets, 0), censored_(kBuckets, 0) {}

  // Negative values count as 0, values over the range in the last bucket. O(1), no allocation.
  void record(Duration value);
  // It had taken `at_least` when we stopped looking.
  void record_censored(Duration at_least);
  void merge(const Histogram& other);

  std::uint64_t count() const { return count_; }  // censored ones included
  std::uint64_t censored() const { return censored_count_; }
  Duration min() const { return count_ ? min_ : Duration{0}; }
  Duration max() const { return max_; }

  struct Quantile {
    Duration value{0};
    bool at_least = false;  // the quantile falls in censored mass
  };
  // q in [0, 1]. The value at rank ceil(q * n); a bucket answers with its middle.
  Quantile quantile(double q) const;

  // Every bucket that is not empty, for plots: middle of the bucket and how many.
  struct Bucket {
    Duration middle{0};
    std::uint64_t finished = 0;
    std::uint64_t censored = 0;
  };
  std::vector<Bucket> buckets() const;

  static std::size_t index_of(std::uint64_t nanoseconds);
  static std::uint64_t middle_of(std::size_t index);

 private:
  std::vector<std::uint64_t> counts_;
  std::vector<std::uint64_t> censored_;
  std::uint64_t count_ = 0;
  std::uint64_t censored_count_ = 0;
  Duration min_{Duration::max()};
  Duration max_{0};
};

}  // namespace keelback::load
