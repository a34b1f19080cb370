// Three times what the pool can do, for 30 s, on virtual time: what it still does, how long the
// accepted wait, what it holds, and how soon all is normal again. No noise, so the bounds are
// tight.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/load.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kWorkers = 4;
constexpr Duration kService = 10ms;             // mean, uniform in [5, 15] ms
constexpr double kCapacity = kWorkers / 0.010;  // calls a second
constexpr Duration kLength = 30s;

// What calls of one kind met.
struct Tally {
  std::uint64_t asked = 0;
  std::uint64_t ok = 0;
  std::uint64_t overloaded = 0;
  std::vector<Duration> times;  // of the ok ones: queue and run
  std::uint64_t other() const { return asked - ok - overloaded; }
  Duration p99() {
    if (times.empty()) return Duration{0};
    const auto at = times.begin() + static_cast<std::ptrdiff_t>(times.size() * 99 / 100);
    std::ranges::nth_element(times, at);
    return *at;
  }
};

LoadSettings::Kind ask(Call call, std::uint32_t weight = 1, bool in_session = false) {
  call.function = "echo";
  call.payload = "[1]";
  return {.call = std::move(call), .weight = weight, .in_session = in_session};
}

class Overload : public testing::Test {
 protected:
  Overload() {
    options_.seed = 7;
    options_.settings.pool.workers = kWorkers;
    options_.model.service = {kService / 2, kService + kService / 2, 0, 0s};
  }

  void run(std::vector<LoadSettings::Kind> mix, double factor = 3) {
    sim_.emplace(options_);
    sim_->advance(1s);  // every worker is up
    LoadSettings settings;
    settings.rate = factor * kCapacity;
    settings.length = kLength;
    settings.mix = std::move(mix);
    load_.emplace(*sim_, std::move(settings), 11);
    load_->on_outcome([this](CallId, const Call& call, const Outcome& outcome) {
      for (Tally* tally : {&all_, &priority_[call.priority], &session_[call.session]}) {
        ++tally->asked;
        tally->ok += outcome.ok();
        tally->overloaded += outcome.kind == OutcomeKind::kOverloaded;
        if (outcome.ok()) tally->times.push_back(outcome.queued + outcome.ran);
      }
      if (outcome.kind == OutcomeKind::kOverloaded) {
        EXPECT_EQ(outcome.effect, Effect::kNone);
        ASSERT_TRUE(outcome.retry_after);
        retry_after_max_ = std::max(retry_after_max_, Duration(*outcome.retry_after));
      }
    });
    load_->start();
    for (Duration at{0}; at < kLength; at += 100ms) {
      sim_->advance(100ms);
      waiting_max_ = std::max(waiting_max_, sim_->stats().queue_depth);
    }
    goodput_ = static_cast<double>(all_.ok) / (kCapacity * 30);
  }
  // The load is over: a second later nothing waits, and a call is served at once.
  void expect_normal_within_a_second() {
    sim_->advance(1s);
    EXPECT_EQ(sim_->stats().in_flight, 0U);
    std::optional<Outcome> fresh;
    Call call = ask({}).call;
    sim_->submit(std::move(call), [&](Outcome&& outcome) { fresh = std::move(outcome); });
    EXPECT_TRUE(sim_->run_while_not([&] { return fresh.has_value(); }, sim_->now() + 1s));
    EXPECT_TRUE(fresh && fresh->ok() && fresh->queued == 0s);
  }

  Simulation::Options options_;
  std::optional<Simulation> sim_;
  std::optional<OpenLoad> load_;
  Tally all_;
  std::map<Priority, Tally> priority_;
  std::map<std::string, Tally> session_;
  std::uint32_t waiting_max_ = 0;
  Duration retry_after_max_{0};
  double goodput_ = 0;
};

TEST_F(Overload, ADelayLimitBoundsTheWaitAndCostsNoCapacity) {
  options_.settings.pool.queue_delay_max = 100ms;
  run({ask({})});
  EXPECT_GT(goodput_, 0.99);
  EXPECT_LT(all_.p99(), 130ms);
  EXPECT_EQ(all_.other(), 0U);
  EXPECT_LE(waiting_max_, 60U);
  EXPECT_LT(retry_after_max_, 300ms);
  expect_normal_within_a_second();
}

// Goal: the wait does not grow with the overload, as it would if only the first one's wait counted.
TEST_F(Overload, TwelvefoldIsNoWorseThanThreefold) {
  options_.settings.pool.queue_delay_max = 100ms;
  run({ask({})}, 12);
  EXPECT_GT(goodput_, 0.99);
  EXPECT_LT(all_.p99(), 150ms);
  EXPECT_EQ(all_.other(), 0U);
  expect_normal_within_a_second();
}

// Goal: without any delay limit, calls that would be dead when their turn comes are refused instead
// of being let in to die: a first in, first out queue at its deadline serves nobody (2 % here).
TEST_F(Overload, DeadlinesShorterThanTheQueueDoNotCollapseIt) {
  options_.settings.calls.deadline = 500ms;
  run({ask({})});
  EXPECT_GT(goodput_, 0.99);
  EXPECT_LT(all_.p99(), 500ms);
  EXPECT_EQ(all_.other(), 0U) << "refused, not timed out";
  expect_normal_within_a_second();
}

TEST_F(Overload, TheBoundedQueueAloneBoundsTheWait) {
  options_.settings.pool.queue_max = 200;
  run({ask({})});
  EXPECT_GT(goodput_, 0.99);
  EXPECT_LT(all_.p99(), 600ms);
  EXPECT_EQ(waiting_max_, 200U);
  EXPECT_EQ(all_.other(), 0U);
  expect_normal_within_a_second();
}

TEST_F(Overload, TheUrgentDoNotFeelIt) {
  options_.settings.pool.queue_delay_max = 100ms;
  run({ask({.priority = Priority::kHigh}), ask({}, 4), ask({.priority = Priority::kLow}, 4)});
  EXPECT_GT(goodput_, 0.99);
  EXPECT_EQ(priority_[Priority::kHigh].ok, priority_[Priority::kHigh].asked);
  EXPECT_LT(priority_[Priority::kHigh].p99(), 30ms);
  EXPECT_LT(priority_[Priority::kNormal].p99(), 250ms);
  EXPECT_LT(priority_[Priority::kLow].ok, priority_[Priority::kNormal].ok / 10) << "low goes first";
}

// Goal: one session asks for more than a worker can do; the others lose nothing but their share of
// that worker's turns.
TEST_F(Overload, AHotSessionStarvesNobody) {
  run({ask({.session = "hot"}, 90), ask({}, 10, true)});
  EXPECT_GT(session_["hot"].overloaded, 0U);
  EXPECT_EQ(session_["hot"].other(), 0U);
  for (auto& [id, tally] : session_) {
    if (id == "hot") continue;
    EXPECT_EQ(tally.ok, tally.asked) << id;
    EXPECT_LT(tally.p99(), 60ms) << id;
  }
}

// Goal: neither do twelve, which together would fill the queue.
TEST_F(Overload, ManyHotSessionsStarveNobody) {
  std::vector<LoadSettings::Kind> mix = {ask({}, 4, true)};
  for (int i = 0; i < 12; ++i) mix.push_back(ask({.session = "hot" + std::to_string(i)}, 7));
  run(std::move(mix));
  EXPECT_GT(goodput_, 0.99);
  for (auto& [id, tally] : session_) {
    if (id.starts_with("hot")) continue;
    EXPECT_EQ(tally.ok, tally.asked) << id;
    EXPECT_LT(tally.p99(), 300ms) << id;
  }
}

}  // namespace
}  // namespace keelback::sim
