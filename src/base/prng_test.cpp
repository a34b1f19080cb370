#include "base/prng.h"

#include <gtest/gtest.h>

namespace keelback {
namespace {

// Goal: a seed is a replay: equal seeds agree for ever, different seeds differ at once.
TEST(Prng, TheSameSeedGivesTheSameSequence) {
  Prng a(42), b(42), c(43);
  for (int i = 0; i < 1000; ++i) {
    const auto x = a.next();
    ASSERT_EQ(x, b.next());
    ASSERT_NE(x, c.next());
  }
}

// Goal: below() covers its range and nothing else, evenly enough for load shares.
TEST(Prng, BelowIsUniformOverItsRange) {
  Prng prng(7);
  int counts[5] = {};
  for (int i = 0; i < 50'000; ++i) ++counts[prng.below(5)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 500);
}

}  // namespace
}  // namespace keelback
