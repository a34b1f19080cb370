// From a recorded history to a verdict. Nothing here touches a clock or a pool: the same plan and
// history give the same judgement, today and in a year.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chaos/catalogue.h"
#include "chaos/checkers.h"
#include "chaos/losses.h"
#include "chaos/metrics.h"
#include "chaos/recovery.h"

namespace keelback::chaos {

// 0 PASS, 1 SAFETY, 2 LIVENESS, 3 BUDGET, 4 INVALID, 5 ABORTED, 6 RESIDUE, 7 INCONCLUSIVE,
// 77 SKIPPED. Also 64: wrong usage, 70: the laboratory itself failed.
int exit_code(Verdict verdict);
// Of several runs. SKIPPED only if all are.
Verdict worst(const std::vector<Verdict>& verdicts);

struct Judgement : Weighed {
  Verdict verdict = Verdict::kPass;
  std::string why;              // one line
  std::vector<Reason> reasons;  // all of them, worst first
  Shape shape;
  Series series;
  std::vector<CheckResult> invariants;
  Metrics metrics;
  std::vector<Ladder> ladders;
  std::vector<std::string> advice;  // what is wrong, in the application author's words
  std::vector<NotTested> not_tested;
};

Judgement judge(const CheckInput& input);

}  // namespace keelback::chaos
