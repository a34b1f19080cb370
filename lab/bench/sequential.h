// From block scores to a verdict, in a few looks, with both error rates held.
//
// A score is ln(head / base) of one metric in one block of fresh pools (positive: head is worse).
// Two one-sided exact tests run beside each other:
//   slower   rejects "effect <= ln(1 + delta_min)"   alpha: a false alarm
//   fine     rejects "effect >= ln(1 + delta_tol)"   beta: a false all-clear
// Each spends its error over the looks in the given shares, so by the union bound the totals hold
// whatever the dependence between looks. What is neither after the last look is inconclusive, and
// says how many blocks it would take.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "bench/signed_rank.h"

namespace keelback::bench {

enum class Verdict {
  kOk,                     // proved: not slower than the tolerance
  kSlowerWithinTolerance,  // proved slower, proved within tolerance: a warning
  kRegressed,              // proved slower, and not within tolerance
  kImproved,               // proved faster
  kInconclusive,
};
std::string_view to_string(Verdict verdict);  // "OK", "SLOWER-WITHIN-TOLERANCE", …

struct GatePlan {
  std::vector<std::size_t> looks = {12, 18, 26, 36};  // blocks at each look, ascending
  std::vector<double> shares = {0.1, 0.2, 0.3, 0.4};  // of alpha and of beta; sum 1
  double alpha = 0.005;
  double beta = 0.05;
  double delta_min = 0.01;  // an effect below this is ignored
  double delta_tol = 0.04;  // an effect above this must be caught

  static GatePlan pr();
  static GatePlan nightly();
};

struct Judgement {
  Verdict verdict = Verdict::kInconclusive;
  bool final = false;  // false: take more blocks, up to the next look
  std::size_t blocks = 0;
  Estimate effect;      // of the log ratio
  double p_slower = 1;  // of the last look
  double p_fine = 1;
  std::size_t blocks_needed = 0;  // when inconclusive: for 80 % power, predicted
};

// Judges at a look; scores.size() must be one of plan.looks. At the last look it is final.
Judgement judge(const GatePlan& plan, std::span<const double> scores);
// How many blocks a spread of `deviation` (of the log ratio) needs between delta_min and delta_tol.
std::size_t blocks_needed(const GatePlan& plan, double deviation);

// The other way round: the smallest slowdown (a share, 0.05 is 5 %) that `blocks` blocks of that
// spread find four times in five.
double smallest_detectable(const GatePlan& plan, double deviation, std::size_t blocks);

}  // namespace keelback::bench
