// Sessions on every driver: order, affinity, births and epochs, fences, modes, expiry, bounds.
#include <set>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

TEST_P(DriverTest, EachSessionCountsInOrderOnOneWorkerInOneEpoch) {
  Settings four = settings();
  four.pool.workers = 4;
  World world(GetParam(), four);
  world
      .warm();  // a session goes to a worker that is up, and with one up there is nothing to spread
  constexpr int kSessions = 8;
  constexpr int kCalls = 25;
  std::vector<std::vector<Pending>> calls(kSessions);
  for (int i = 0; i < kCalls; ++i) {
    for (int s = 0; s < kSessions; ++s) {
      calls[s].push_back(world.submit(ask("counter", "[]", "s" + std::to_string(s))));
    }
  }
  std::set<std::uint32_t> homes;
  for (auto& session : calls) {
    WorkerRef home;
    std::uint64_t birth = 0;
    for (int i = 0; i < kCalls; ++i) {
      const Outcome outcome = world.wait(session[i]);
      EXPECT_OUTCOME(outcome, kOk, kDone);
      EXPECT_EQ(outcome.payload, std::to_string(i + 1));
      EXPECT_EQ(outcome.epoch, 1u);
      if (i == 0) {
        home = outcome.worker;
        birth = outcome.birth;
        EXPECT_NE(birth, 0u);
      }
      EXPECT_EQ(outcome.worker, home);
      EXPECT_EQ(outcome.birth, birth);
    }
    homes.insert(home.slot);
  }
  EXPECT_GT(homes.size(), 1u) << "sessions spread over workers";
  EXPECT_EQ(world.stats().sessions.active, std::uint64_t{kSessions});
}

TEST_P(DriverTest, AnEndedSessionOpensAnewWithAnotherBirth) {
  World world(GetParam());
  const Outcome before = world.call("counter", "[]", "ann");
  EXPECT_TRUE(world.driver().end_session_here("ann"));
  EXPECT_FALSE(world.driver().end_session_here("ann"));
  EXPECT_FALSE(world.driver().end_session_here("nobody"));
  const Outcome after = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(after, kOk, kDone);
  EXPECT_EQ(after.payload, "1");
  EXPECT_EQ(after.epoch, 1u);
  EXPECT_NE(after.birth, before.birth);
  EXPECT_EQ(world.stats().sessions.ended, 1u);
}

TEST_P(DriverTest, AFenceThatDoesNotMatchIsStale) {
  World world(GetParam());
  const Outcome first = world.call("counter", "[]", "ann");
  Call fenced = ask("counter", "[]", "ann");
  fenced.expect_epoch = Fence{first.birth, first.epoch};
  EXPECT_OUTCOME(world.call(fenced), kOk, kDone);
  fenced.expect_epoch = Fence{0, first.epoch};
  EXPECT_OUTCOME(world.call(fenced), kOk, kDone);
  fenced.expect_epoch = Fence{first.birth, first.epoch + 1};
  EXPECT_OUTCOME(world.call(fenced), kStaleEpoch, kNone);
  fenced.expect_epoch = Fence{first.birth + 1, first.epoch};
  EXPECT_OUTCOME(world.call(fenced), kStaleEpoch, kNone);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "4") << "the refused ones did not run";
}

TEST_P(DriverTest, ACallerMayDemandANewOrAnExistingSession) {
  World world(GetParam());
  world.warm();
  Call existing = ask("counter", "[]", "ann");
  existing.open = SessionOpen::kExisting;
  EXPECT_OUTCOME(world.call(existing), kBadRequest, kNone);
  Call fresh = ask("counter", "[]", "ann");
  fresh.open = SessionOpen::kNew;
  EXPECT_OUTCOME(world.call(fresh), kOk, kDone);
  EXPECT_OUTCOME(world.call(fresh), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call(existing), kOk, kDone);
}

TEST_P(DriverTest, AFailFastSessionSaysThatItsWorkerIsBusy) {
  World world(GetParam());
  world.warm();
  Call open = ask("counter", "[]", "ann");
  open.affinity = Affinity::kStrictFailFast;
  EXPECT_OUTCOME(world.call(open), kOk, kDone);
  const Pending running = world.submit(ask("spin", "[300]", "ann"));
  ASSERT_TRUE(world.running("spin"));
  EXPECT_OUTCOME(world.wait(world.submit(ask("counter", "[]", "ann"))), kSessionBusy, kNone);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kOk, kDone);
}

TEST_P(DriverTest, AHintedSessionMovesWhenItsWorkerIsBusyAndSaysSo) {
  World world(GetParam());
  world.warm();
  Call open = ask("counter", "[]", "ann");
  open.affinity = Affinity::kHint;
  const Outcome first = world.call(open);
  EXPECT_OUTCOME(first, kOk, kDone);
  // Keeps ann's home busy with something that is not hers: a session of its own, bound there.
  std::vector<Pending> busy;
  std::string neighbour;
  for (int i = 0; neighbour.empty() && i < 50; ++i) {
    const std::string id = "n" + std::to_string(i);
    if (world.call("counter", "[]", id).worker == first.worker) neighbour = id;
  }
  ASSERT_FALSE(neighbour.empty());
  const Pending running = world.submit(ask("spin", "[500]", neighbour));
  ASSERT_TRUE(world.running("spin"));
  const Outcome moved = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(moved, kOk, kDone);
  EXPECT_NE(moved.worker, first.worker);
  EXPECT_EQ(moved.birth, first.birth);
  EXPECT_EQ(moved.epoch, 2u);
  EXPECT_EQ(world.stats().sessions.moved, 1u);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

// The ancestor's first bug: a constant where the configured timeout belonged.
TEST_P(DriverTest, TheRuntimeTimeoutIsObeyed) {
  Settings long_lived = settings();
  long_lived.sessions.idle_ttl = 5min;
  World world(GetParam(), long_lived);
  for (const char* id : {"ann", "bob", "cyd"})
    EXPECT_OUTCOME(world.call("counter", "[]", id), kOk, kDone);
  world.pass(50ms);
  EXPECT_EQ(world.stats().sessions.active, 3u);
  world.configure([](Settings& s) { s.sessions.idle_ttl = 200ms; });
  ASSERT_TRUE(world.until([&] { return world.stats().sessions.active == 0; }));
  EXPECT_EQ(world.stats().sessions.expired, 3u) << "statistics";
  EXPECT_EQ(world.driver().sessions("", 100).total, 0u) << "listing";
  EXPECT_TRUE(world.driver().sessions("", 100).items.empty());
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kSessionExpired, kNone);
  world.configure([](Settings& s) { s.sessions.idle_ttl = 5min; });
  const Outcome again = world.call("counter", "[]", "ann");
  EXPECT_OUTCOME(again, kOk, kDone);
  EXPECT_EQ(again.payload, "1");
  world.pass(300ms);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2") << "the raised timeout holds";
  EXPECT_OUTCOME(world.call("counter", "[]", "bob"), kSessionExpired, kNone);
}

TEST_P(DriverTest, ASessionDoesNotExpireWhileItWorks) {
  Settings brief = settings();
  brief.sessions.idle_ttl = 500ms;
  World world(GetParam(), brief);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kOk, kDone);
  EXPECT_OUTCOME(world.call("spin", "[1200]", "ann"), kOk, kDone);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
}

TEST_P(DriverTest, ASessionEndsAtItsGreatestAgeHoweverBusy) {
  Settings brief = settings();
  brief.sessions.max_age = 600ms;
  World world(GetParam(), brief);
  world.warm();  // a session's age counts from its opening, and a cold pool would use it up
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kOk, kDone);
  const Pending running = world.submit(ask("spin", "[1200]", "ann"));
  const Pending waiting = world.submit(ask("counter", "[]", "ann"));
  EXPECT_OUTCOME(world.wait(waiting), kSessionExpired, kNone);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

TEST_P(DriverTest, TheSessionTableIsBoundedAndEvictsNobody) {
  Settings few = settings();
  few.sessions.max = 2;
  World world(GetParam(), few);
  EXPECT_OUTCOME(world.call("counter", "[]", "ann"), kOk, kDone);
  EXPECT_OUTCOME(world.call("counter", "[]", "bob"), kOk, kDone);
  EXPECT_OUTCOME(world.call("counter", "[]", "cyd"), kSessionLimit, kNone);
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
  EXPECT_TRUE(world.driver().end_session_here("bob"));
  EXPECT_OUTCOME(world.call("counter", "[]", "cyd"), kOk, kDone);
}

TEST_P(DriverTest, OneSessionsLaneIsBounded) {
  Settings narrow = settings();
  narrow.sessions.queue_max = 1;
  World world(GetParam(), narrow);
  world.warm();
  const Pending running = world.submit(ask("spin", "[300]", "ann"));
  ASSERT_TRUE(world.running("spin"));
  const Pending waiting = world.submit(ask("counter", "[]", "ann"));
  EXPECT_OUTCOME(world.wait(world.submit(ask("counter", "[]", "ann"))), kOverloaded, kNone);
  EXPECT_OUTCOME(world.wait(world.submit(ask("counter", "[]", "bob"))), kOk, kDone);
  EXPECT_OUTCOME(world.wait(waiting), kOk, kDone);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

TEST_P(DriverTest, SessionsAreListedInPages) {
  World world(GetParam());
  for (const char* id : {"cyd", "ann", "bob"}) world.call("counter", "[]", id);
  const auto first = world.driver().sessions("", 2);
  EXPECT_EQ(first.total, 3u);
  ASSERT_EQ(first.items.size(), 2u);
  EXPECT_EQ(first.items[0].id, "ann");
  EXPECT_EQ(first.items[1].id, "bob");
  EXPECT_EQ(first.items[0].state, "idle");
  EXPECT_EQ(first.items[0].epoch, 1u);
  ASSERT_TRUE(first.next);
  const auto rest = world.driver().sessions(*first.next, 2);
  ASSERT_EQ(rest.items.size(), 1u);
  EXPECT_EQ(rest.items[0].id, "cyd");
  EXPECT_FALSE(rest.next);
}

}  // namespace
}  // namespace keelback::test
