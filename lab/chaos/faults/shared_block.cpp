// One of many calls keeps all of its worker from going on, until that is killed for it: a coroutine
// that blocks the event loop, or a thread in a C call that keeps the GIL.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/one_of_many.h"

namespace keelback::chaos::faults::shared_block {
namespace {

using enum OutcomeKind;
using enum ParameterType;

constexpr std::string_view kLoop = "together_block", kGil = "threads_hold";

template <const std::string_view& kWord>
struct Block final : OneOfMany {
  std::optional<std::string> shown() const override {
    const CallEvent* call = culprit(kWord, kTimeout);
    if (call == nullptr) return std::nullopt;
    const std::string named = world().function_of(std::string(kWord));
    const auto told = std::ranges::count_if(neighbours(), [&](const CallEvent* each) {
      return each->kind == kWorkerDied && each->death_role == "bystander" &&
             each->death_detail.find(named) != std::string::npos;
    });
    if (told == 0) return std::nullopt;
    return fmt::format("{} of its neighbours heard that {} is the cause", told, named);
  }
};

template <const std::string_view& kWord>
FaultClass block(std::string_view name, std::string_view what) {
  return one_of_many(
      {.name = name,
       .what = what,
       .proof = "it timed out, and neighbours heard that they were bystanders of its death",
       .words = {kWord},
       .parameters = {{"block", kDuration, "5s", "5s", "5s", "it would take so long"},
                      {"deadline", kDuration, "100ms", "200ms", "300ms", "its own"}},
       .plan =
           [](CallPlan& plan) {
             plan_neighbours(plan);
             plan_late(plan, kWord, "block");
           },
       .make = make_fault<Block<kWord>>},
      "1500ms");
}

}  // namespace

std::vector<FaultClass> classes() {
  return {block<kLoop>("shared.block",
                       "One of many calls in a worker blocks the event loop beyond its deadline."),
          block<kGil>("shared.gil",
                      "One of many calls in a worker is a thread in a C call that keeps the GIL "
                      "beyond its deadline.")};
}

}  // namespace keelback::chaos::faults::shared_block
