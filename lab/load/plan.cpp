#include "load/plan.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/hash.h"

namespace keelback::load {
namespace {

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
Duration from_seconds(double s) { return Duration{std::llround(s * 1e9)}; }

std::uint32_t pick_weighted(const std::vector<double>& cumulative, Prng& prng) {
  const double x = prng.unit() * cumulative.back();
  const auto it = std::upper_bound(cumulative.begin(), cumulative.end(), x);
  return static_cast<std::uint32_t>(std::min<std::ptrdiff_t>(
      it - cumulative.begin(), static_cast<std::ptrdiff_t>(cumulative.size()) - 1));
}

}  // namespace

ZipfPicker::ZipfPicker(std::uint32_t n, double exponent) {
  CHECK(n > 0);
  double sum = 0;
  for (std::uint32_t rank = 1; rank <= n; ++rank) {
    sum += std::pow(rank, -exponent);
    cumulative_.push_back(sum);
  }
}

std::uint32_t ZipfPicker::pick(Prng& prng) const { return 1 + pick_weighted(cumulative_, prng); }

double planned_rate(const LoadSpec& spec, Duration at) {
  const double share = spec.length.count() ? seconds(at) / seconds(spec.length) : 0;
  switch (spec.shape) {
    case LoadSpec::Shape::kPoisson:
      return spec.rate;
    case LoadSpec::Shape::kRamp:
      return spec.rate_from + (spec.rate - spec.rate_from) * share;
    case LoadSpec::Shape::kSteps: {
      if (spec.steps <= 1) return spec.rate;
      const double step = std::min(std::floor(share * spec.steps), spec.steps - 1.0);
      return spec.rate_from + (spec.rate - spec.rate_from) * step / (spec.steps - 1);
    }
    case LoadSpec::Shape::kBurst:
      return spec.rate * (share >= 0.4 && share < 0.6 ? spec.burst_factor : 1);
  }
  CHECK(!"shape out of range");
  return 0;
}

// Every shape is a Poisson process with that rate: candidates at the highest rate,
// thinned (Lewis and Shedler 1979), so steps and bursts need no inverse of their own.
Plan make_plan(const LoadSpec& spec, std::uint64_t seed) {
  CHECK(spec.length >= Duration{0});
  Plan plan;
  Prng prng(seed);
  std::vector<double> mix;
  for (double weight : spec.mix) mix.push_back((mix.empty() ? 0 : mix.back()) + weight);
  const ZipfPicker sessions(std::max(spec.sessions, 1u), spec.zipf);
  const double length = seconds(spec.length);
  double peak = spec.rate;
  if (spec.shape == LoadSpec::Shape::kBurst) peak *= std::max(1.0, spec.burst_factor);
  peak = std::max(peak, spec.rate_from);

  double at = 0;
  while (peak > 0 && plan.arrivals.size() < spec.arrivals_max) {
    at += -std::log(1 - prng.unit()) / peak;
    if (at >= length) break;
    if (!prng.chance(planned_rate(spec, from_seconds(at)) / peak)) continue;
    Arrival arrival{.at = from_seconds(at)};
    if (spec.sessions) arrival.session = sessions.pick(prng);
    if (!mix.empty()) arrival.stream = pick_weighted(mix, prng);
    plan.arrivals.push_back(arrival);
  }
  plan.hash = kFnvBasis;
  for (const Arrival& arrival : plan.arrivals) {
    plan.hash = fnv1a(static_cast<std::uint64_t>(arrival.at.count()), plan.hash);
    plan.hash = fnv1a(std::uint64_t{arrival.session} << 32 | arrival.stream, plan.hash);
  }
  return plan;
}

}  // namespace keelback::load
