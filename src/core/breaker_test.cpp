#include "core/breaker.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Result = Breaker::Result;
constexpr Breaker::Limits kBreakerLimits{
    .failures = 3, .ratio = 0.5, .window = 10s, .open_for = 5s};

void fail(Breaker& breaker, Time now, int times = 1) {
  for (int i = 0; i < times; ++i) breaker.settle(now, Result::kFailure, false, kBreakerLimits);
}

void succeed(Breaker& breaker, Time now, int times) {
  for (int i = 0; i < times; ++i) breaker.settle(now, Result::kSuccess, false, kBreakerLimits);
}

// Goal: it opens at the third failure, not at the second, and says how long.
TEST(Breaker, OpensAtTheLastFailureThatIsAllowed) {
  Breaker breaker;
  fail(breaker, at(0s), 2);
  EXPECT_FALSE(breaker.refusal(at(9s), kBreakerLimits));
  fail(breaker, at(9s));
  EXPECT_EQ(breaker.refusal(at(10s), kBreakerLimits), 4s);
}

// Goal: a tenth of the calls that fails opens nothing, however many they are; half of them does.
TEST(Breaker, JudgesAShare) {
  Breaker breaker;
  for (int second = 0; second < 9; ++second) {
    succeed(breaker, at(second * 1s), 90);
    fail(breaker, at(second * 1s), 10);
    EXPECT_FALSE(breaker.open()) << second;
  }
  fail(breaker, at(9s), 719);
  EXPECT_FALSE(breaker.open()) << "809 of 1619";
  fail(breaker, at(9s));
  EXPECT_TRUE(breaker.open()) << "810 of 1620";
}

// Goal: what is older than the window does not count once 20 calls are younger.
TEST(Breaker, LooksAtTheWindow) {
  Breaker breaker;
  succeed(breaker, at(0s), 1000);
  succeed(breaker, at(10s), 17);
  fail(breaker, at(10s), 3);
  EXPECT_FALSE(breaker.open()) << "3 of 20";
  fail(breaker, at(11s), 13);
  EXPECT_FALSE(breaker.open()) << "16 of 33";
  fail(breaker, at(11s));
  EXPECT_TRUE(breaker.open()) << "17 of 34";
}

// Goal: of a function that is called rarely the last 20 calls count, however old they are.
TEST(Breaker, LooksAtTwentyCallsAtLeast) {
  Breaker breaker;
  for (int minute = 0; minute < 20; ++minute) succeed(breaker, at(minute * 1min), 1);
  for (int minute = 20; minute < 29; ++minute) {
    fail(breaker, at(minute * 1min));
    EXPECT_FALSE(breaker.open()) << minute;
  }
  fail(breaker, at(29min));
  EXPECT_TRUE(breaker.open()) << "10 of the last 20";
}

// Goal: a ratio of 0 leaves the decision to the number.
TEST(Breaker, WithoutARatioTheNumberDecides) {
  Breaker::Limits limits = kBreakerLimits;
  limits.ratio = 0;
  Breaker breaker;
  for (int i = 0; i < 1000; ++i) breaker.settle(at(0s), Result::kSuccess, false, limits);
  for (int i = 0; i < 2; ++i) breaker.settle(at(0s), Result::kFailure, false, limits);
  EXPECT_FALSE(breaker.open());
  breaker.settle(at(1s), Result::kFailure, false, limits);
  EXPECT_TRUE(breaker.open());
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
  const Breaker::Limits off{.failures = 0, .ratio = 0.5, .window = 10s, .open_for = 5s};
  EXPECT_FALSE(breaker.refusal(at(0s), off));
  breaker.settle(at(0s), Result::kFailure, false, off);
  EXPECT_FALSE(breaker.open());
}

}  // namespace
}  // namespace keelback::core
