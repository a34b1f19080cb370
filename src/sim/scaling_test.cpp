// A pool whose size follows the load, on virtual time: load that swings from nothing to 64 times
// what one worker can do, and back. It follows, it does not oscillate, and no session is lost.
// KEELBACK_SCALING_SERIES=DIR writes what happened as files: seconds, load in workers, workers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kMost = 128;

// What a call is and does.
struct Work {
  Duration takes = 200ms;
  std::uint32_t concurrency = 1;  // of its function
  double in_sessions = 0;         // share of the calls
};

// Load, in workers that are always busy, at a time since the start.
using Shape = std::function<double(Duration)>;

class Swing {
 public:
  Swing(const Work& work, std::uint32_t least, Shape shape, std::uint64_t seed = 1)
      : work_(work), shape_(std::move(shape)), prng_(seed) {
    Simulation::Options options;
    options.seed = seed;
    options.settings.pool.workers = least;
    options.settings.pool.workers_max = kMost;
    options.settings.pool.scale_down_after = 20s;
    options.settings.pool.queue_max = 100'000;
    options.settings.sessions.idle_ttl = 24h;
    options.settings.sessions.max = 1000;
    // Most calls take as long as usual, some a third more or less.
    options.model.service = {work.takes * 2 / 3, work.takes * 4 / 3, 0, 0s};
    options.model.exposed = {"work"};
    options.model.concurrency = {{"work", work.concurrency}, {"count", 1}};
    options.model.start = {4ms, 12ms, 0, 0s};
    sim_.emplace(options);
    sim_->advance(1s);
    begin_ = sim_->now();
  }

  void run(Duration length) {
    end_ = begin_ + length;
    arrive();
    for (Time t = begin_; t < end_; t += 100ms) {
      sim_->run_until(t + 100ms);
      const PoolStats stats = sim_->stats();
      sizes_.push_back(stats.scaling.wanted);
      const std::uint32_t there = stats.workers.ready + stats.workers.busy +
                                  stats.workers.starting + stats.workers.draining;
      EXPECT_LE(there, kMost + 2) << "those that were told to stop are on their way out";
      longest_wait_ = std::max(longest_wait_, Duration(stats.queue_delay));
    }
  }
  // Nothing comes any more.
  void calm(Duration length) {
    for (Time t = sim_->now(); length > 0s; length -= 100ms) {
      sim_->run_until(t += 100ms);
      sizes_.push_back(sim_->stats().scaling.wanted);
    }
  }

  // How often the size turned, from growing to shrinking or back. Where it has gone back by two
  // workers, or by less than a quarter of what it was, it has not: calls come by chance, and the
  // peaks of a load that fills 16 workers on average differ by as much from one to the next.
  int turns() const {
    int turns = 0, direction = 0;
    std::uint32_t extreme = sizes_.front();
    for (const std::uint32_t size : sizes_) {
      const std::uint32_t larger = std::max(extreme, size);
      const std::uint32_t back = larger - std::min(extreme, size);
      if (direction >= 0 ? size >= extreme : size <= extreme) {
        if (size != extreme) direction = size > extreme ? 1 : -1;
        extreme = size;
      } else if (back > 2 && back * 4 > larger) {
        turns += direction != 0;
        direction = size > extreme ? 1 : -1;
        extreme = size;
      }
    }
    return turns;
  }
  std::uint32_t size(Duration when) const {
    return sizes_.at(static_cast<std::size_t>(when / Duration(100ms)) - 1);
  }
  std::uint32_t largest() const { return *std::ranges::max_element(sizes_); }
  Duration wait_p99() {
    if (waits_.empty()) return Duration{0};
    const auto at = waits_.begin() + static_cast<std::ptrdiff_t>(waits_.size() * 99 / 100);
    std::ranges::nth_element(waits_, at);
    return *at;
  }
  Simulation& sim() { return *sim_; }
  std::uint64_t calls() const { return calls_; }

  // Each call ended ok, and each session counted on where it was.
  void expect_nothing_lost() {
    EXPECT_EQ(failed_, 0U);
    EXPECT_EQ(broken_, 0U) << "sessions that began anew";
    EXPECT_EQ(sim_->stats().sessions.lost, 0U);
    EXPECT_EQ(sim_->stats().in_flight, 0U);
  }
  // Each session is called once more, wherever its state is.
  void ask_each_session() {
    const auto before = counts_;
    for (const auto& [session, count] : before) ask(session);
    sim_->advance(1min);
  }
  void write(const char* name) const {
    const char* directory = std::getenv("KEELBACK_SCALING_SERIES");
    if (directory == nullptr) return;
    std::FILE* file = std::fopen((std::string(directory) + "/" + name + ".txt").c_str(), "w");
    ASSERT_NE(file, nullptr);
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      const double seconds = 0.1 * static_cast<double>(i + 1);
      const auto since =
          std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds - 0.1));
      std::fprintf(file, "%.1f %.2f %u\n", seconds, begin_ + since < end_ ? shape_(since) : 0,
                   sizes_[i]);
    }
    std::fclose(file);
  }

 private:
  // The next call comes after a time drawn for the load of this moment; a load that may change is
  // looked at again soon.
  void arrive() {
    const Time now = sim_->now();
    if (now >= end_) return;
    const std::chrono::duration<double> takes = work_.takes;
    const double per_second = shape_(now - begin_) * work_.concurrency / takes.count();
    const double gap = per_second > 0 ? -std::log(1 - prng_.unit()) / per_second : 1;
    const bool comes = gap < 0.01;
    const auto after =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::min(gap, 0.01)));
    sim_->at(now + after, [this, comes] {
      const bool in_session = comes && work_.in_sessions > 0 && prng_.chance(work_.in_sessions);
      if (comes) ask(in_session ? "s" + std::to_string(prng_.below(200)) : "");
      arrive();
    });
  }
  void ask(const std::string& session = {}) {
    ++calls_;
    Call call;
    call.function = "work";
    call.payload = "[1]";
    call.deadline = 10min;
    call.session = session;
    if (!session.empty()) {
      call.function = "count";
      call.payload = "[]";
    }
    sim_->submit(call, [this, session](Outcome&& outcome) {
      if (!outcome.ok() && ++failed_ == 1) ADD_FAILURE() << outcome.message;
      waits_.push_back(outcome.queued);
      if (session.empty() || !outcome.ok()) return;
      const std::uint64_t count = std::stoull(outcome.payload);
      if (count != ++counts_[session]) ++broken_;
    });
  }

  const Work work_;
  const Shape shape_;
  Prng prng_;
  std::optional<Simulation> sim_;
  Time begin_{}, end_{};
  std::vector<std::uint32_t> sizes_;  // every 100 ms
  std::vector<Duration> waits_;
  Duration longest_wait_{0};
  std::map<std::string, std::uint64_t> counts_;
  std::uint64_t calls_ = 0, failed_ = 0, broken_ = 0;
};

// How many workers calls fill now and then that come by chance: five standard deviations more than
// on average.
std::uint32_t peak(double load) { return static_cast<std::uint32_t>(load + 5 * std::sqrt(load)); }

Shape steps(std::vector<double> loads, Duration each) {
  return [loads = std::move(loads), each](Duration t) {
    const auto step = static_cast<std::size_t>(t / each);
    return step < loads.size() ? loads[step] : 0;
  };
}
// From 0 to `most` and back in each period.
Shape waves(double most, Duration period) {
  return [most, period](Duration t) {
    const double turn = std::chrono::duration<double>(t) / std::chrono::duration<double>(period);
    return most / 2 * (1 - std::cos(2 * M_PI * turn));
  };
}

// Goal: each step up is followed at once, each step down after scale_down_after, one worker a
// second, and in between the size stands still.
class ScalingSteps : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, ScalingSteps, testing::Range<std::uint64_t>(1, 5));
TEST_P(ScalingSteps, FollowsThemAndStandsStillInBetween) {
  Swing swing({}, 0, steps({0, 64, 0, 16, 64, 8, 0}, 2min), GetParam());
  swing.run(14min);
  swing.calm(2min);
  if (GetParam() == 1) swing.write("steps");
  EXPECT_EQ(swing.turns(), 3) << "up, down, up (to 16, to 64), down (to 8, to 0)";
  EXPECT_EQ(swing.size(2min), 0U);
  EXPECT_GE(swing.size(2min + 5s), 64U);
  EXPECT_LE(swing.size(4min), peak(64));
  EXPECT_EQ(swing.size(6min), 0U) << "20 s, then one a second";
  EXPECT_LE(swing.size(8min), peak(16));
  EXPECT_GE(swing.size(8min), 16U);
  EXPECT_GE(swing.size(8min + 5s), 64U);
  EXPECT_LE(swing.size(12min), peak(8));
  EXPECT_EQ(swing.size(16min), 0U);
  EXPECT_LT(swing.wait_p99(), 100ms);
  swing.expect_nothing_lost();
}

// Goal: a slow wave is followed, up and down; one that swings within scale_down_after is not.
TEST(Scaling, FollowsSlowWaves) {
  Swing swing({}, 1, waves(64, 5min));
  swing.run(15min);
  swing.calm(3min);
  swing.write("slow-waves");
  EXPECT_EQ(swing.turns(), 5) << "three times up and down";
  for (const Duration crest : {150s, 450s, 750s}) EXPECT_GE(swing.size(crest), 60U);
  for (const Duration trough : {300s, 600s}) EXPECT_LE(swing.size(trough + 10s), 48U);
  EXPECT_EQ(swing.size(18min), 1U);
  EXPECT_LT(swing.wait_p99(), 50ms);
  swing.expect_nothing_lost();
}

TEST(Scaling, FollowsNoFastWaves) {
  Swing swing({}, 1, waves(64, 10s));
  swing.run(5min);
  swing.calm(3min);
  swing.write("fast-waves");
  EXPECT_EQ(swing.turns(), 1) << "up, and down at the end";
  EXPECT_GE(swing.size(5min), 60U);
  EXPECT_EQ(swing.size(8min), 1U);
  swing.expect_nothing_lost();
}

// Goal: sessions move with their state when their worker leaves, under load and at its end. A few
// calls in a hundred have a session: those that live on the last two workers wait for these, how
// many others there may be.
TEST(Scaling, LosesNoSessionByShrinking) {
  Swing swing({.in_sessions = 0.03}, 0, steps({32, 2, 32, 0}, 90s));
  swing.run(6min);
  swing.calm(2min);
  swing.write("sessions");
  EXPECT_EQ(swing.size(8min), 0U);
  swing.ask_each_session();
  const PoolStats stats = swing.sim().stats();
  EXPECT_GT(stats.sessions.active, 100U);
  EXPECT_GE(stats.sessions.restored, stats.sessions.active) << "each of them, at the end";
  EXPECT_LT(swing.wait_p99(), 1s);
  swing.expect_nothing_lost();
}

// Goal: calls that share a worker fill it before another one starts.
TEST(Scaling, PacksCallsThatShareWorkers) {
  Swing swing({.takes = 500ms, .concurrency = 16}, 1, steps({0, 16, 0, 4, 0}, 1min));
  swing.run(5min);
  swing.calm(1min);
  swing.write("shared");
  EXPECT_EQ(swing.turns(), 3);
  EXPECT_GE(swing.size(65s), 16U);
  EXPECT_LE(swing.largest(), 24U);
  EXPECT_EQ(swing.size(6min), 1U);
  swing.expect_nothing_lost();
}

// Goal: short calls need hardly more workers than they fill.
TEST(Scaling, SizesThePoolForShortCalls) {
  Swing swing({.takes = 5ms}, 1, steps({0, 8, 1, 8, 0}, 1min));
  swing.run(5min);
  swing.calm(1min);
  swing.write("short-calls");
  EXPECT_EQ(swing.turns(), 3);
  EXPECT_GE(swing.size(119s), 9U);
  EXPECT_LE(swing.largest(), 24U);
  EXPECT_LE(swing.size(179s), 4U);
  EXPECT_EQ(swing.size(6min), 1U);
  EXPECT_LT(swing.wait_p99(), 40ms);
  swing.expect_nothing_lost();
}

}  // namespace
}  // namespace keelback::sim
