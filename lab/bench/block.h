// The measuring engine. A block starts fresh processes (its arms), gives them orders in turn, notes
// what they answer as one or more windows of each metric (bench/metrics.h) for each arm, and ends
// them. `run` has one arm, `compare` has base and head, `peers` has ours and the alternatives; how
// the samples of the arms are paired is their part.
//
// A coin decides who comes first, at each step where that could be an advantage. The tests need it:
// only then are the signs of paired scores exchangeable.
//
// The first error sticks: after it nothing is asked and nothing is noted. So code that measures
// needs no checks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "bench/line_process.h"
#include "bench/metrics.h"

namespace keelback::bench {

// Latencies: nanoseconds, how many calls finished and how many were cut off there.
using Buckets = std::map<std::int64_t, std::pair<std::uint64_t, std::uint64_t>>;
void add(Buckets& sum, const nlohmann::json& buckets);
void add(Buckets& sum, const Buckets& more);
nlohmann::json to_json(const Buckets& buckets);

// What one arm gave in one block.
struct Sample {
  std::map<std::string, std::vector<double>, std::less<>> windows;  // by metric, in order of time
  std::map<std::string, Buckets, std::less<>> curves;               // by step

  // The block's one value of a metric: the median of its windows; of a p99 in several windows, that
  // of all their calls; of a promise, the window that is farthest from it.
  std::optional<double> value(const Metric& metric) const;
};
// ln(a / b) of one metric in one block. Of windows, the median of the pairs in order of time: drift
// hits both of a pair alike. nullopt: one of the two did not measure it, or has no logarithm.
std::optional<double> log_ratio(const Metric& metric, const Sample& a, const Sample& b);

// Who is measured.
struct Arm {
  std::string name;     // "base"; begins its errors where there are several arms
  std::string program;  // keelback
  nlohmann::json start = nlohmann::json::object();  // of its start order: "workers", "app", …
};

class Subject;

class Block {
 public:
  Block(std::vector<Arm> arms, Prng& prng) : arms_(std::move(arms)), prng_(prng) {
    samples_.resize(arms_.size());
  }

  Prng& prng() { return prng_; }
  // A fresh agent of that arm with a running pool. `more` is merged into the arm's start order.
  Subject start(std::size_t arm = 0, const nlohmann::json& more = nlohmann::json::object());
  void note(std::string_view metric, double value, std::size_t arm = 0);
  // Each metric of `step` that the answer has a field of; and its latencies.
  void note_step(std::string_view step, const nlohmann::json& answer, std::size_t arm = 0);
  Sample& sample(std::size_t arm = 0) { return samples_[arm]; }
  const Arm& arm(std::size_t arm) const { return arms_[arm]; }
  void fail(std::size_t arm, const std::string& why);
  const std::string& error() const { return error_; }

  // 0 … count - 1, in a random order.
  std::vector<std::size_t> order(std::size_t count);
  // Every arm once.
  template <typename Step>
  void each(Step step) {
    for (const std::size_t arm : order(arms_.size())) step(arm);
  }
  // Every arm `times` times (an even number), there and back: ABBA or BAAB.
  template <typename Step>
  void alternate(int times, Step step) {
    for (int done = 0; done < times; done += 2) {
      const std::vector<std::size_t> there = order(arms_.size());
      for (const std::size_t arm : there) step(arm);
      for (auto arm = there.rbegin(); arm != there.rend(); ++arm) step(*arm);
    }
  }

 private:
  std::vector<Arm> arms_;
  std::vector<Sample> samples_;  // by arm
  Prng& prng_;
  std::string error_;
};

// An agent with a pool: one arm's process, for as long as this lives.
class Subject {
 public:
  Subject(Block& block, std::size_t arm) : block_(&block), arm_(arm) {}

  // The answer; an empty object if anything has failed so far.
  nlohmann::json ask(const nlohmann::json& order);
  nlohmann::json ask(const char* op) { return ask(nlohmann::json::object({{"op", op}})); }
  // The same, and the block notes the answer as that step's. The second one gives the order that
  // has the step's name and no fields.
  nlohmann::json take(std::string_view step, const nlohmann::json& order);
  nlohmann::json take(const char* step) {
    return take(step, nlohmann::json::object({{"op", step}}));
  }
  const nlohmann::json& started() const { return started_; }  // the answer to the start order
  // Notes the step "system_calls" where the system lets us count; see system_calls_per_call().
  void count_system_calls(unsigned calls);
  // Notes the step "allocations", of a pool of its own; see allocations_per_call().
  void count_allocations(unsigned calls);
  double seconds_to_vanish();  // SIGKILL of the agent, until none of its processes is left

 private:
  friend class Block;
  Block* block_;
  std::size_t arm_;
  std::optional<LineProcess> agent_;
  nlohmann::json order_ = nlohmann::json::object();  // of the start
  nlohmann::json started_ = nlohmann::json::object();
};

}  // namespace keelback::bench
