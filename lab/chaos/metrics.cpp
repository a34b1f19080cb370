#include "chaos/metrics.h"

#include <algorithm>
#include <set>
#include <unordered_map>

namespace keelback::chaos {
namespace {

const char* phase_of(const Phases& phases, Duration at) {
  return at < phases.faults     ? "baseline"
         : at < phases.recovery ? "during"
         : at < phases.end      ? "after"
                                : "end";
}

// Half-overlapping windows from the return of the service on: each fall counts once.
std::uint32_t count_flaps(const CheckInput& input, const Losses& losses,
                          const PhaseStats& baseline) {
  const Duration end = input.plan.phases.end;
  const Duration hold = hold_of(input.scenario);
  const auto back = service_back(input, losses, baseline, {.from = last_heal(input), .to = end});
  if (!back) return 0;
  std::uint32_t falls = 0;
  bool up = true;
  for (Duration at = *back; at + hold <= end; at += hold / 2) {
    const bool served =
        service_back(input, losses, baseline, {.from = at, .to = at + hold}).has_value();
    falls += up && !served;
    up = served;
  }
  return falls;
}

}  // namespace

std::optional<double> Collateral::ratio() const {
  if (control_offered == 0 || exposed_offered == 0 || exposed_lost == 0) return std::nullopt;
  const auto share = [](std::uint64_t lost, std::uint64_t offered) {
    return static_cast<double>(lost) / static_cast<double>(offered);
  };
  return share(control_lost, control_offered) / share(exposed_lost, exposed_offered);
}

Metrics make_metrics(const CheckInput& input, const Losses& losses, const PhaseStats& baseline) {
  Metrics out;
  const History& history = input.history;
  const Phases& phases = input.plan.phases;
  for (const Loss& loss : losses.all) {
    const CallEvent& call = history.calls.at(loss.call);
    const char* const kind = call.finished() ? to_string(call.kind).data() : "no outcome";
    ++out.errors[loss.fault][phase_of(phases, call.planned)][kind];
  }
  const std::set<std::string> control = control_group(input);
  std::unordered_map<std::uint64_t, std::uint64_t> ran;
  for (const EffectEvent& effect : history.effects) ++ran[effect.call];
  std::uint64_t attempts = 0, dispatched = 0;
  for (const CallEvent& call : history.calls) {
    attempts += call.attempts;
    dispatched += call.attempts > 0;
    if (call.call != 0 && !call.ok()) {
      const auto effects = ran.find(call.call);
      if (effects != ran.end()) out.wasted_effects += effects->second;
    }
    const bool in_faults = call.planned >= phases.faults && call.planned < phases.recovery;
    if (call.origin != "load" || call.session.empty() || !in_faults || control.empty()) continue;
    Collateral& groups = out.collateral;
    if (control.contains(call.session)) {
      ++groups.control_offered;
      groups.control_lost += !call.ok();
    } else {
      ++groups.exposed_offered;
      groups.exposed_lost += !call.ok();
    }
  }
  if (dispatched > 0) {
    out.attempts_per_call = static_cast<double>(attempts) / static_cast<double>(dispatched);
  }
  for (const WorkerEvent& event : history.workers) {
    const bool early = event.at >= phases.baseline && event.at < phases.faults;
    out.false_detections += early && (event.what == "suspect" || event.what == "gone");
  }
  for (const FaultEvent& fault : history.faults) {
    const Window window = window_of(fault, input);
    out.widest_window = std::max(out.widest_window, window.to - window.from);
  }
  out.crowds = crowds_of(history, phases.end);
  if (baseline.offered > 0) out.flaps = count_flaps(input, losses, baseline);
  return out;
}

}  // namespace keelback::chaos
