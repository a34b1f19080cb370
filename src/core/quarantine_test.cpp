#include "core/quarantine.h"

#include <gtest/gtest.h>

#include <vector>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr Time at(Duration since_start) { return Time{since_start}; }
constexpr Quarantine::Limits kLimits{.deaths = 2, .ttl = 10min};

// Goal: two deaths in a row hold a request, for the ttl after the last one and no longer.
TEST(Quarantine, HoldsWhatKilledTwiceInARow) {
  Quarantine quarantine;
  quarantine.died(at(0s), 7, "f", "ann", kLimits);
  EXPECT_FALSE(quarantine.holds(at(0s), 7, kLimits));
  quarantine.died(at(1min), 7, "f", "ann", kLimits);
  EXPECT_TRUE(quarantine.holds(at(1min), 7, kLimits));
  EXPECT_FALSE(quarantine.holds(at(1min), 8, kLimits)) << "nobody else";
  EXPECT_EQ(quarantine.remaining(at(2min), 7, kLimits), 9min);
  EXPECT_TRUE(quarantine.holds(at(11min) - 1ns, 7, kLimits));
  EXPECT_FALSE(quarantine.holds(at(11min), 7, kLimits));
}

// Goal: any answer between the deaths clears them.
TEST(Quarantine, AnAnswerClears) {
  Quarantine quarantine;
  quarantine.died(at(0s), 7, "f", "", kLimits);
  quarantine.answered(7);
  quarantine.died(at(1s), 7, "f", "", kLimits);
  EXPECT_FALSE(quarantine.holds(at(1s), 7, kLimits));
}

// Goal: an operator sees what is held and lets it go; the limits are live.
TEST(Quarantine, IsListedReleasableAndObeysLiveLimits) {
  Quarantine quarantine;
  for (int i = 0; i < 2; ++i) quarantine.died(at(0s), 7, "f", "ann", kLimits);
  quarantine.died(at(1s), 8, "g", "", kLimits);
  std::vector<std::string> held;
  quarantine.each_held(at(1s), kLimits,
                       [&](const auto& e) { held.push_back(e.function + e.session); });
  EXPECT_EQ(held, std::vector<std::string>{"fann"});
  EXPECT_EQ(quarantine.held(at(1s), {.deaths = 1, .ttl = 10min}), 2u);
  EXPECT_EQ(quarantine.held(at(1s), {.deaths = 0, .ttl = 10min}), 0u) << "off";
  EXPECT_TRUE(quarantine.release(7));
  EXPECT_FALSE(quarantine.release(7));
  EXPECT_EQ(quarantine.held(at(1s), kLimits), 0u);
}

// Goal: bounded: one more than kTracked forgets the one whose last death is the oldest.
TEST(Quarantine, ForgetsTheOldestAtItsBound) {
  Quarantine quarantine;
  for (std::uint64_t f = 1; f <= Quarantine::kTracked; ++f) {
    for (int i = 0; i < 2; ++i) quarantine.died(at(Duration(f)), f, "f", "", kLimits);
  }
  EXPECT_EQ(quarantine.held(at(1s), kLimits), Quarantine::kTracked);
  for (int i = 0; i < 2; ++i) quarantine.died(at(1s), 999'999, "f", "", kLimits);
  EXPECT_EQ(quarantine.held(at(1s), kLimits), Quarantine::kTracked);
  EXPECT_FALSE(quarantine.holds(at(1s), 1, kLimits));
  EXPECT_TRUE(quarantine.holds(at(1s), 2, kLimits));
}

TEST(Quarantine, AFingerprintOfZeroIsNobodys) {
  Quarantine quarantine;
  for (int i = 0; i < 5; ++i) quarantine.died(at(0s), 0, "f", "", kLimits);
  EXPECT_FALSE(quarantine.holds(at(0s), 0, kLimits));
}

}  // namespace
}  // namespace keelback::core
