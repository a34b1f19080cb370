#include "core/carried_bytes.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using Verdict = CarriedBytes::Verdict;

// Goal: the last byte fits and one more does not; what ends makes room; what never fits is told
// apart from what does not fit now.
TEST(CarriedBytes, FillsToTheByteAndTellsNeverFromNotNow) {
  const CarriedBytes::Limits limits{.call_max = 60, .budget = 100};
  CarriedBytes carried;
  EXPECT_EQ(carried.judge(60, limits), Verdict::kFits);
  EXPECT_EQ(carried.judge(61, limits), Verdict::kTooLarge);
  carried.add(60);
  EXPECT_EQ(carried.judge(40, limits), Verdict::kFits);
  EXPECT_EQ(carried.judge(41, limits), Verdict::kFull);
  EXPECT_EQ(carried.judge(0, limits), Verdict::kFits) << "a call without attachments never waits";
  carried.add(40);
  EXPECT_EQ(carried.judge(1, limits), Verdict::kFull);
  carried.remove(60);
  EXPECT_EQ(carried.judge(60, limits), Verdict::kFits);
  EXPECT_EQ(carried.total(), 40u);
}

// Goal: limits are live. A smaller budget evicts nobody and takes nobody in; one below call_max is
// the limit of a call; a budget of nothing refuses every attachment for good.
TEST(CarriedBytes, ObeysLimitsThatShrinkUnderIt) {
  CarriedBytes carried;
  carried.add(90);
  EXPECT_EQ(carried.judge(10, {.call_max = 60, .budget = 50}), Verdict::kFull);
  EXPECT_EQ(carried.judge(55, {.call_max = 60, .budget = 50}), Verdict::kTooLarge);
  EXPECT_EQ(carried.judge(1, {.call_max = 60, .budget = 0}), Verdict::kTooLarge);
  EXPECT_EQ(carried.judge(0, {.call_max = 60, .budget = 0}), Verdict::kFits);
}

}  // namespace
}  // namespace keelback::core
