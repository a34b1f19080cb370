#include "core/quarantine.h"

#include <gtest/gtest.h>

#include <vector>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr Quarantine::Limits kQuarantineLimits{.deaths = 2, .ttl = 10min};

// Goal: two deaths in a row hold a request, for the ttl after the last one and no longer.
TEST(Quarantine, HoldsWhatKilledTwiceInARow) {
  Quarantine quarantine;
  quarantine.died(at(0s), 7, "f", "ann", kQuarantineLimits);
  EXPECT_FALSE(quarantine.holds(at(0s), 7, kQuarantineLimits));
  quarantine.died(at(1min), 7, "f", "ann", kQuarantineLimits);
  EXPECT_TRUE(quarantine.holds(at(1min), 7, kQuarantineLimits));
  EXPECT_FALSE(quarantine.holds(at(1min), 8, kQuarantineLimits)) << "nobody else";
  EXPECT_EQ(quarantine.remaining(at(2min), 7, kQuarantineLimits), 9min);
  EXPECT_TRUE(quarantine.holds(at(11min) - 1ns, 7, kQuarantineLimits));
  EXPECT_FALSE(quarantine.holds(at(11min), 7, kQuarantineLimits));
}

// Goal: any answer between the deaths clears them.
TEST(Quarantine, AnAnswerClears) {
  Quarantine quarantine;
  quarantine.died(at(0s), 7, "f", "", kQuarantineLimits);
  quarantine.answered(7);
  quarantine.died(at(1s), 7, "f", "", kQuarantineLimits);
  EXPECT_FALSE(quarantine.holds(at(1s), 7, kQuarantineLimits));
}

// Goal: an operator sees what is held and lets it go; the limits are live.
TEST(Quarantine, IsListedReleasableAndObeysLiveLimits) {
  Quarantine quarantine;
  for (int i = 0; i < 2; ++i) quarantine.died(at(0s), 7, "f", "ann", kQuarantineLimits);
  quarantine.died(at(1s), 8, "g", "", kQuarantineLimits);
  std::vector<std::string> held;
  quarantine.each_held(at(1s), kQuarantineLimits,
                       [&](const auto& e) { held.push_back(e.function + e.session); });
  EXPECT_EQ(held, std::vector<std::string>{"fann"});
  EXPECT_EQ(quarantine.held(at(1s), {.deaths = 1, .ttl = 10min}), 2u);
  EXPECT_EQ(quarantine.held(at(1s), {.deaths = 0, .ttl = 10min}), 0u) << "off";
  EXPECT_TRUE(quarantine.release(7));
  EXPECT_FALSE(quarantine.release(7));
  EXPECT_EQ(quarantine.held(at(1s), kQuarantineLimits), 0u);
}

// Goal: bounded: one more than kTracked forgets the one whose last death is the oldest.
TEST(Quarantine, ForgetsTheOldestAtItsBound) {
  Quarantine quarantine;
  for (std::uint64_t f = 1; f <= Quarantine::kTracked; ++f) {
    for (int i = 0; i < 2; ++i) quarantine.died(at(Duration(f)), f, "f", "", kQuarantineLimits);
  }
  EXPECT_EQ(quarantine.held(at(1s), kQuarantineLimits), Quarantine::kTracked);
  for (int i = 0; i < 2; ++i) quarantine.died(at(1s), 999'999, "f", "", kQuarantineLimits);
  EXPECT_EQ(quarantine.held(at(1s), kQuarantineLimits), Quarantine::kTracked);
  EXPECT_FALSE(quarantine.holds(at(1s), 1, kQuarantineLimits));
  EXPECT_TRUE(quarantine.holds(at(1s), 2, kQuarantineLimits));
}

TEST(Quarantine, AFingerprintOfZeroIsNobodys) {
  Quarantine quarantine;
  for (int i = 0; i < 5; ++i) quarantine.died(at(0s), 0, "f", "", kQuarantineLimits);
  EXPECT_FALSE(quarantine.holds(at(0s), 0, kQuarantineLimits));
}

}  // namespace
}  // namespace keelback::core
