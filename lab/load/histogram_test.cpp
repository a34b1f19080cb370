#include "load/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/prng.h"

namespace keelback::load {
namespace {

using namespace std::chrono_literals;

// Goal: a value and the middle of its bucket differ by at most 0.8 %, over the whole range, and
// buckets are in the order of the values.
TEST(Histogram, KnowsEveryValueToWithinItsResolution) {
  std::size_t last = 0;
  for (double x = 1; x < 1.3e11; x *= 1.003) {
    const auto value = static_cast<std::uint64_t>(x);
    const std::size_t index = Histogram::index_of(value);
    ASSERT_GE(index, last);
    last = index;
    const auto middle = static_cast<double>(Histogram::middle_of(index));
    ASSERT_NEAR(middle, static_cast<double>(value), 0.008 * static_cast<double>(value) + 0.5)
        << value;
  }
  EXPECT_EQ(Histogram::index_of(~std::uint64_t{0}), Histogram::kBuckets - 1);
}

// Goal: quantiles agree with sorting, to the resolution.
TEST(Histogram, QuantilesAgreeWithSorting) {
  Prng prng(3);
  Histogram histogram;
  std::vector<double> values;
  for (int i = 0; i < 20'000; ++i) {
    const double v = std::floor(1000 * std::exp(8 * prng.unit()));
    values.push_back(v);
    histogram.record(Duration{static_cast<Duration::rep>(v)});
  }
  std::sort(values.begin(), values.end());
  for (double q : {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = std::max(1.0, std::ceil(q * 20'000));
    const double truth = values[static_cast<std::size_t>(rank) - 1];
    EXPECT_NEAR(static_cast<double>(histogram.quantile(q).value.count()), truth, 0.01 * truth) << q;
    EXPECT_FALSE(histogram.quantile(q).at_least);
  }
}

// Goal: a request that never came back makes the percentile it falls into a lower bound; below it
// nothing changes.
TEST(Histogram, UnfinishedRequestsAreCensoredNotForgotten) {
  Histogram histogram;
  for (int i = 0; i < 90; ++i) histogram.record(1ms);
  for (int i = 0; i < 10; ++i) histogram.record_censored(50ms);
  EXPECT_FALSE(histogram.quantile(0.5).at_least);
  EXPECT_TRUE(histogram.quantile(0.95).at_least);
  EXPECT_GE(histogram.quantile(0.95).value, 49ms);
  EXPECT_EQ(histogram.count(), 100u);
  EXPECT_EQ(histogram.censored(), 10u);

  // Censored early: it may have become anything, so everything behind it is a lower bound too.
  Histogram early;
  early.record_censored(1us);
  for (int i = 0; i < 9; ++i) early.record(1ms);
  EXPECT_TRUE(early.quantile(0.9).at_least);
}

TEST(Histogram, MergingIsCounting) {
  Histogram a, b, both;
  for (int i = 1; i <= 1000; ++i) {
    (i % 3 ? a : b).record(Duration{i * 1000});
    both.record(Duration{i * 1000});
  }
  a.merge(b);
  EXPECT_EQ(a.count(), both.count());
  EXPECT_EQ(a.min(), both.min());
  EXPECT_EQ(a.max(), both.max());
  EXPECT_EQ(a.quantile(0.9).value, both.quantile(0.9).value);
}

}  // namespace
}  // namespace keelback::load
