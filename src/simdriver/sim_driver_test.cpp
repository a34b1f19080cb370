// The simulator as a driver: threads, the two paces, and that every `done` runs. What a pool does
// is tested on every driver in tests/conformance.
#include "simdriver/sim_driver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace keelback::simdriver {
namespace {

using namespace std::chrono_literals;

sim::Simulation::Options options() {
  sim::Simulation::Options out;
  out.check_invariants = true;
  return out;
}

Call ask(std::string function, std::string payload = "[]") {
  Call call;
  call.function = std::move(function);
  call.payload = std::move(payload);
  return call;
}

TEST(SimDriver, ManualTimeStandsStillUntilItIsMoved) {
  host::EventLoop loop;
  SimDriver driver(loop, options(), SimDriver::Pace::kManual);
  driver.advance(1s);
  std::atomic<int> ended = 0;
  driver.submit(ask("sleep", "[1000]"), [&](Outcome&&) { ++ended; });
  driver.advance(999ms);
  EXPECT_EQ(ended, 0);
  driver.advance(2ms);
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(driver.now(), Time{2001ms});
}

TEST(SimDriver, ACallMovesManualTimeToItsOutcome) {
  host::EventLoop loop;
  SimDriver driver(loop, options(), SimDriver::Pace::kManual);
  const auto real = std::chrono::steady_clock::now();
  EXPECT_TRUE(driver.call(ask("sleep", "[50000]")).ok());
  EXPECT_GE(driver.now(), Time{50s});
  EXPECT_LT(std::chrono::steady_clock::now() - real, 40s) << "virtual time is not slept through";
}

TEST(SimDriver, RealPaceFollowsTheClock) {
  host::EventLoop loop;
  SimDriver driver(loop, options());
  const auto real = std::chrono::steady_clock::now();
  EXPECT_TRUE(driver.call(ask("sleep", "[100]")).ok());
  EXPECT_GE(std::chrono::steady_clock::now() - real, 100ms);
}

// Goal: callers on many threads, refusals included, each get their own answer, once.
TEST(SimDriver, ManyThreadsCallAtOnce) {
  for (const auto pace : {SimDriver::Pace::kManual, SimDriver::Pace::kReal}) {
    host::EventLoop loop;
    SimDriver driver(loop, options(), pace);
    std::atomic<int> right = 0;
    std::vector<std::thread> callers;
    for (int t = 0; t < 4; ++t) {
      callers.emplace_back([&, t] {
        for (int i = 0; i < 50; ++i) {
          const std::string value = std::to_string(t * 1000 + i);
          const Outcome outcome = driver.call(ask("echo", "[" + value + "]"));
          right += outcome.ok() && outcome.payload == value;
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(right, 200);
    EXPECT_EQ(driver.info().stats.accepted, 200u);
  }
}

TEST(SimDriver, ARefusalIsHeardThoughTimeStandsStill) {
  host::EventLoop loop;
  SimDriver driver(loop, options(), SimDriver::Pace::kManual);
  driver.advance(1s);
  const Time before = driver.now();
  std::promise<OutcomeKind> heard;
  driver.submit(ask("nosuch"), [&](Outcome&& outcome) { heard.set_value(outcome.kind); });
  EXPECT_EQ(heard.get_future().get(), OutcomeKind::kUnknownFunction);
  EXPECT_EQ(driver.now(), before);
}

TEST(SimDriver, CallbacksMaySubmitMore) {
  host::EventLoop loop;
  SimDriver driver(loop, options(), SimDriver::Pace::kManual);
  std::atomic<int> left = 10;
  std::function<void(Outcome&&)> again = [&](Outcome&&) {
    if (--left > 0) driver.submit(ask("sleep", "[10]"), [&](Outcome&& o) { again(std::move(o)); });
  };
  driver.submit(ask("sleep", "[10]"), [&](Outcome&& o) { again(std::move(o)); });
  EXPECT_TRUE(driver.advance_until([&] { return left == 0; }, 1s));
  EXPECT_GE(driver.now(), Time{100ms});
}

TEST(SimDriver, WhatIsInFlightEndsBeforeTheDriverGoes) {
  int ended = 0;
  {
    host::EventLoop loop;
    SimDriver driver(loop, options(), SimDriver::Pace::kManual);
    driver.advance(1s);
    for (int i = 0; i < 10; ++i) {
      driver.submit(ask("hold", "[1000000]"), [&](Outcome&& outcome) {
        ++ended;
        EXPECT_FALSE(outcome.ok());
      });
    }
  }
  EXPECT_EQ(ended, 10);
}

TEST(SimDriver, TheSameSeedAndCallsLeaveTheSameTrace) {
  const auto run = [](std::uint64_t seed) {
    sim::Simulation::Options seeded = options();
    seeded.seed = seed;
    host::EventLoop loop;
    SimDriver driver(loop, std::move(seeded), SimDriver::Pace::kManual);
    driver.advance(1s);
    for (int i = 0; i < 20; ++i) driver.call(ask("echo", "[1]"));
    return driver.trace_hash();
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5), run(6));
}

}  // namespace
}  // namespace keelback::simdriver
