#include "core/retry.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

LostAttempt attempt() {
  LostAttempt attempt;
  attempt.dispatches = 1;
  attempt.retries_max = 1;
  return attempt;
}

// Goal: what had not started goes again silently, unless the state it needs is gone.
TEST(AfterDeath, NotStartedIsFree) {
  LostAttempt lost = attempt();
  EXPECT_EQ(after_death(lost), AfterDeath::kRedispatch);
  lost.has_session = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kRedispatch) << "its session opens elsewhere";
  lost.session_established = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kSessionLost);
  lost.session_restorable = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kRedispatch);
  lost.cancelled = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kCancelled);
  lost = attempt();
  lost.dispatches = kDispatchesMax;
  EXPECT_EQ(after_death(lost), AfterDeath::kFail) << "bounded";
}

// Goal: what had started runs again only if that is asked for, safe, and not once too often.
TEST(AfterDeath, StartedRunsAgainOnlyIfIdempotent) {
  LostAttempt lost = attempt();
  lost.started = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kFail);
  lost.idempotent = true;
  EXPECT_EQ(after_death(lost), AfterDeath::kRetry);
  for (bool LostAttempt::* no :
       {&LostAttempt::cancelled, &LostAttempt::quarantined, &LostAttempt::has_session}) {
    LostAttempt other = lost;
    other.*no = true;
    EXPECT_EQ(after_death(other), AfterDeath::kFail);
  }
  lost.retries = lost.retries_max;
  EXPECT_EQ(after_death(lost), AfterDeath::kFail);
}

// Goal: 3 a second whatever the traffic, then a share of it, over ten seconds.
TEST(RetryBudget, IsTheLargerOfThreeASecondAndAShare) {
  RetryBudget quiet;
  int taken = 0;
  while (quiet.take(at(1s), 0.2)) ++taken;
  EXPECT_EQ(taken, 30);
  EXPECT_FALSE(quiet.take(at(10s), 0.2)) << "the window still holds them";
  EXPECT_TRUE(quiet.take(at(11s), 0.2));
  RetryBudget busy;
  for (int i = 0; i < 1000; ++i) busy.count_call(at(1s));
  taken = 0;
  while (busy.take(at(2s), 0.2)) ++taken;
  EXPECT_EQ(taken, 200);
}

// Goal: pauses double up to a second, at least half of each is certain, and a seed is a replay.
TEST(RetryPause, DoublesWithJitter) {
  Prng prng(1), same(1);
  for (const auto& [retry, full] : {std::pair{1U, 10ms}, {2U, 20ms}, {5U, 160ms}, {40U, 1000ms}}) {
    for (int i = 0; i < 100; ++i) {
      const Duration pause = retry_pause(retry, prng);
      EXPECT_GE(pause, full / 2);
      EXPECT_LE(pause, full);
      EXPECT_EQ(pause, retry_pause(retry, same));
    }
  }
}

}  // namespace
}  // namespace keelback::core
