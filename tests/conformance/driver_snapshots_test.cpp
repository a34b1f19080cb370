// Sessions that outlive their worker, on every driver.
#include <set>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

Settings saving(SnapshotMode mode, std::uint32_t workers = 1) {
  Settings s = World::default_settings();
  s.pool.workers = workers;
  s.sessions.snapshot = mode;
  s.quarantine.deaths = 1000;  // the same request kills worker after worker here
  s.breaker.failures = 0;
  return s;
}

// Goal: with each_call a session goes on after its worker's death where its last answered call left
// it, in the next epoch of the same birth, whoever killed the worker.
TEST_P(DriverTest, EachCallASessionGoesOnAfterItsWorkersDeath) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  const Outcome first = world.call("counter", "[]", "ann");
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
  EXPECT_EQ(world.call("counter", "[]", "bob").payload, "1");
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);  // stateless, on their worker
  const Outcome after = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(after, kOk, kDone);
  EXPECT_EQ(after.payload, "3");
  EXPECT_EQ(after.birth, first.birth);
  EXPECT_EQ(after.epoch, 2u);
  EXPECT_NE(after.worker, first.worker);
  EXPECT_EQ(world.call("counter", "[]", "bob").payload, "2");
  const PoolStats stats = world.stats();
  EXPECT_EQ(stats.sessions.restored, 2u);
  EXPECT_EQ(stats.sessions.lost, 0u);
  EXPECT_EQ(stats.sessions.active, 2u);
  EXPECT_EQ(stats.snapshots.failed, 0u);
  EXPECT_GE(stats.snapshots.kept, 5u);
  EXPECT_TRUE(world.adds_up());
}

// Goal: a call that kills its own worker is answered as ever; its session is as it was before it.
TEST_P(DriverTest, ACallThatDiesChangesNothingOfWhatIsSaved) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  world.call("counter", "[]", "ann");
  world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(world.call("crash", "[11]", "ann"), kWorkerDied, kMaybe);
  const Outcome after = world.call("peek", "[]", "ann");
  EXPECT_EQ(after.payload, "2");
  EXPECT_EQ(after.epoch, 2u);
  EXPECT_EQ(world.stats().sessions.lost, 0u);
}

// Goal: the first call of a session dies: there is nothing to go back to, and that is said.
TEST_P(DriverTest, ASessionWithoutAnAnsweredCallIsLost) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  EXPECT_OUTCOME(world.call("crash", "[11]", "ann"), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kSessionLost, kNone);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "1");
  EXPECT_EQ(world.stats().sessions.lost, 1u);
}

// Goal: the caller who fences an epoch hears that it is gone, before anything runs.
TEST_P(DriverTest, AFenceKeepsACallOutOfARestoredSession) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  const Outcome first = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  Call fenced = ask("counter", "[]", "ann");
  fenced.expect_epoch = Fence{first.birth, first.epoch};
  EXPECT_OUTCOME(world.call(fenced), kStaleEpoch, kNone);
  fenced.expect_epoch = Fence{first.birth, first.epoch + 1};
  EXPECT_EQ(world.call(fenced).payload, "2") << "the refused one did not run";
}

// Goal: a session whose state cannot be saved goes on, and is lost with its worker: never rolled
// back to the last state that could be.
TEST_P(DriverTest, AStateThatCannotBeSavedIsLostAndNeverRolledBack) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "1");
  EXPECT_OUTCOME(world.call("spoil", "[]", "ann"), kOk, kDone);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2") << "it goes on";
  EXPECT_GE(world.stats().snapshots.failed, 2u);
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kSessionLost, kNone);
  EXPECT_EQ(world.stats().sessions.lost, 1u);
}

// Goal: errors, cancelled and late calls leave a state behind that counts as much as any other.
TEST_P(DriverTest, WhatFailsIsSavedToo) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(world.call("fail", R"(["x"])", "ann"), kError, kDone);
  EXPECT_OUTCOME(world.call("counter", "[1,2,3]", "ann"), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  // The call that would restore it does not bind: the session is as it was, for the next one.
  EXPECT_OUTCOME(world.call("counter", "[1,2,3]", "ann"), kBadRequest, kNone);
  const Outcome after = world.call("counter", "[]", "ann");
  EXPECT_EQ(after.payload, "3");
  EXPECT_EQ(after.epoch, 3u);
}

// Goal: with on_drain nothing is saved until a worker is drained; then every session moves.
TEST_P(DriverTest, OnDrainSessionsMoveAwayFromAWorkerThatIsReplaced) {
  World world(GetParam(), saving(SnapshotMode::kOnDrain));
  constexpr int kSessions = 100;  // more than a worker is asked for at once
  std::vector<Outcome> before;
  for (int i = 0; i < kSessions; ++i) {
    before.push_back(world.call("counter", "[]", "s" + std::to_string(i)));
  }
  EXPECT_EQ(world.stats().snapshots.kept, 0u);
  ASSERT_TRUE(world.driver().recycle(1));
  ASSERT_TRUE(world.until([&] { return world.stats().snapshots.kept == kSessions; }));
  for (int i = 0; i < kSessions; ++i) {
    const Outcome after = world.call("counter", "[]", "s" + std::to_string(i));
    EXPECT_EQ(after.payload, "2");
    EXPECT_EQ(after.birth, before[i].birth);
    EXPECT_EQ(after.epoch, 2u);
    EXPECT_NE(after.worker.generation, before[i].worker.generation);
  }
  EXPECT_EQ(world.stats().sessions.restored, std::uint64_t{kSessions});
  EXPECT_EQ(world.stats().sessions.lost, 0u);
  // What was restored is not saved any more: a crash now is a loss.
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("counter", "[]", "s0"), kSessionLost, kNone);
}

// Goal: a smaller pool moves the sessions of the workers that go; calls that wait in them go along.
TEST_P(DriverTest, OnDrainSessionsMoveWhenThePoolShrinks) {
  World world(GetParam(), saving(SnapshotMode::kOnDrain, 2));
  world.warm();
  std::set<std::uint32_t> slots;
  for (int i = 0; i < 6; ++i) {
    slots.insert(world.call("counter", "[]", "s" + std::to_string(i)).worker.slot);
  }
  ASSERT_EQ(slots.size(), 2u);
  std::vector<Pending> waiting;
  for (int i = 0; i < 6; ++i) {
    waiting.push_back(world.submit(ask("spin", "[50]", "s" + std::to_string(i))));
    waiting.push_back(world.submit(ask("counter", "[]", "s" + std::to_string(i))));
  }
  world.configure([](Settings& s) { s.pool.workers = 1; });
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    const Outcome outcome = world.wait(waiting[i]);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    if (i % 2 == 1) {
      EXPECT_EQ(outcome.payload, "2");
    }
  }
  ASSERT_TRUE(world.until([&] { return world.driver().workers().size() == 1; }));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(world.call("counter", "[]", "s" + std::to_string(i)).payload, "3");
  }
  EXPECT_EQ(world.stats().sessions.lost, 0u);
}

// Goal: with each_call a drained worker need not be asked: its sessions are safe, and it goes.
TEST_P(DriverTest, EachCallSessionsMoveWithTheirWorkersReplacement) {
  World world(GetParam(), saving(SnapshotMode::kEachCall));
  const Outcome before = world.call("counter", "[]", "ann");
  ASSERT_TRUE(world.driver().recycle(1));
  ASSERT_TRUE(world.until([&] {
    const auto workers = world.driver().workers();
    return workers.size() == 1 && workers[0].worker.generation > before.worker.generation;
  }));
  const Outcome after = world.call("counter", "[]", "ann");
  EXPECT_EQ(after.payload, "2");
  EXPECT_EQ(after.epoch, 2u);
  EXPECT_EQ(world.stats().sessions.restored, 1u);
}

// Goal: a hinted session that moves takes its state along.
TEST_P(DriverTest, AHintedSessionTakesItsStateAlong) {
  World world(GetParam(), saving(SnapshotMode::kEachCall, 2));
  world.warm();
  Call open = ask("counter", "[]", "ann");
  open.affinity = Affinity::kHint;
  const Outcome first = world.call(open);
  std::string neighbour;
  for (int i = 0; neighbour.empty() && i < 50; ++i) {
    const std::string id = "n" + std::to_string(i);
    if (world.call("counter", "[]", id).worker == first.worker) neighbour = id;
  }
  ASSERT_FALSE(neighbour.empty());
  const Pending running = world.submit(ask("spin", "[500]", neighbour));
  ASSERT_TRUE(world.running("spin"));
  const Outcome moved = world.call("counter", "[]", "ann");
  EXPECT_NE(moved.worker, first.worker);
  EXPECT_EQ(moved.payload, "2");
  EXPECT_EQ(moved.epoch, 2u);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

// Goal: the mode is live, both ways, and nothing out of date is left behind by either.
TEST_P(DriverTest, SnapshotsCanBeTurnedOnAndOff) {
  World world(GetParam(), saving(SnapshotMode::kOff));
  world.call("counter", "[]", "ann");
  world.configure([](Settings& s) { s.sessions.snapshot = SnapshotMode::kEachCall; });
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "3");
  world.configure([](Settings& s) { s.sessions.snapshot = SnapshotMode::kOff; });
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "4");
  EXPECT_OUTCOME(world.call("crash", "[11]"), kWorkerDied, kMaybe);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kSessionLost, kNone);  // never back to 3
}

// Goal: a session of many calls under many deaths never goes back and never counts twice: what its
// caller was told is what it holds.
TEST_P(DriverTest, NoDeathRollsASessionBack) {
  World world(GetParam(), saving(SnapshotMode::kEachCall, 2));
  int answered = 0;
  std::uint32_t epoch = 1;
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 3; ++i) {
      const Outcome outcome = world.call("counter", "[]", "ann");
      ASSERT_TRUE(outcome.ok()) << to_string(outcome.kind) << " " << outcome.message;
      EXPECT_EQ(outcome.payload, std::to_string(++answered));
      EXPECT_GE(outcome.epoch, epoch);
      epoch = outcome.epoch;
    }
    EXPECT_OUTCOME(world.call("crash", "[9]", round % 2 == 0 ? "ann" : ""), kWorkerDied, kMaybe);
  }
  EXPECT_GT(epoch, 6u);
}

}  // namespace
}  // namespace keelback::test
