#include "chaos/losses.h"

#include <algorithm>
#include <set>

#include "chaos/catalogue.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

// Beyond the kill ladder: how long a fault's consequences may take to reach a caller.
constexpr Duration kSettle = 250ms;

struct Cause {
  const FaultEvent* event = nullptr;
  const FaultClass* kind = nullptr;
  std::set<OutcomeKind> expected;
  std::set<WorkerId> targets;
  Window window;
  std::set<std::string> told;  // sessions that had their late word
};

// Every worker that ever served a call of the session.
using Homes = std::map<std::string, std::set<WorkerId>>;

bool through_target(const Cause& fault, const CallEvent& call, const Homes& homes) {
  if (fault.targets.contains(call.worker)) return true;
  if (call.session.empty()) return false;
  const auto found = homes.find(call.session);
  if (found == homes.end()) return false;
  return std::ranges::any_of(found->second,
                             [&](WorkerId home) { return fault.targets.contains(home); });
}

// A session is told of its loss, or that it has expired, at its next call, however late that comes;
// but once.
bool is_late_word(const Cause& fault, const CallEvent& call, const Phases& phases) {
  const bool a_sessions_end =
      call.kind == OutcomeKind::kSessionLost || call.kind == OutcomeKind::kSessionExpired;
  return a_sessions_end && (call.sent > fault.window.to || call.planned >= phases.recovery);
}

std::optional<Explanation> explains(const Cause& fault, const CallEvent& call, const Homes& homes,
                                    const Phases& phases) {
  if (!fault.expected.contains(call.kind) || fault.event->placebo) return std::nullopt;
  const bool after_begin = call.done >= fault.window.from;
  const bool late = is_late_word(fault, call, phases);
  if (!after_begin || (call.sent > fault.window.end_for(call.kind) && !late)) return std::nullopt;
  if (late && fault.told.contains(call.session)) return std::nullopt;
  const bool everywhere =
      fault.kind->reach == Reach::kPool || fault.kind->reach == Reach::kCapacity;
  if (everywhere || through_target(fault, call, homes)) return Explanation::kPrimary;
  if (for_want_of_capacity(call.kind)) return Explanation::kSecondary;
  return std::nullopt;
}

// The last that is known of the run: the probes and what follows come after the plan's end.
Duration last_moment(const CheckInput& input) {
  Duration last = input.plan.phases.end;
  for (const CallEvent& call : input.history.calls) last = std::max({last, call.sent, call.done});
  for (const Sample& sample : input.history.samples) last = std::max(last, sample.at);
  return last;
}

// When the pool was whole again after `from`; the end of the run if never.
Duration capacity_back(const History& history, Duration from, std::uint32_t workers, Duration end) {
  bool missed = false;
  for (const Sample& sample : history.samples) {
    if (sample.at < from) continue;
    if (sample.up < workers) missed = true;
    if (sample.up >= workers && (missed || sample.at > from + kSettle)) return sample.at;
  }
  return end;
}

// When no more calls waited than usual; the end of the run if never.
Duration backlog_gone(const CheckInput& input, Duration from, Duration end) {
  const std::uint32_t usual = usual_queue(input);
  for (const Sample& sample : input.history.samples) {
    if (sample.at >= from && sample.queue <= usual) return sample.at;
  }
  return end;
}

// When the table of sessions had room again; the end of the run if never.
Duration room_back(const CheckInput& input, Duration from, Duration end) {
  for (const Sample& sample : input.history.samples) {
    if (sample.at >= from && sample.sessions < input.scenario.settings.sessions.max) {
      return sample.at;
    }
  }
  return end;
}

std::vector<Cause> faults_of(const CheckInput& input) {
  std::vector<Cause> out;
  for (const FaultEvent& event : input.history.faults) {
    const FaultClass* kind = find_fault_class(event.fault_class);
    if (kind == nullptr) continue;
    Cause fault{.event = &event, .kind = kind, .window = window_of(event, input)};
    const FaultSpec* spec = input.scenario.fault(event.id);
    const auto& expected = spec != nullptr && spec->expected ? *spec->expected : kind->expected;
    fault.expected.insert(expected.begin(), expected.end());
    for (const WorkerRef& worker : event.targets) fault.targets.insert(worker);
    out.push_back(std::move(fault));
  }
  return out;
}

std::uint64_t bound_of(const Cause& fault, const CheckInput& input, const Homes& homes) {
  std::uint64_t bound = 0;
  for (const CallEvent& call : input.history.calls) {
    if (call.done < fault.window.from || call.sent > fault.window.end_for(call.kind)) continue;
    const bool pool = fault.kind->reach == Reach::kPool || fault.kind->reach == Reach::kCapacity;
    bound += pool || through_target(fault, call, homes);
  }
  // Each of its sessions is told once more, later.
  for (const auto& [session, workers] : homes) {
    bound += std::ranges::any_of(workers, [&](WorkerId w) { return fault.targets.contains(w); });
  }
  return bound;
}

}  // namespace

std::uint32_t usual_queue(const CheckInput& input) {
  std::vector<std::uint32_t> before;
  for (const Sample& sample : input.history.samples) {
    if (sample.at >= input.plan.phases.baseline && sample.at < input.plan.phases.faults) {
      before.push_back(sample.queue);
    }
  }
  std::ranges::sort(before);
  return before.empty() ? 0 : before[before.size() * 95 / 100];
}

bool for_want_of_capacity(OutcomeKind kind) {
  return kind == OutcomeKind::kTimeout || kind == OutcomeKind::kOverloaded ||
         kind == OutcomeKind::kNotReady || kind == OutcomeKind::kCircuitOpen ||
         kind == OutcomeKind::kSessionBusy;
}

Duration Window::end_for(OutcomeKind kind) const {
  if (kind == OutcomeKind::kCircuitOpen) return breaker_to;
  if (kind == OutcomeKind::kSessionLimit) return full_to;
  return for_want_of_capacity(kind) ? backlog_to : to;
}

Window window_of(const FaultEvent& fault, const CheckInput& input) {
  const FaultClass* kind = find_fault_class(fault.fault_class);
  const FaultSpec* spec = input.scenario.fault(fault.id);
  const Duration end = last_moment(input);
  Duration last = fault.bit ? fault.bite : fault.fired;
  if (kind != nullptr && kind->lasts) {
    const Duration planned = fault.fired + (spec != nullptr ? spec->lasts : 0ns);
    last = std::max(last, fault.undone ? fault.undo : planned);
  }
  const bool takes_workers = kind != nullptr && !kind->callers_only;
  if (takes_workers) {
    // What a node's fault takes away comes back only after its undoing.
    const Duration from = kind != nullptr && kind->of_nodes && kind->lasts ? last : fault.fired;
    last = std::max(last,
                    capacity_back(input.history, from, input.scenario.settings.pool.workers, end));
  }
  // What waited for it may still have to wait for what waits before it.
  const Settings& settings = input.scenario.settings;
  Window out{.from = fault.fired, .to = last + settings.calls.grace + kSettle};
  out.backlog_to =
      std::max(out.to, backlog_gone(input, last, end) + settings.calls.grace + kSettle);
  out.breaker_to = out.to + settings.breaker.open_for + kSettle;
  // Sessions that a fault has opened stay until they expire, long after its last call.
  out.full_to = std::max(out.to, room_back(input, last, end) + kSettle);
  return out;
}

Losses explain(const CheckInput& input) {
  Losses out;
  Homes homes;
  for (const CallEvent& call : input.history.calls) {
    if (!call.session.empty() && call.worker.generation != 0) {
      homes[call.session].insert(call.worker);
    }
  }
  std::vector<Cause> faults = faults_of(input);
  for (const Cause& fault : faults) {
    out.by_fault[fault.event->id].bound += bound_of(fault, input, homes);
  }
  for (const CallEvent& call : input.history.calls) {
    const bool ours = call.origin == "load" || call.origin == "probe" || call.origin == "verify";
    if (!ours || call.call == 0 || call.ok()) continue;
    Loss loss{.call = call.index};
    Cause* by = nullptr;
    for (Cause& fault : faults) {
      if (!call.finished()) break;  // lost without a word is never explained
      const auto how = explains(fault, call, homes, input.plan.phases);
      if (!how || *how >= loss.how) continue;
      loss.how = *how;
      loss.fault = fault.event->id;
      by = &fault;
    }
    if (by != nullptr && is_late_word(*by, call, input.plan.phases)) {
      loss.late_word = true;
      by->told.insert(call.session);
      out.late_words.insert(call.index);
    }
    if (loss.how == Explanation::kPrimary) ++out.primary;
    if (loss.how == Explanation::kSecondary) ++out.secondary;
    if (loss.how == Explanation::kUnexplained) ++out.unexplained;
    if (!loss.fault.empty()) ++out.by_fault[loss.fault].observed;
    out.all.push_back(std::move(loss));
  }
  return out;
}

}  // namespace keelback::chaos
