#include "chaos/targets.h"

#include <algorithm>

#include "base/prng.h"

namespace keelback::chaos {
namespace {

using Workers = std::vector<host::WorkerInfo>;

// Workers that are up, in an order that `pick` throws.
Workers shuffled(std::uint64_t pick, const Recorder& recorder) {
  Workers up;
  for (const host::WorkerInfo& worker : recorder.workers()) {
    using enum core::WorkerState;
    if (worker.state == kReady || worker.state == kBusy) up.push_back(worker);
  }
  if (up.empty()) return up;
  Prng prng(pick);
  for (std::size_t i = up.size(); i > 1; --i) std::swap(up[i - 1], up[prng.below(i)]);
  return up;
}

std::optional<std::uint32_t> slot_of_fault(const std::string& fault, Recorder& recorder) {
  const auto& faults = recorder.history().faults;
  const auto found = std::ranges::find(faults, fault, &FaultEvent::id);
  if (found == faults.end() || found->targets.empty()) return std::nullopt;
  return found->targets.front().slot;
}

// Puts the first wanted worker in front. False: no worker is wanted.
template <class Wanted>
bool first(Workers& up, Wanted wanted) {
  const auto found = std::ranges::find_if(up, wanted);
  if (found != up.end()) std::swap(*found, up.front());
  return found != up.end();
}

// Puts those that the target names in front; false: there are none.
bool put_in_front(Workers& up, const Target& target, Recorder& recorder) {
  using Kind = Target::Kind;
  const auto in_state = [](core::WorkerState state) {
    return [state](const host::WorkerInfo& worker) { return worker.state == state; };
  };
  switch (target.kind) {
    case Kind::kBusy:  // if no worker is busy, any worker
      static_cast<void>(first(up, in_state(core::WorkerState::kBusy)));
      return true;
    case Kind::kIdle:
      static_cast<void>(first(up, in_state(core::WorkerState::kReady)));
      return true;
    case Kind::kSlot:
      return first(up, [&](const auto& w) { return w.worker.slot == target.n; });
    case Kind::kOldest:
      std::ranges::sort(up, {}, [](const auto& w) { return w.worker.generation; });
      return true;
    case Kind::kHome: {
      const auto home = recorder.busiest_home();
      return home && first(up, [&](const auto& w) { return w.worker == *home; });
    }
    case Kind::kSame: {
      const auto slot = slot_of_fault(target.fault, recorder);
      return slot && first(up, [&](const auto& w) { return w.worker.slot == *slot; });
    }
    default:
      return true;
  }
}

std::size_t how_many(const Target& target, std::size_t up) {
  if (target.kind == Target::Kind::kAll) return up;
  if (target.kind == Target::Kind::kCount) return std::min<std::size_t>(target.n, up);
  if (target.kind != Target::Kind::kShare) return 1;
  return std::max<std::size_t>(1, static_cast<std::size_t>(target.share * static_cast<double>(up)));
}

}  // namespace

std::vector<host::WorkerInfo> choose_targets(const Target& target, std::uint64_t pick,
                                             Recorder& recorder) {
  Workers up = shuffled(pick, recorder);
  if (up.empty() || !put_in_front(up, target, recorder)) return {};
  up.resize(std::min(how_many(target, up.size()), up.size()));
  return up;
}

std::vector<host::WorkerInfo> whole_node(const std::vector<host::WorkerInfo>& targets,
                                         const Scenario& scenario, const Recorder& recorder) {
  if (targets.empty()) return {};
  const std::uint32_t each = scenario.settings.pool.workers / scenario.nodes;
  const auto node = [&](const host::WorkerInfo& worker) { return (worker.worker.slot - 1) / each; };
  Workers out;
  for (const host::WorkerInfo& worker : recorder.workers()) {
    if (node(worker) == node(targets.front())) out.push_back(worker);
  }
  return out;
}

}  // namespace keelback::chaos
