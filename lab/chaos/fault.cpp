#include "chaos/fault.h"

#include <fmt/format.h>

#include <algorithm>

namespace keelback::chaos {

using namespace std::chrono_literals;

void Fault::bit(Duration at, std::string proof) {
  FaultEvent& event = noted();
  if (event.bit) return;
  event.bit = true;
  event.bite = at;
  event.proof = std::move(proof);
}

void Fault::bit_if(const Evidence& evidence) {
  if (!evidence) return no_bite(evidence.error());
  bit(recorder().now(), *evidence);
}

Evidence Fault::each_target(const std::function<Evidence(const host::WorkerInfo&)>& act) const {
  if (targets().empty()) return std::unexpected("there was no worker to hit");
  std::string proof;
  for (const host::WorkerInfo& worker : targets()) {
    const Evidence evidence = act(worker);
    if (!evidence) return evidence;
    proof += (proof.empty() ? "" : "; ") + *evidence;
  }
  return proof;
}

Evidence Fault::undo_each(const std::function<Evidence(const host::WorkerInfo&)>& act) const {
  return targets().empty() ? Evidence("nothing to undo") : each_target(act);
}

bool Fault::excused(const std::function<bool(const FaultEvent&, const FaultClass&)>& hits) const {
  return std::ranges::any_of(recorder().history().faults, [&](const FaultEvent& other) {
    const FaultClass* kind = find_fault_class(other.fault_class);
    return kind != nullptr && !kind->harmless && other.bit && hits(other, *kind);
  });
}

void OwnCalls::prove(Duration at) {
  Seen seen{.planned = firing().calls.size()};
  for (const std::uint64_t index : calls()) {
    const CallEvent& call = recorder().history().calls[index];
    ++seen.sent;
    seen.punctual += call.sent - call.planned < 50ms;
    seen.first = std::min(seen.first, call.sent);
    seen.last = std::max(seen.last, call.sent);
    if (!call.finished()) continue;
    if (met(call)) {
      ++seen.met;
      seen.met_at = std::min(seen.met_at, call.done);
    }
    // Which workers a fault's own calls hit is known only now.
    if (!strikes(call) || call.worker.generation == 0) continue;
    auto& hit = noted().targets;
    if (std::ranges::find(hit, call.worker) == hit.end()) hit.push_back(call.worker);
  }
  decide(seen, at);
}

void OwnCalls::decide(const Seen& seen, Duration) {
  if (seen.met == 0) return;
  bit(seen.met_at, fmt::format("{} of {} calls ended as they should", seen.met, seen.planned));
}

std::uint64_t OwnCalls::how_many(OutcomeKind kind) const {
  return static_cast<std::uint64_t>(std::ranges::count_if(calls(), [&](std::uint64_t index) {
    const CallEvent& call = recorder().history().calls[index];
    return call.finished() && call.kind == kind;
  }));
}

bool OwnCalls::on_target(const CallEvent& call) const {
  return std::ranges::any_of(targets(), [&](const host::WorkerInfo& worker) {
    return worker.worker.slot == call.worker.slot &&
           worker.worker.generation == call.worker.generation;
  });
}

}  // namespace keelback::chaos
