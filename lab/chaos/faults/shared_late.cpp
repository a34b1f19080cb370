// Two of many calls are late and end when they are told to: a coroutine by its cancel, a thread by
// its interrupt. The others do not notice.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/one_of_many.h"

namespace keelback::chaos::faults::shared_late {
namespace {

using enum OutcomeKind;
using enum ParameterType;

constexpr std::string_view kTask = "together", kThread = "threads_late";

struct Late final : OneOfMany {
  std::optional<std::string> shown() const override {
    const CallEvent* task = culprit(kTask, kTimeout);
    const CallEvent* thread = culprit(kThread, kTimeout);
    if (task == nullptr || thread == nullptr || !target_gone()) return std::nullopt;
    const std::size_t well = well_after(std::max(task->done, thread->done));
    if (well == 0) return std::nullopt;
    return fmt::format(
        "calls {} and {} timed out; {} of their neighbours ended ok after that, and then the "
        "worker was replaced",
        task->index, thread->index, well);
  }
};

}  // namespace

std::vector<FaultClass> classes() {
  return {one_of_many(
      {.name = "shared.late",
       .what = "Two of many calls in a worker outlive their deadline: a coroutine, which is "
               "cancelled, and a thread, which is interrupted.",
       .proof = "they timed out, neighbours ended ok after that, and then the worker was replaced",
       .words = {kTask, kThread},
       .parameters = {{"late", kDuration, "20s", "20s", "20s", "they would take so long"},
                      {"deadline", kDuration, "100ms", "150ms", "200ms", "theirs"}},
       .plan =
           [](CallPlan& plan) {
             plan_neighbours(plan);
             plan_late(plan, kTask, "late");
             plan_late(plan, kThread, "late", 1);
           },
       .make = make_fault<Late>},
      "800ms")};
}

}  // namespace keelback::chaos::faults::shared_late
