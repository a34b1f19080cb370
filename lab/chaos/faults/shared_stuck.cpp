// One of many calls does not end: a coroutine that swallows every cancel, or a thread that heeds no
// interrupt. Its worker ends last of all.
#include <fmt/format.h>

#include "chaos/one_of_many.h"

namespace keelback::chaos::faults::shared_stuck {
namespace {

using enum OutcomeKind;
using enum ParameterType;

constexpr std::string_view kTask = "together_stuck", kThread = "threads_stuck";

template <const std::string_view& kWord>
struct Stuck final : OneOfMany {
  std::optional<std::string> shown() const override {
    const CallEvent* call = culprit(kWord, kTimeout);
    if (call == nullptr || !target_gone()) return std::nullopt;
    const std::size_t well = well_after(call->done);
    if (well == 0) return std::nullopt;
    return fmt::format(
        "call {} timed out; {} of its neighbours ended ok after that, and then the worker was gone",
        call->index, well);
  }
};

template <const std::string_view& kWord>
FaultClass stuck(std::string_view name, std::string_view what) {
  return one_of_many(
      {.name = name,
       .what = what,
       .proof = "it timed out, neighbours ended ok after that, and then its worker was gone",
       .words = {kWord},
       .parameters = {{"stuck", kDuration, "20s", "20s", "20s", "it would take so long"},
                      {"deadline", kDuration, "100ms", "150ms", "200ms", "its own"}},
       .plan =
           [](CallPlan& plan) {
             plan_neighbours(plan);
             plan_late(plan, kWord, "stuck");
           },
       .make = make_fault<Stuck<kWord>>},
      "800ms");
}

}  // namespace

std::vector<FaultClass> classes() {
  return {stuck<kTask>("shared.stuck",
                       "One of many calls in a worker is a coroutine that swallows every cancel."),
          stuck<kThread>("shared.thread",
                         "One of many calls in a worker is a thread that heeds no interrupt.")};
}

}  // namespace keelback::chaos::faults::shared_stuck
