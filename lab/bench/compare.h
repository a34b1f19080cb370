// Base against head: paired blocks until every gated metric has its verdict, with the proofs that
// the gate itself works taken in the same run:
//   control  head against head must raise no alarm
//   canary   head against head slowed by a known share must be caught
// A run whose control alarms or whose canary is missed is void: its verdicts are not worth having.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/time.h"
#include "bench/pair.h"
#include "bench/run.h"
#include "bench/sequential.h"

namespace keelback::bench {

struct ProfilePlan {
  GatePlan gate;                   // alpha is of the whole family; each metric gets its share
  std::size_t control_blocks = 0;  // 0: none (and the report says so)
  std::size_t canary_blocks = 0;
  double canary_slowdown = 0.10;
};
ProfilePlan plan_of(Profile profile);

struct MetricResult {
  std::string id;
  Judgement judgement;
  std::vector<double> scores;
  double base_median = 0, head_median = 0;
  GatePlan gate;
};

struct CounterResult {
  std::string id, doc;
  double base = 0, head = 0;  // medians over the blocks
  bool worse = false;         // head is above base by more than the slack
};

struct Comparison {
  std::vector<MetricResult> metrics;
  std::vector<CounterResult> counters;
  std::vector<Pair> blocks;
  std::vector<std::string> void_reasons;  // empty: the run counts
  std::vector<MetricResult> control;      // of call.p10_us and call.p50_us
  double canary_slowdown = 0;             // what was injected, as a share of the median call
  std::vector<MetricResult> canary;
  bool canary_caught = false;
  std::uint64_t seed = 0;
  Duration took{0};

  enum class Exit { kOk = 0, kRegressed = 1, kUsage = 2, kVoid = 3, kInconclusive = 4 };
  // kInconclusive only where `strict`.
  Exit exit_code(bool strict) const;
};

struct CompareOptions {
  PairOptions block;
  Profile profile = Profile::kPr;
  std::uint64_t seed = 1;
  bool strict = false;  // inconclusive is a failure
  // Slows the head by this share of a typical call, to see the gate at work (and to test it).
  double inject = 0;
  Progress progress;
};

// The error is why no block could be run at all (usage, a binary that does not start).
std::expected<Comparison, std::string> compare(const CompareOptions& options);

nlohmann::json to_json(const Comparison& comparison, const CompareOptions& options);

}  // namespace keelback::bench
