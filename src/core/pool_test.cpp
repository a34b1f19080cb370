// The pool from end to end on a model driver: what every caller may rely on.
#include "core/pool.h"

#include <gtest/gtest.h>

#include <set>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// Goal: a cold pool refuses nobody; 20 calls before the first hello all end ok.
TEST(Pool, AColdPoolQueuesUntilItsWorkersAreReady) {
  ModelDriver driver(pool_of(4));
  EXPECT_EQ(driver.count("start "), 4u);
  std::vector<CallId> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(driver.submit());
  driver.advance(2s);
  driver.warm_up();
  for (bool moved = true; moved;) {
    moved = false;
    for (const CallId call : calls) {
      if (driver.fate(call) == "running") driver.reply(call), moved = true;
    }
  }
  for (const CallId call : calls) EXPECT_EQ(driver.fate(call), "ok");
  EXPECT_EQ(driver.pool.stats(driver.now).accepted, 20u);
}

// Goal: a crash fails the one call it touched, and its slot is filled again at once.
TEST(Pool, ACrashCostsOneCallAndTheSlotRefills) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId doomed = driver.submit(), neighbour = driver.submit();
  driver.exit(driver.worker_of(doomed));
  EXPECT_EQ(driver.fate(doomed), "worker_died");
  EXPECT_EQ(driver.outcome(doomed).effect, Effect::kMaybe);
  EXPECT_EQ(driver.outcome(doomed).death->signal, 9);
  EXPECT_EQ(driver.fate(neighbour), "running");
  EXPECT_EQ(driver.count("start "), 3u);
  EXPECT_EQ(driver.pool.stats(driver.now).restarts, 1u);
}

// Goal: the ancestor's bug number one. A change of the TTL rules at once for sessions that exist:
// lookup, sweep, listing and statistics agree, and an expiry once observed stays one.
TEST(Pool, TheRuntimeTimeoutIsObeyed) {
  Settings settings = pool_of(2);
  settings.sessions.idle_ttl = 5min;
  ModelDriver driver(settings);
  driver.warm_up();
  for (const char* id : {"ann", "bob", "cyd"}) driver.reply(driver.submit("f", id));
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 3u);
  driver.advance(1s);
  driver.reply(driver.submit("f", "cyd"));
  settings.sessions.idle_ttl = 200ms;
  driver.configure(settings);
  driver.now += 250ms;
  // No Tick yet: the readers see what the next call would meet.
  EXPECT_EQ(driver.pool.sessions(driver.now, "", 10).total, 0u);
  EXPECT_TRUE(driver.pool.sessions(driver.now, "", 10).items.empty());
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 0u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.expired, 3u);
  const CallId strict = driver.submit("f", "ann");
  EXPECT_EQ(driver.fate(strict), "session_expired");
  EXPECT_EQ(driver.outcome(strict).effect, Effect::kNone);
  EXPECT_EQ(driver.count("end-session "), 3u) << "the sweep told the workers";
  settings.sessions.idle_ttl = 5min;
  driver.configure(settings);
  EXPECT_EQ(driver.fate(driver.submit("f", "bob")), "session_expired") << "final";
  const CallId again = driver.submit("f", "ann");
  driver.reply(again);
  EXPECT_EQ(driver.fate(again), "ok");
  driver.advance(4min);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.active, 1u) << "a new session lives";
}

// Goal: the ladder ends a call that hears nothing, within deadline + grace, and its worker with it.
TEST(Pool, ADeadlineClimbsTheLadderToTheKill) {
  Settings settings = pool_of(1);
  settings.calls.deadline = 1s;
  settings.calls.grace = 2s;
  ModelDriver driver(settings);
  driver.warm_up();
  const CallId stuck = driver.submit();
  driver.take();
  driver.advance(1s);
  EXPECT_EQ(driver.take(),
            (std::vector<std::string>{"cancel r1 w1.1", "tell r1 timeout maybe w1.1"}));
  EXPECT_EQ(driver.outcome(stuck).effect, Effect::kMaybe);
  driver.advance(1200ms);
  EXPECT_EQ(driver.take(), (std::vector<std::string>{"interrupt r1 w1.1"}));
  driver.advance(400ms);
  EXPECT_EQ(driver.take(), (std::vector<std::string>{"dump r1 w1.1"}));
  driver.advance(200ms);
  EXPECT_EQ(driver.take(), (std::vector<std::string>{"kill w1.1"}));
  driver.advance(settings.workers.kill_timeout);
  EXPECT_EQ(driver.count("resolve r1 timeout maybe w1.1"), 1u) << "when the worker is given up";
  EXPECT_EQ(driver.count("abandon w1.1"), 1u);
  EXPECT_EQ(driver.count("start w1.2"), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).abandoned, 1u);
}

// Goal: 20 sessions under concurrent load spread over 4 workers, each on one, in order.
TEST(Pool, SessionsSpreadEvenlyUnderConcurrentLoad) {
  Settings settings = pool_of(4);
  settings.pool.queue_max = 4000;
  ModelDriver driver(settings);
  driver.warm_up();
  std::vector<CallId> calls;
  for (int round = 0; round < 50; ++round) {
    for (int s = 0; s < 20; ++s) calls.push_back(driver.submit("f", "s" + std::to_string(s)));
  }
  std::map<std::string, std::set<WorkerId>> homes;
  for (bool moved = true; moved;) {
    moved = false;
    for (const CallId call : calls) {
      if (driver.fate(call) != "running") continue;
      homes[driver.calls.at(call.value).session].insert(driver.worker_of(call));
      driver.reply(call);
      moved = true;
    }
  }
  std::map<WorkerId, int> load;
  for (const auto& [session, workers] : homes) {
    EXPECT_EQ(workers.size(), 1u);
    ++load[*workers.begin()];
  }
  for (const auto& [worker, sessions] : load) EXPECT_NEAR(sessions, 5, 1);
}

// Goal: a drain finishes what it accepted, refuses the rest, and says once that it is over.
TEST(Pool, ADrainFinishesWhatItAccepted) {
  ModelDriver driver(pool_of(2));
  driver.warm_up();
  const CallId a = driver.submit(), b = driver.submit(), c = driver.submit();
  driver.handle(DrainRequested{10s});
  EXPECT_EQ(driver.fate(driver.submit()), "shutting_down");
  driver.reply(a);
  driver.reply(b);
  driver.reply(c);
  EXPECT_EQ(driver.fate(c), "ok");
  EXPECT_EQ(driver.count("stop "), 2u);
  EXPECT_FALSE(driver.drained);
  driver.exit(driver.living().front());
  driver.exit(driver.living().front());
  EXPECT_TRUE(driver.drained);
}

}  // namespace
}  // namespace keelback::core
