#include "bench/batching.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace keelback::bench {
namespace {

constexpr double kNearlyAll = 0.9;        // of the most, as in advise()
constexpr double kNearlyAnswered = 0.99;  // as in carried()
constexpr double kWorthIt = 1.2;          // less is not worth that a death concerns many calls
constexpr double kFilled = 0.8;           // of the largest batch that the function declares
constexpr double kSaves = 0.8;

bool carries(const FlightStep& step, double objective_ms) {
  return step.answered >= kNearlyAnswered && (step.in_flight == 1 || step.p99_ms <= objective_ms);
}

std::string in_words(const FlightStep& step, double alone) {
  return fmt::format(
      "{} in flight, {:.3g} in a batch: {:.3g} calls a second, {:.3g} times as many as one at a "
      "time, with p99 {:.3g} ms.",
      step.in_flight, step.batch, step.per_second, step.per_second / alone, step.p99_ms);
}

std::string in_words(const WaitStep& step) {
  return fmt::format(
      "With batch_wait = {:.3g} ms: {:.3g} in a batch, p50 {:.3g} ms, p99 {:.3g} ms, {:.3g} ms of "
      "a processor a call.",
      step.wait_ms, step.batch, step.p50_ms, step.p99_ms, step.computed_ms);
}

}  // namespace

BatchAdvice advise_batch(const std::string& function, std::span<const FlightStep> steps,
                         std::uint32_t declared, double objective_ms) {
  const FlightStep& alone = steps.front();
  std::vector<FlightStep> able;
  for (const FlightStep& step : steps) {
    if (carries(step, objective_ms)) able.push_back(step);
  }
  if (able.empty()) able.push_back(alone);
  const double best = std::ranges::max_element(able, {}, &FlightStep::per_second)->per_second;
  const auto chosen = std::ranges::find_if(
      able, [&](const FlightStep& step) { return step.per_second >= kNearlyAll * best; });
  BatchAdvice advice;
  for (const FlightStep& step : able) {
    if (step.in_flight > 1) advice.sentences.push_back(in_words(step, alone.per_second));
  }
  if (chosen->batch < 1.5 || chosen->per_second < kWorthIt * alone.per_second) {
    advice.run_ms = 1e3 / std::max(alone.per_second, 1e-9);
    advice.sentences.push_back(fmt::format(
        "Leave batch out of {}: many calls at once carry {:.3g} times as many a second as one.",
        function, best / alone.per_second));
    return advice;
  }
  const auto calls = static_cast<std::uint32_t>(std::ceil(chosen->batch));
  advice.batch = std::clamp(std::bit_ceil(calls), 2U, std::max(declared, 2U));
  advice.run_ms = 1e3 * chosen->batch / std::max(chosen->per_second, 1e-9);
  advice.sentences.push_back(fmt::format("Set batch = {} on {}{}.", advice.batch, function,
                                         advice.batch == declared ? ", as it has" : ""));
  const bool last = chosen->in_flight == steps.back().in_flight;
  advice.rises_on = last && chosen->batch >= kFilled * declared && steps.size() > 1 &&
                    chosen->per_second >= kWorthIt * steps[steps.size() - 2].per_second;
  if (advice.rises_on) {
    advice.sentences.push_back(fmt::format(
        "Larger batches would carry more: declare batch = {} and measure again.", 4 * declared));
  }
  return advice;
}

WaitAdvice advise_wait(const std::string& function, std::span<const WaitStep> steps,
                       double objective_ms) {
  WaitAdvice advice;
  const WaitStep& none = steps.front();
  for (const WaitStep& step : steps) advice.sentences.push_back(in_words(step));
  for (const WaitStep& step : steps.subspan(1)) {
    const bool saves = step.computed_ms <= kSaves * none.computed_ms;
    if (!saves || step.answered < kNearlyAnswered || step.p99_ms > objective_ms) continue;
    advice.wait_ms = step.wait_ms;
    advice.sentences.push_back(
        fmt::format("Set batch_wait = {:.3g} ms on {}: it saves {:.0f} % of the processor time.",
                    step.wait_ms, function, 100 * (1 - step.computed_ms / none.computed_ms)));
    return advice;
  }
  advice.sentences.push_back(
      fmt::format("Leave batch_wait out of {}: a worker that becomes free takes what waits, and "
                  "waiting longer saves no fifth of the processor time within the objective.",
                  function));
  return advice;
}

}  // namespace keelback::bench
