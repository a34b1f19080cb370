#include "core/scaler.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

constexpr Time at(Duration since_start) { return Time{since_start}; }

constexpr Scaler::Limits kLimits{.least = 2, .most = 32, .up_delay = 20ms, .down_after = 1min};

// So many workers are up, each with a call; so many more calls wait, the first one for so long.
Scaler::Load busy(std::uint32_t up, std::uint64_t waiting = 0, Duration waited = 0s) {
  Scaler::Load load;
  load.up = up;
  load.filled = (up + waiting) * Scaler::kWorker;
  load.waiting = waiting;
  load.waited = waited;
  load.backlog = waiting * Scaler::kWorker;
  return load;
}

// Goal: 32 calls that nobody knows wait for a pool of two; it grows when the first one has waited
// up_delay, not before, and by all that wait, at once.
TEST(Scaler, GrowsByTheWholeBacklogWhenTheFirstOneHasWaitedLongEnough) {
  Scaler scaler(at(0s), kLimits);
  EXPECT_EQ(scaler.wanted(), 2U);
  EXPECT_EQ(scaler.next(), std::nullopt);
  scaler.look(at(1s), busy(2, 30));
  EXPECT_EQ(scaler.wanted(), 2U);
  EXPECT_EQ(scaler.next(), at(1s + 20ms)) << "though nothing happens until then";
  scaler.look(at(1s + 20ms) - 1ns, busy(2, 30, 20ms - 1ns));
  EXPECT_EQ(scaler.wanted(), 2U);
  scaler.look(at(1s + 20ms), busy(2, 30, 20ms));
  EXPECT_EQ(scaler.wanted(), 32U);
  EXPECT_EQ(scaler.why(at(2s)),
            "30 calls waited, the first one 20ms; the pool grew 980ms ago; pool.workers_max is "
            "reached");
}

// Goal: while the workers that were asked for start, the same backlog asks for no more.
TEST(Scaler, CountsABacklogOnce) {
  Scaler scaler(at(0s), kLimits);
  scaler.look(at(1s), busy(2, 3, 25ms));
  EXPECT_EQ(scaler.wanted(), 5U);
  for (Duration later = 1ms; later < 3s; later += 10ms) {
    scaler.look(at(1s + later), busy(2, 3, 25ms + later));
  }
  EXPECT_EQ(scaler.wanted(), 5U);
  scaler.look(at(5s), busy(3, 3, 4s));
  EXPECT_EQ(scaler.wanted(), 6U);
}

// Goal: where experience says that calls would wait too long, the pool does not wait for proof;
// and it grows by no more than it takes to begin them within up_delay.
TEST(Scaler, ForeseesTheWaitOfCallsThatItKnows) {
  Scaler scaler(at(0s), kLimits);
  Scaler::Load load = busy(2, 40);
  load.known = load.backlog;
  load.begun = 40 * Scaler::kWorker;  // short calls: all of them
  load.begun_by_new = 20 * Scaler::kWorker;
  scaler.look(at(1s), load);
  EXPECT_EQ(scaler.wanted(), 2U);
  load.begun = 39 * Scaler::kWorker;
  scaler.look(at(1s), load);
  EXPECT_EQ(scaler.wanted(), 3U);
  load.begun = 0;
  scaler.look(at(1s), load);
  EXPECT_EQ(scaler.wanted(), 4U);
  EXPECT_EQ(scaler.why(at(1s)),
            "40 calls would have waited longer than 20ms; the pool grew 0ns ago");
  load.known = 0;  // nobody knows these
  load.begun_by_new = Scaler::kWorker;
  scaler.look(at(1s), load);
  EXPECT_EQ(scaler.wanted(), 4U);
}

TEST(Scaler, AnEmptyPoolGrowsAtOnce) {
  Scaler scaler(at(0s), {.least = 0, .most = 8, .up_delay = 20ms, .down_after = 1min});
  EXPECT_EQ(scaler.wanted(), 0U);
  scaler.look(at(1s), busy(0, 1));
  EXPECT_EQ(scaler.wanted(), 1U);
  EXPECT_EQ(scaler.why(at(1s)), "a call waited and no worker was up; the pool grew 0ns ago");
  scaler.look(at(1s + 1ms), busy(0, 5, 1ms));
  EXPECT_EQ(scaler.wanted(), 1U) << "one is on its way; the others wait for proof";
  scaler.look(at(1s + 20ms), busy(0, 5, 20ms));
  EXPECT_EQ(scaler.wanted(), 5U);
}

// Goal: nobody leaves before down_after; then one a second, and the last one that is needed stays.
TEST(Scaler, LetsOneGoASecondOnceTheyWereUnneededLongEnough) {
  Scaler scaler(at(0s), kLimits);
  scaler.look(at(1s), busy(2, 8, 20ms));
  ASSERT_EQ(scaler.wanted(), 10U);
  scaler.look(at(1s + 10ms), busy(4));
  EXPECT_EQ(scaler.next(), at(1min + 1s));
  scaler.look(at(1min + 1s) - 1ns, busy(4));
  EXPECT_EQ(scaler.wanted(), 10U);
  scaler.look(at(1min + 1s), busy(4));
  EXPECT_EQ(scaler.wanted(), 9U);
  EXPECT_EQ(scaler.next(), at(1min + 2s));
  for (Duration t = 1min + 1s; t <= 1min + 3s; t += 100ms) scaler.look(at(t), busy(4));
  EXPECT_EQ(scaler.wanted(), 7U);
  EXPECT_EQ(scaler.why(at(1min + 3s)), "no more were needed within 60s; one left 0ns ago");
  for (Duration t = 1min + 3s; t <= 3min; t += 100ms) scaler.look(at(t), busy(4));
  EXPECT_EQ(scaler.wanted(), 4U);
  EXPECT_EQ(scaler.next(), std::nullopt);
}

// Goal: a load that comes back within down_after finds the pool as it was.
TEST(Scaler, FollowsNoLoadThatSwingsFasterThanDownAfter) {
  Scaler scaler(at(0s), kLimits);
  scaler.look(at(0s), busy(2, 14, 20ms));
  ASSERT_EQ(scaler.wanted(), 16U);
  for (int round = 0; round < 20; ++round) {
    const Duration begin = round * 30s;
    scaler.look(at(begin), busy(16));
    scaler.look(at(begin + 1s), busy(0));
    ASSERT_EQ(scaler.wanted(), 16U) << round;
  }
  const Duration last = 19 * 30s + 1s;
  scaler.look(at(last + 1min - 1s), busy(0));
  EXPECT_EQ(scaler.wanted(), 16U);
  scaler.look(at(last + 1min), busy(0));
  EXPECT_EQ(scaler.wanted(), 15U);
}

// Goal: a peak that fewer workers would have served within up_delay keeps nobody; a mean that needs
// a part of a worker keeps it whole.
TEST(Scaler, NeedsAMeanAndNoPeak) {
  Scaler scaler(at(0s), kLimits);
  scaler.look(at(0s), busy(2, 14, 20ms));
  ASSERT_EQ(scaler.wanted(), 16U);
  // In each 20 ms: 16 calls at once for 5 ms: as much as 4 workers do.
  for (Duration t = 1s; t < 5min; t += 20ms) {
    scaler.look(at(t), busy(16));
    scaler.look(at(t + 5ms), busy(0));
  }
  EXPECT_EQ(scaler.wanted(), 4U);
  // Five for 10 ms, four for 10 ms: with four they would wait longer and longer.
  scaler.look(at(5min), busy(4, 1, 20ms));
  ASSERT_EQ(scaler.wanted(), 5U);
  for (Duration t = 5min; t < 10min; t += 20ms) {
    scaler.look(at(t), busy(5));
    scaler.look(at(t + 10ms), busy(4));
  }
  EXPECT_EQ(scaler.wanted(), 5U);
}

TEST(Scaler, KeepsItsLimitsWhenTheyChange) {
  Scaler scaler(at(0s), kLimits);
  scaler.adopt(at(0s), 8);
  EXPECT_EQ(scaler.wanted(), 8U);
  EXPECT_EQ(scaler.why(at(0s)), "the pool had so many before");
  scaler.set_limits(at(1s), {.least = 10, .most = 12, .up_delay = 0s, .down_after = 0s});
  EXPECT_EQ(scaler.wanted(), 10U);
  scaler.look(at(2s), busy(10, 1));
  EXPECT_EQ(scaler.wanted(), 11U) << "without a delay at once";
  scaler.look(at(3s), busy(10));
  EXPECT_EQ(scaler.wanted(), 10U) << "likewise";
  scaler.set_limits(at(4s), {.least = 0, .most = 3, .up_delay = 20ms, .down_after = 1min});
  EXPECT_EQ(scaler.wanted(), 3U);
  scaler.look(at(5s), busy(0));
  scaler.look(at(10min), busy(0));
  EXPECT_EQ(scaler.wanted(), 2U);
}

// Goal: a pool that keeps no worker tries one as long as it cannot start any, so that it finds out
// when it can.
TEST(Scaler, TriesOneWorkerWhileStartsFail) {
  Scaler scaler(at(0s), {.least = 0, .most = 8, .up_delay = 20ms, .down_after = 1min});
  Scaler::Load load;
  load.failing = true;
  scaler.look(at(1s), load);
  EXPECT_EQ(scaler.wanted(), 1U);
  EXPECT_EQ(scaler.why(at(1s)), "a start has failed, and one worker is tried until it succeeds");
  scaler.look(at(10min), load);
  EXPECT_EQ(scaler.wanted(), 1U);
  EXPECT_EQ(scaler.next(), std::nullopt);
  scaler.look(at(11min), busy(0));
  EXPECT_EQ(scaler.wanted(), 0U);
}

}  // namespace
}  // namespace keelback::core
