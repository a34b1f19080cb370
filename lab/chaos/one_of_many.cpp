#include "chaos/one_of_many.h"

#include <fmt/format.h>

#include <algorithm>

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kNeighbour = "together";
constexpr Duration kOpening = 150ms;     // for the sessions
constexpr std::uint32_t kMisbehave = 2;  // at most so many calls beside the neighbours

}  // namespace

void OneOfMany::decide(const Seen& seen, Duration at) {
  if (seen.sent != seen.planned) return;
  const auto& history = recorder().history();
  const bool ended = std::ranges::all_of(
      calls(), [&](std::uint64_t index) { return history.calls[index].finished(); });
  if (!ended) return;
  if (auto proof = shown()) bit(at, std::move(*proof));
}

OneOfMany::Calls OneOfMany::of(std::string_view word) const {
  Calls out;
  for (const std::uint64_t index : calls()) {
    const CallEvent& call = recorder().history().calls[index];
    if (call.function == word && on_target(call)) out.push_back(&call);
  }
  return out;
}

const CallEvent* OneOfMany::culprit(std::string_view word, OutcomeKind kind) const {
  for (const CallEvent* call : of(word)) {
    if (call->kind == kind) return call;
  }
  return nullptr;
}

bool OneOfMany::strikes(const CallEvent& call) const { return call.function != kNeighbour; }

OneOfMany::Calls OneOfMany::neighbours() const { return of(kNeighbour); }

std::size_t OneOfMany::well_after(Duration when) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      neighbours(), [&](const CallEvent* call) { return call->ok() && call->done > when; }));
}

bool OneOfMany::target_gone() const {
  return std::ranges::none_of(recorder().workers(), [&](const host::WorkerInfo& worker) {
    return worker.worker == targets().front().worker;
  });
}

FaultClass one_of_many(FaultClass made, std::string_view take) {
  made.where = Where::kEverywhere;
  made.beside = true;
  made.words.push_back(kNeighbour);
  made.parameters.push_back({"beside", ParameterType::kCount, "2", "3", "5", "so many neighbours"});
  made.parameters.push_back(
      {"take", ParameterType::kDuration, take, take, take, "each neighbour, so long"});
  using enum OutcomeKind;
  made.expected = {kWorkerDied,  kSessionLost, kTimeout, kOverloaded,
                   kSessionBusy, kCircuitOpen, kNotReady};
  return made;
}

void plan_neighbours(CallPlan& plan) {
  const std::uint64_t n = count_of(plan.fault, "beside");
  const auto sessions =
      static_cast<std::int64_t>((n + kMisbehave) * plan.scenario.settings.pool.workers);
  plan.repeat(static_cast<std::uint64_t>(sessions), [&](std::uint64_t i) {
    return plan.call(kNeighbour, "[1]", kOpening * 2 / 3 * static_cast<std::int64_t>(i) / sessions,
                     fmt::format("beside-{}-{}-{}", plan.fault.id, plan.round, i));
  });
  plan.repeat(n, [&](std::uint64_t i) {
    return beside(plan, kNeighbour, plan.milliseconds("take"),
                  kMisbehave + static_cast<std::uint32_t>(i));
  });
}

PlannedCall beside(const CallPlan& plan, std::string_view word, std::string payload,
                   std::uint32_t which) {
  PlannedCall made = plan.call(word, std::move(payload), kOpening);
  made.place = which;
  return made;
}

void plan_late(CallPlan& plan, std::string_view word, std::string_view milliseconds,
               std::uint32_t which) {
  PlannedCall late = beside(plan, word, plan.milliseconds(milliseconds), which);
  late.deadline = duration_of(plan.fault, "deadline");
  plan.add(std::move(late));
}

}  // namespace keelback::chaos
