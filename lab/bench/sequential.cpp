#include "bench/sequential.h"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <cmath>

#include "base/check.h"

namespace keelback::bench {
namespace {

double normal_quantile(double p) {
  CHECK(p > 0 && p < 1);
  return boost::math::quantile(boost::math::normal(), p);
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "OK";
    case Verdict::kSlowerWithinTolerance:
      return "SLOWER-WITHIN-TOLERANCE";
    case Verdict::kRegressed:
      return "REGRESSED";
    case Verdict::kImproved:
      return "IMPROVED";
    case Verdict::kInconclusive:
      return "INCONCLUSIVE";
  }
  CHECK(!"verdict out of range");
  return {};
}

GatePlan GatePlan::pr() { return {}; }
GatePlan GatePlan::nightly() {
  GatePlan plan;
  plan.looks = {40, 60, 90, 120};
  plan.delta_min = 0.003;
  plan.delta_tol = 0.015;
  return plan;
}

namespace {

// In standard deviations of one block's score times the root of the number of blocks. 1.35: what
// the exact sequential rule needs over the normal single-look formula; calibrated by simulation
// over the noise models of sequential_test.cpp.
double separation(const GatePlan& plan) {
  return (normal_quantile(1 - plan.alpha) + normal_quantile(0.8)) * 1.35;
}

}  // namespace

double smallest_detectable(const GatePlan& plan, double deviation, std::size_t blocks) {
  CHECK(blocks > 0);
  return std::expm1(std::log1p(plan.delta_min) +
                    separation(plan) * deviation / std::sqrt(static_cast<double>(blocks)));
}

std::size_t blocks_needed(const GatePlan& plan, double deviation) {
  const double gap = std::log1p(plan.delta_tol) - std::log1p(plan.delta_min);
  const double root = separation(plan) * deviation / gap;
  return static_cast<std::size_t>(std::ceil(std::max(1.0, root * root)));
}

Judgement judge(const GatePlan& plan, std::span<const double> scores) {
  CHECK(plan.looks.size() == plan.shares.size());
  const auto look = std::find(plan.looks.begin(), plan.looks.end(), scores.size());
  CHECK(look != plan.looks.end());
  const auto index = static_cast<std::size_t>(look - plan.looks.begin());
  const bool last = index + 1 == plan.looks.size();
  const double alpha = plan.alpha * plan.shares[index];
  const double beta = plan.beta * plan.shares[index];
  const double minimum = std::log1p(plan.delta_min);
  const double tolerance = std::log1p(plan.delta_tol);

  Judgement result;
  result.blocks = scores.size();
  result.effect = hodges_lehmann(scores, 0.95);
  result.p_slower = signed_rank(scores, minimum).p_greater;
  result.p_fine = signed_rank(scores, tolerance).p_less;
  const bool slower = result.p_slower <= alpha;
  const bool fine = result.p_fine <= beta;
  const bool faster = signed_rank(scores, -minimum).p_less <= alpha;

  result.final = true;
  if (slower && fine) {
    result.verdict = Verdict::kSlowerWithinTolerance;
  } else if (faster) {
    result.verdict = Verdict::kImproved;
  } else if (fine) {
    result.verdict = Verdict::kOk;
  } else if (slower && (last || result.effect.value >= tolerance)) {
    result.verdict = Verdict::kRegressed;
  } else {
    result.final = last;
    result.blocks_needed =
        std::max(blocks_needed(plan, robust_deviation(scores)), scores.size() + 1);
  }
  return result;
}

}  // namespace keelback::bench
