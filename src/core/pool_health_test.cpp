// Workers that live and are broken: when the pool asks, and what it does with the answer.
#include <gtest/gtest.h>

#include "support/model_driver.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

class PoolHealth : public ::testing::Test {
 protected:
  explicit PoolHealth(std::uint32_t workers = 2) : driver(pool_of(workers)) {
    driver.health = true;
    driver.announce({"f"});
    for (const WorkerId worker : driver.with(false)) driver.ready(worker);
    driver.take();
  }
  // The lines that speak of workers and checks.
  Lines life() {
    Lines found;
    for (std::string& line : driver.take()) {
      if (line.starts_with("check") || line.starts_with("start") || line.starts_with("stop") ||
          line.starts_with("kill")) {
        found.push_back(std::move(line));
      }
    }
    return found;
  }
  std::uint32_t worker_slot(CallId call) { return driver.worker_of(call).slot; }

  ModelDriver driver;
};

class OneWorker : public PoolHealth {
 protected:
  OneWorker() : PoolHealth(1) {}
};

// Goal: a worker that is free is asked every health_every; one that is busy, when its call ends.
TEST_F(PoolHealth, AsksWhenTheWorkerIsFree) {
  const CallId call = driver.submit();
  const WorkerId busy = driver.worker_of(call);
  driver.advance(10s);
  ASSERT_EQ(driver.count("check "), 1u);
  const WorkerId idle = busy.slot == 1 ? WorkerId{2, 2} : WorkerId{1, 1};
  driver.checked(idle);
  driver.reply(call);
  EXPECT_EQ(driver.count("check " + to_text(busy)), 1u);
  driver.checked(busy);
  driver.advance(9s);
  EXPECT_EQ(driver.count("check "), 2u);
  driver.advance(1s);
  EXPECT_EQ(driver.count("check "), 4u);
}

// Goal: a worker that is being checked takes no call; what came meanwhile goes to another, or
// waits.
TEST_F(OneWorker, NoCallMeetsACheck) {
  driver.advance(10s);
  const CallId call = driver.submit();
  EXPECT_EQ(driver.fate(call), "waiting");
  driver.checked({1, 1});
  EXPECT_EQ(driver.fate(call), "running");
}

// Goal: an application without health functions is never asked, nor one whose checks are off.
TEST_F(OneWorker, NeverAsksInVain) {
  Settings off = pool_of(1);
  off.workers.health_every = 0s;
  driver.configure(off);
  driver.reply(driver.submit(), ReplyKind::kError);
  driver.advance(1min);
  EXPECT_EQ(driver.count("check"), 0u);
  driver.configure(pool_of(1));
  driver.health = false;
  driver.announce({"f"});
  driver.reply(driver.submit(), ReplyKind::kError);
  driver.advance(1min);
  EXPECT_EQ(driver.count("check"), 0u);
}

// Goal: an error brings a check before the worker's next call, at most one a second.
TEST_F(OneWorker, AnErrorBringsACheck) {
  driver.reply(driver.submit(), ReplyKind::kError);
  EXPECT_EQ(life(), Lines{"check w1.1"});
  driver.checked({1, 1});
  driver.reply(driver.submit(), ReplyKind::kError);
  EXPECT_EQ(life(), Lines{});
  driver.advance(1s);
  driver.reply(driver.submit(), ReplyKind::kError);
  EXPECT_EQ(life(), Lines{"check w1.1"});
}

// Goal: a broken worker takes no call any more; its replacement takes over when it has passed its
// own check, and the sessions move.
TEST_F(OneWorker, ABrokenWorkerIsReplacedByOneThatIsWell) {
  driver.reply(driver.submit("f", "ann"), ReplyKind::kError);
  driver.take();
  driver.checked({1, 1}, false);
  EXPECT_EQ(life(), Lines{"start w1.2"});
  EXPECT_FALSE(driver.pool.stats(driver.now).ready);
  EXPECT_NE(driver.pool.stats(driver.now).reasons.at(1).find("the database is away"),
            std::string::npos);
  EXPECT_EQ(driver.pool.workers(driver.now).at(0).sick,
            "fails its health check: the database is away");
  const CallId waits = driver.submit();
  EXPECT_EQ(driver.fate(waits), "waiting");
  driver.ready({1, 2});
  EXPECT_EQ(life(), Lines{"check w1.2"});
  EXPECT_EQ(driver.fate(waits), "waiting");
  driver.checked({1, 2});
  EXPECT_EQ(driver.worker_of(waits), (WorkerId{1, 2}));
  EXPECT_TRUE(driver.pool.stats(driver.now).ready);
  EXPECT_EQ(driver.count("stop w1.1"), 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).health.failed, 1u);
  EXPECT_EQ(driver.pool.stats(driver.now).sessions.lost, 0u);
}

// Goal: a dependency that stays away costs no worker: the old ones serve on, the pool is not ready
// and says why, and replacements are tried at a slower and slower pace.
TEST_F(PoolHealth, IfReplacementsFailTooTheOldWorkersServeOn) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  driver.checked({2, 2}, false);
  EXPECT_EQ(driver.count("start "), 3u) << "one at a time";
  const CallId waits = driver.submit();
  EXPECT_EQ(driver.fate(waits), "waiting");
  driver.ready({1, 3});
  driver.checked({1, 3}, false);
  EXPECT_EQ(driver.count("kill w1.3"), 1u);
  driver.exit({1, 3}, false);
  EXPECT_EQ(driver.fate(waits), "running") << "a broken worker is better than none";
  EXPECT_FALSE(driver.pool.stats(driver.now).ready);
  EXPECT_EQ(driver.pool.workers(driver.now).size(), 2u);
  driver.reply(waits);
  const std::size_t before = driver.count("start ");
  driver.advance(1s);
  ASSERT_EQ(driver.count("start "), before + 1) << "after a second";
  driver.fail_start(driver.with(false).front());
  driver.advance(1s);
  EXPECT_EQ(driver.count("start "), before + 1);
  driver.advance(1s);
  EXPECT_EQ(driver.count("start "), before + 2) << "after two more";
}

// Goal: all workers are broken at once (a database restarts): one after another is replaced, and no
// call meets a broken one meanwhile.
TEST_F(PoolHealth, AllAreReplacedOneAfterAnother) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  driver.checked({2, 2}, false);
  driver.ready({1, 3});
  driver.checked({1, 3});
  EXPECT_EQ(driver.count("start w2.4"), 1u);
  const CallId first = driver.submit();
  const CallId second = driver.submit();
  EXPECT_EQ(worker_slot(first), 1u);
  EXPECT_EQ(driver.fate(second), "waiting");
  driver.ready({2, 4});
  driver.checked({2, 4});
  EXPECT_EQ(driver.worker_of(second), (WorkerId{2, 4}));
}

// Goal: a broken worker that is well again by itself is not replaced any more.
TEST_F(OneWorker, AWorkerMayRecover) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  driver.fail_start({1, 2});
  EXPECT_FALSE(driver.pool.stats(driver.now).ready);
  driver.handle(ConfigChanged{pool_of(1)});
  Settings often = pool_of(1);
  often.workers.health_every = 100ms;
  driver.configure(often);
  driver.advance(100ms);
  driver.checked({1, 1});
  EXPECT_TRUE(driver.pool.stats(driver.now).ready);
  const std::size_t starts = driver.count("start ");
  often.workers.health_every = 1h;
  driver.configure(often);
  driver.advance(1min);
  EXPECT_EQ(driver.count("start "), starts);
}

// Goal: a check that hangs costs its worker, which serves nobody until it has ended.
TEST_F(OneWorker, ACheckThatHangsCostsItsWorker) {
  driver.advance(10s);
  driver.checked({1, 1}, false, /*over=*/false);
  EXPECT_EQ(driver.count("start w1.2"), 1u);
  driver.fail_start({1, 2});
  const CallId waits = driver.submit();
  EXPECT_EQ(driver.fate(waits), "waiting") << "the check still runs there";
  driver.checked({1, 1}, false);
  EXPECT_EQ(driver.fate(waits), "running");
}

// Goal: what a replacement says of its health after it was killed for it changes nothing: the old
// worker serves on, and the failure counts once.
TEST_F(OneWorker, AKilledReplacementHasNoSay) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  driver.ready({1, 2});
  driver.checked({1, 2}, false, /*over=*/false);
  ASSERT_EQ(driver.count("kill w1.2"), 1u);
  const std::size_t told = driver.notices.size();
  driver.checked({1, 2});
  EXPECT_EQ(driver.count("stop w1.1"), 0u);
  EXPECT_EQ(driver.notices.size(), told);
  EXPECT_EQ(driver.fate(driver.submit()), "running");
}

// Goal: the sick worker dies while its replacement proves itself: that one is the slot's worker.
TEST_F(OneWorker, ABrokenWorkerMayDieFirst) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  driver.ready({1, 2});
  driver.exit({1, 1});
  const CallId call = driver.submit();
  driver.checked({1, 2}, false);
  EXPECT_EQ(driver.count("kill"), 0u) << "there is no better one";
  EXPECT_EQ(driver.count("start w1.3"), 1u);
  driver.ready({1, 3});
  driver.checked({1, 3});
  EXPECT_EQ(driver.worker_of(call), (WorkerId{1, 3}));
}

// Goal: a function that gives its worker up is believed: the next call meets another worker.
TEST_F(OneWorker, AFunctionMayGiveItsWorkerUp) {
  driver.reply(driver.submit(), ReplyKind::kOk, true, true, false, "the connection is broken");
  const CallId next = driver.submit();
  EXPECT_EQ(driver.fate(next), "waiting");
  EXPECT_EQ(life(), Lines{"start w1.2"});
  driver.ready({1, 2});
  driver.checked({1, 2});
  EXPECT_EQ(driver.worker_of(next), (WorkerId{1, 2}));
  EXPECT_EQ(driver.pool.stats(driver.now).health.retired, 1u);
}

// Goal: an application that gives up every worker at once does not spin.
TEST_F(OneWorker, WorkersThatAreGivenUpAgainAndAgainArePaced) {
  driver.health = false;
  driver.announce({"f"});
  std::size_t replaced = 0;
  for (int i = 0; i < 100; ++i) {
    const CallId call = driver.submit();
    driver.reply(call, ReplyKind::kOk, true, true, false, "never mind");
    for (const WorkerId worker : driver.with(false)) {
      ++replaced;
      driver.ready(worker);
    }
    for (const WorkerId worker : driver.with(true)) {
      if (driver.workers.at(worker).stopping) driver.exit(worker, false, "exit");
    }
  }
  EXPECT_LE(replaced, 3u);
}

// Goal: a pool that shuts down serves what waits, broken workers or not.
TEST_F(OneWorker, ADrainDoesNotWaitForAReplacement) {
  driver.advance(10s);
  driver.checked({1, 1}, false);
  const CallId waits = driver.submit();
  driver.handle(DrainRequested{10s});
  EXPECT_EQ(driver.fate(waits), "running");
}

}  // namespace
}  // namespace keelback::core
