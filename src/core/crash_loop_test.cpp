#include "core/crash_loop.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr CrashLoop::Life kNeverReady{false, 0s};
constexpr CrashLoop::Life kShort{true, 50ms};
constexpr CrashLoop::Life kLong{true, 1h};

// Goal: a start that fails again and again waits longer and longer, up to half a minute.
TEST(CrashLoop, FailedStartsBackOffExponentially) {
  CrashLoop loop;
  CrashLoop::Streak streak;
  Prng prng(1);
  for (const Duration full : {100ms, 200ms, 400ms, 800ms}) {
    const Duration pause = loop.after_exit(at(0s), kNeverReady, streak, 2, prng);
    EXPECT_GE(pause, full / 2);
    EXPECT_LE(pause, full);
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_LE(loop.after_exit(at(0s), kNeverReady, streak, 2, prng), CrashLoop::kPauseMax);
  }
}

// Goal: a worker that lived is replaced at once, always, and its life ends the streak.
TEST(CrashLoop, AWorkerThatLivedIsReplacedAtOnce) {
  CrashLoop loop;
  CrashLoop::Streak streak{9};
  Prng prng(1);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(loop.after_exit(at(0s), kLong, streak, 2, prng), 0s);
  EXPECT_EQ(streak.count, 0u);
}

// Goal: dying young is forgiven within a budget that refills with time, so a storm of kills heals
// fast and an application that dies of its first call does not spin.
TEST(CrashLoop, DyingYoungSpendsABudget) {
  CrashLoop loop;
  CrashLoop::Streak streak;
  Prng prng(1);
  int free = 0;
  while (loop.after_exit(at(0s), kShort, streak, 2, prng) == 0s) ++free;
  EXPECT_EQ(free, 8);
  EXPECT_EQ(loop.after_exit(at(1s), kShort, streak, 2, prng), 0s) << "one a second comes back";
  EXPECT_GT(loop.after_exit(at(1s), kShort, streak, 2, prng), 0s);
}

}  // namespace
}  // namespace keelback::core
