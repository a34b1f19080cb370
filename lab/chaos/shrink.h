// From a run that failed to the smallest plan that fails the same way: statistical ddmin. A
// candidate is kept if the same verdict with the same broken invariant appears within as many runs
// as make a miss unlikely (5 %), given how often the whole plan showed it; on the simulator, where
// a plan is a run, that is one.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "chaos/judge.h"
#include "chaos/plan.h"

namespace keelback::chaos {

// What a failure is recognised by.
struct Symptom {
  Verdict verdict = Verdict::kPass;
  std::string invariant;  // the first broken one that decides the verdict; empty: none does
  bool operator==(const Symptom&) const = default;
};
Symptom symptom_of(const Judgement& judgement);
std::string describe(const Symptom& symptom);  // "SAFETY (I2)"

// How many runs a candidate gets before it counts as harmless.
std::uint32_t tries_for(double rate);

struct ShrinkStep {
  std::string what;  // "without fault k", "12 of 300 calls of the load"
  bool kept = false;
  std::uint32_t runs = 0;
};

struct ShrinkRequest {
  // Runs a plan and judges it; the error ends the shrinking.
  std::function<std::expected<Judgement, std::string>(const Plan&)> run;
  std::uint32_t first_runs = 10;  // to learn how often the whole plan fails; 1 where it must
  std::uint32_t runs_max = 1000;  // in all
  std::function<void(const ShrinkStep&)> on_step;  // may be empty
};

struct Shrunk {
  Plan plan;
  Symptom symptom;
  std::uint32_t first_runs = 0, first_failed = 0;  // the whole plan's
  std::uint32_t runs = 0;
  bool complete = true;  // false: runs_max came first, a smaller plan may exist
  std::vector<ShrinkStep> steps;
};

// The error: the plan does not fail (any more), or a run could not be made.
[[nodiscard]] std::expected<Shrunk, std::string> shrink(const Plan& plan,
                                                        const ShrinkRequest& request);
// "2 faults, 14 calls, 3 workers"
std::string size_of(const Plan& plan);

}  // namespace keelback::chaos
