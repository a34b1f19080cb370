#include "chaos/deaths.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "chaos/catalogue.h"

namespace keelback::chaos {

std::vector<WorkerDeath> deaths_of(const History& history) {
  std::map<std::uint32_t, WorkerDeath> by_generation;
  for (const CallEvent& call : history.calls) {
    if (!call.finished() || call.death_cause.empty() || call.worker.generation == 0) continue;
    const auto [at, first] = by_generation.try_emplace(call.worker.generation);
    WorkerDeath& death = at->second;
    if (first) {
      death = {.worker = call.worker,
               .at = call.done,
               .cause = call.death_cause,
               .signal = call.death_signal};
    }
    death.at = std::min(death.at, call.done);
    (call.death_role == "culprit"     ? death.culprits
     : call.death_role == "bystander" ? death.bystanders
     : call.death_role == "suspect"   ? death.suspects
                                      : death.alone)
        .push_back(&call);
  }
  std::vector<WorkerDeath> out;
  for (auto& [generation, death] : by_generation) out.push_back(std::move(death));
  std::ranges::stable_sort(out, {}, &WorkerDeath::at);
  return out;
}

std::optional<std::uint64_t> named_culprit(const CallEvent& bystander) {
  constexpr std::string_view kCall = "call ";
  const std::string_view text = bystander.death_detail;
  const std::size_t at = text.find(kCall);
  if (at == text.npos) return std::nullopt;
  std::uint64_t id = 0;
  const auto read = std::from_chars(text.data() + at + kCall.size(), text.data() + text.size(), id);
  return read.ec == std::errc() ? std::optional(id) : std::nullopt;
}

const CallEvent* culprit_of(const WorkerDeath& death, const History& history) {
  if (!death.culprits.empty()) return death.culprits.front();
  if (death.bystanders.empty()) return nullptr;
  const auto id = named_culprit(*death.bystanders.front());
  if (!id) return nullptr;
  const auto found = std::ranges::find(history.calls, *id, &CallEvent::call);
  return found == history.calls.end() ? nullptr : &*found;
}

bool is_innocent(const CallEvent& call) {
  return call.death_role == "bystander" || call.death_role == "suspect";
}

bool was_hit(const WorkerRef& worker, const History& history) {
  return std::ranges::any_of(history.faults, [&](const FaultEvent& fault) {
    const FaultClass* kind = find_fault_class(fault.fault_class);
    const bool by_call = kind != nullptr && (kind->beside || kind->reach == Reach::kOwnCalls);
    return !by_call && std::ranges::find(fault.targets, worker) != fault.targets.end();
  });
}

}  // namespace keelback::chaos
