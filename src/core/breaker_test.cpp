#include "core/breaker.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Result = Breaker::Result;
constexpr Breaker::Limits kBreakerLimits{.failures = 3, .window = 10s, .open_for = 5s};

void fail(Breaker& breaker, Time now, int times = 1) {
  for (int i = 0; i < times; ++i) breaker.settle(now, Result::kFailure, false, kBreakerLimits);
}

// Goal: it opens at the third failure within the window, not at the second, and says how long.
TEST(Breaker, OpensAtTheLastFailureThatFitsTheWindow) {
  Breaker breaker;
  fail(breaker, at(0s), 2);
  EXPECT_FALSE(breaker.refusal(at(9s), kBreakerLimits));
  fail(breaker, at(9s));
  EXPECT_EQ(breaker.refusal(at(10s), kBreakerLimits), 4s);
  Breaker slow;
  fail(slow, at(0s), 2);
  fail(slow, at(10s));  // the first two are just out of the window
  EXPECT_FALSE(slow.refusal(at(10s), kBreakerLimits));
}

// Goal: half open lets exactly one through; its success closes, its failure opens for another turn.
TEST(Breaker, OneProbeDecides) {
  Breaker breaker;
  fail(breaker, at(0s), 3);
  EXPECT_TRUE(breaker.refusal(at(5s) - 1ns, kBreakerLimits));
  ASSERT_FALSE(breaker.refusal(at(5s), kBreakerLimits));
  ASSERT_TRUE(breaker.enter(kBreakerLimits));
  EXPECT_TRUE(breaker.refusal(at(5s), kBreakerLimits)) << "one at a time";
  breaker.settle(at(6s), Result::kFailure, true, kBreakerLimits);
  EXPECT_EQ(breaker.refusal(at(6s), kBreakerLimits), 5s) << "open again, for a whole turn";
  ASSERT_FALSE(breaker.refusal(at(11s), kBreakerLimits));
  ASSERT_TRUE(breaker.enter(kBreakerLimits));
  breaker.settle(at(11s), Result::kSuccess, true, kBreakerLimits);
  EXPECT_FALSE(breaker.open());
  EXPECT_FALSE(breaker.enter(kBreakerLimits)) << "closed: nobody is a probe";
}

// Goal: the permit comes back whatever became of the probe; a cancelled one leaves it half open.
TEST(Breaker, ThePermitAlwaysComesBack) {
  Breaker breaker;
  fail(breaker, at(0s), 3);
  ASSERT_TRUE(breaker.enter(kBreakerLimits));
  breaker.settle(at(6s), Result::kNeutral, true, kBreakerLimits);
  EXPECT_FALSE(breaker.refusal(at(6s), kBreakerLimits));
  EXPECT_TRUE(breaker.enter(kBreakerLimits));
}

// Goal: answers of calls from before the opening close nothing, and neutral ends count nothing.
TEST(Breaker, StragglersDecideNothing) {
  Breaker breaker;
  for (int i = 0; i < 9; ++i) breaker.settle(at(0s), Result::kNeutral, false, kBreakerLimits);
  EXPECT_FALSE(breaker.open());
  fail(breaker, at(0s), 3);
  breaker.settle(at(1s), Result::kSuccess, false, kBreakerLimits);
  EXPECT_TRUE(breaker.open());
}

// Goal: failures = 0 turns it off at once, also one that is open.
TEST(Breaker, ZeroFailuresIsOff) {
  Breaker breaker;
  fail(breaker, at(0s), 3);
  const Breaker::Limits off{.failures = 0, .window = 10s, .open_for = 5s};
  EXPECT_FALSE(breaker.refusal(at(0s), off));
  breaker.settle(at(0s), Result::kFailure, false, off);
  EXPECT_FALSE(breaker.open());
}

}  // namespace
}  // namespace keelback::core
