#include "bench/concurrency.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace keelback::bench {
namespace {

constexpr double kEnough = 0.9;     // of the most, as in advise()
constexpr double kAnswered = 0.99;  // as in carried()
constexpr double kMostlyWaits = 0.5;
constexpr double kWaits = 0.1;  // less is the way to the worker and back
constexpr double kOneProcessor = 1.1;
constexpr double kWorthMs = 1;         // less waiting is the way to the worker and back
constexpr double kFull = 0.7;          // of a processor: beyond it calls wait for each other
constexpr std::uint32_t kMost = 1024;  // what a function may declare

bool carried(const FlightStep& step, double objective_ms) {
  return step.answered >= kAnswered && (step.in_flight == 1 || step.p99_ms <= objective_ms);
}

// The power of two below as many calls as fill a worker's processor.
std::uint32_t that_fill(const CallTime& call) {
  const double calls = kFull * call.took_ms / std::max(call.computed_ms, 1e-6);
  return std::bit_floor(static_cast<std::uint32_t>(std::clamp<double>(calls, 1, kMost)));
}

std::string text_of(const std::string& function, const CallTime& call) {
  return fmt::format(
      "Alone, a call of {} takes {:.3g} ms. Its worker computes {:.3g} ms of that; {:.0f} % is "
      "waiting.",
      function, call.took_ms, call.computed_ms, 100 * call.waiting());
}

std::string text_of(const FlightStep& step, double alone) {
  return fmt::format(
      "{} at once in one worker: {:.3g} calls a second, {:.3g} times as many as one at a time, "
      "with "
      "p99 {:.3g} ms; the worker uses {:.0f} % of a processor.",
      step.in_flight, step.per_second, step.per_second / alone, step.p99_ms,
      100 * step.worker_share);
}

ConcurrencyAdvice estimated(const std::string& function, const CallTime& call) {
  ConcurrencyAdvice advice{.measured = false, .sentences = {text_of(function, call)}};
  const bool waits = call.waiting() >= kMostlyWaits && call.waiting() * call.took_ms >= kWorthMs;
  if (waits) advice.concurrency = that_fill(call);
  if (advice.concurrency > 1) {
    advice.sentences.push_back(fmt::format(
        "One worker could run about {} calls of it at once, if {} is safe beside itself "
        "(docs/concurrency.md). Measure it: --concurrency 1,8,{}.",
        advice.concurrency, function, std::min(advice.concurrency, 64U)));
  } else {
    advice.sentences.push_back(fmt::format(
        "Leave {} exclusive: it gains nothing from other calls in its worker.", function));
  }
  return advice;
}

}  // namespace

double CallTime::waiting() const {
  const double could_run = took_ms - queued_ms;
  return could_run > 0 ? std::clamp(1 - computed_ms / could_run, 0.0, 1.0) : 0;
}

ConcurrencyAdvice advise_concurrency(const std::string& function, std::span<const FlightStep> steps,
                                     const CallTime& alone, std::uint32_t declared,
                                     double objective_ms) {
  if (steps.size() < 2) return estimated(function, alone);
  std::vector<FlightStep> able;
  for (const FlightStep& step : steps) {
    if (carried(step, objective_ms)) able.push_back(step);
  }
  if (able.empty()) able.push_back(steps.front());
  const double best = std::ranges::max_element(able, {}, &FlightStep::per_second)->per_second;
  // Such calls only wait for each other. On a busy machine more of them may look faster, because a
  // worker with two threads gets more of a processor than a worker with one.
  const bool computes =
      alone.waiting() < kWaits &&
      std::ranges::all_of(
          steps, [](const FlightStep& step) { return step.worker_share < kOneProcessor; });
  const FlightStep& chosen = *std::ranges::find_if(
      able, [&](const FlightStep& step) { return computes || step.per_second >= kEnough * best; });

  ConcurrencyAdvice advice{.concurrency = chosen.in_flight,
                           .sentences = {text_of(function, alone)}};
  for (const FlightStep& step : able) {
    if (step.in_flight > 1) advice.sentences.push_back(text_of(step, steps.front().per_second));
  }
  const bool last = chosen.in_flight == steps.back().in_flight;
  advice.rises_on = last && chosen.in_flight > 1 && chosen.worker_share < kFull / 2;
  if (advice.concurrency == 1) {
    advice.sentences.push_back(
        fmt::format("Leave {} exclusive: {}.", function,
                    computes ? "its calls wait for nothing, and a worker of it uses one processor"
                             : "more calls at once in a worker carry no more"));
  } else {
    advice.sentences.push_back(fmt::format("Set concurrency = {} on {}{}.", advice.concurrency,
                                           function,
                                           advice.concurrency == declared ? ", as it has" : ""));
  }
  if (advice.rises_on)
    advice.sentences.push_back(
        fmt::format("Its worker still has time: more at once would carry more. Try --concurrency "
                    "{},{},{}.",
                    chosen.in_flight, std::min(kMost, 4 * chosen.in_flight),
                    std::min(kMost, 16 * chosen.in_flight)));
  return advice;
}

}  // namespace keelback::bench
