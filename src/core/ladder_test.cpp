#include "core/ladder.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// Goal: the rungs come in order at 0, 25, 60, 75 and 100 % of the grace, and no later.
TEST(Ladder, RungsShareTheGrace) {
  const Time deadline = at(10s);
  EXPECT_EQ(rung_due(Rung::kCancel, deadline, 2s), at(10s));
  EXPECT_EQ(rung_due(Rung::kInterrupt, deadline, 2s), at(11s + 200ms));
  EXPECT_EQ(rung_due(Rung::kDump, deadline, 2s), at(11s + 600ms));
  EXPECT_EQ(rung_due(Rung::kKill, deadline, 2s), at(11s + 800ms));
  EXPECT_EQ(rung_due(Rung::kGiveUp, deadline, 2s), at(12s));
  Rung rung = Rung::kNone;
  for (const Rung next :
       {Rung::kCancel, Rung::kInterrupt, Rung::kDump, Rung::kKill, Rung::kGiveUp}) {
    rung = next_rung(rung);
    EXPECT_EQ(rung, next);
  }
}

// Goal: on time the pace changes nothing; after a standstill there is time between the rungs.
TEST(Ladder, RungsThatAreAllDueKeepADistance) {
  const Time deadline = at(10s);
  EXPECT_EQ(paced_rung_due(Rung::kInterrupt, deadline, 2s, at(10s)), at(11s + 200ms));
  EXPECT_EQ(paced_rung_due(Rung::kKill, deadline, 2s, at(11s + 600ms)), at(11s + 800ms));
  EXPECT_EQ(paced_rung_due(Rung::kInterrupt, deadline, 2s, at(60s)), at(60s + 100ms));
}

// Goal: no grace means all at once, at the deadline.
TEST(Ladder, WithoutGraceEverythingIsDueAtTheDeadline) {
  for (const Rung rung : {Rung::kCancel, Rung::kKill, Rung::kGiveUp}) {
    EXPECT_EQ(rung_due(rung, at(1s), 0s), at(1s));
  }
}

}  // namespace
}  // namespace keelback::core
