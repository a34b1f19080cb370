#include "bench/sequential.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace keelback::bench {
namespace {

// Acklam's rational approximation of the normal quantile; relative error below 1.2e-9.
double normal_quantile(double p) {
  static constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
                                 -2.759285104469687e+02, 1.383577518672690e+02,
                                 -3.066479806614716e+01, 2.506628277459239e+00};
  static constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
                                 -1.556989798598866e+02, 6.680131188771972e+01,
                                 -1.328068155288572e+01};
  static constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
                                 -2.400758277161838e+00, -2.549732539343734e+00,
                                 4.374664141464968e+00,  2.938163982698783e+00};
  static constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01,
                                 2.445134137142996e+00, 3.754408661907416e+00};
  CHECK(p > 0 && p < 1);
  constexpr double kLow = 0.02425;
  if (p < kLow || p > 1 - kLow) {
    const double q = std::sqrt(-2 * std::log(p < kLow ? p : 1 - p));
    const double x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
                     ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
    return p < kLow ? x : -x;
  }
  const double q = p - 0.5;
  const double r = q * q;
  return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
         (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
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
// over the noise models of noise.h.
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
