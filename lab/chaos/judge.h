// From a recorded history to a verdict. Nothing here touches a clock or a pool: the same plan and
// history give the same judgement, today and in a year.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/catalogue.h"
#include "chaos/checkers.h"
#include "chaos/losses.h"
#include "chaos/metrics.h"
#include "chaos/recovery.h"
#include "chaos/verdict.h"

namespace keelback::chaos {

// 0 PASS, 1 SAFETY, 2 LIVENESS, 3 BUDGET, 4 INVALID, 5 ABORTED, 6 RESIDUE, 7 INCONCLUSIVE,
// 77 SKIPPED. Also 64: wrong usage, 70: the laboratory itself failed.
int exit_code(Verdict verdict);
// Of several runs: SKIPPED only if all of them are.
Verdict worst(const std::vector<Verdict>& verdicts);

// What the pool did once the faults were gone.
enum class Latch : std::uint8_t {
  kNone,        // the service came back in time
  kSlow,        // it came back, too late
  kMetastable,  // only when the load was taken away
  kDamaged,     // not even then
};
std::string_view to_string(Latch latch);

struct Reason {
  Verdict verdict = Verdict::kPass;
  std::string text;
};

struct Judgement {
  Verdict verdict = Verdict::kPass;
  std::string why;              // one line
  std::vector<Reason> reasons;  // all of them, worst first
  Latch latch = Latch::kNone;
  PhaseStats baseline, during, after;
  Shape shape;
  Series series;
  std::vector<CheckResult> invariants;
  Losses losses;
  Metrics metrics;
  std::vector<Ladder> ladders;
  std::optional<Duration> service;  // from the last heal to the service at its baseline
  std::uint64_t verified = 0, verify_offered = 0;
  std::vector<std::string> advice;  // what is wrong, in the application author's words
  std::vector<NotTested> not_tested;
};

Judgement judge(const CheckInput& input);

}  // namespace keelback::chaos
