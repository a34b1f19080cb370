#include "chaos/recovery.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "chaos/catalogue.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr Duration kBinMin = 10ms;
constexpr double kCallsPerBin = 20;
constexpr Duration kHoldMin = 500ms;
constexpr double kServiceMargin = 0.05;   // of the share of ok
constexpr Duration kLatencySlack = 20ms;  // a loaded machine is not a broken pool
constexpr std::size_t kDepthBins = 5;

Duration percentile(std::vector<Duration>& values, double q) {
  if (values.empty()) return 0ns;
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size()))) - 1;
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(rank));
  return values[rank];
}

bool good(const CallEvent& call) { return call.ok() && call.mine && call.intact; }

// Is the stretch served as the baseline was?
bool at_baseline(const CheckInput& input, const Losses& losses, const PhaseStats& baseline,
                 const Stretch& stretch) {
  std::vector<Duration> latencies;
  std::uint64_t offered = 0, ok = 0;
  for (const CallEvent& call : input.history.calls) {
    if (call.origin != stretch.origin || call.planned < stretch.from ||
        call.planned >= stretch.to || losses.late_words.contains(call.index)) {
      continue;
    }
    ++offered;
    ok += good(call);
    if (call.finished()) latencies.push_back(call.done - call.planned);
  }
  if (offered == 0) return false;
  const double share = static_cast<double>(ok) / static_cast<double>(offered);
  return share >= (1 - kServiceMargin) * baseline.success() &&
         percentile(latencies, 0.99) <= latency_bound(input.scenario, baseline);
}

class LadderMaker {
 public:
  LadderMaker(const CheckInput& input, const Losses& losses, const PhaseStats& baseline,
              const FaultEvent& fault)
      : input_(input), losses_(losses), baseline_(baseline), fault_(fault) {
    for (const WorkerRef& worker : fault.targets) targets_.insert(worker);
  }

  Ladder make() {
    Ladder out{.fault = fault_.id, .round = fault_.round};
    const FaultClass* kind = find_fault_class(fault_.fault_class);
    if (kind == nullptr || !fault_.bit) return out;
    const bool workers = !targets_.empty() && kind->reach != Reach::kPool;
    const Duration healed = kind->lasts && fault_.undone ? fault_.undo : fault_.bite;
    const auto add = [&](const char* rung, std::optional<Duration> at, Duration from) {
      if (at) at = std::max(*at - from, 0ns);
      out.rungs.emplace_back(rung, at);
    };
    const bool deadly = workers && !kind->replaced && somebody_died();
    if (deadly) {
      add("detect", detect(), fault_.bite);
      add("contain", contain(), fault_.bite);
      add("typed", fault_.bite, fault_.bite);
      out.rungs.back().second = typed();
      add("respawn", respawn(), fault_.bite);
    }
    if (!kind->callers_only) add("capacity", capacity(healed), healed);
    add("service",
        service_back(input_, losses_, baseline_, {.from = healed, .to = input_.plan.phases.end}),
        healed);
    add("drained", drained(healed), healed);
    if (!kind->callers_only) add("clean", clean(healed), healed);
    return out;
  }

 private:
  bool is_target(const WorkerRef& worker) const { return targets_.contains(worker); }
  bool died(WorkerId target) const {
    return std::ranges::any_of(input_.history.workers, [&](const WorkerEvent& event) {
      return event.worker == target && event.what == "gone" && event.at >= fault_.fired;
    });
  }
  bool somebody_died() const {
    return std::ranges::any_of(targets_, [&](const WorkerId& target) { return died(target); });
  }
  // The pool's first word about the target: its state, or an outcome that names it.
  std::optional<Duration> detect() const {
    std::optional<Duration> first;
    const auto take = [&](Duration at) {
      if (at >= fault_.fired && (!first || at < *first)) first = at;
    };
    for (const WorkerEvent& event : input_.history.workers) {
      if (is_target(event.worker) && (event.what == "gone" || event.what == "suspect")) {
        take(event.at);
      }
    }
    for (const CallEvent& call : input_.history.calls) {
      if (call.finished() && is_target(call.worker) && call.kind == OutcomeKind::kWorkerDied) {
        take(call.done);
      }
    }
    return first;
  }
  std::optional<Duration> contain() const {
    Duration last = fault_.bite;
    for (const CallEvent& call : input_.history.calls) {
      if (!call.finished() || !is_target(call.worker) || call.attempts == 0) continue;
      last = std::max(last, call.sent + call.queued);
    }
    return last;
  }
  // How long failures of calls in the target came without saying why.
  std::optional<Duration> typed() const {
    Duration last{0};
    for (const CallEvent& call : input_.history.calls) {
      if (!call.finished() || call.ok() || !is_target(call.worker)) continue;
      const bool mute = call.kind == OutcomeKind::kWorkerDied && call.death_cause.empty();
      if (mute) last = std::max(last, call.done - fault_.bite);
    }
    return last;
  }
  std::optional<Duration> respawn() const {
    for (const WorkerEvent& event : input_.history.workers) {
      if (event.what != "seen" || event.at < fault_.fired) continue;
      for (const WorkerId& target : targets_) {
        if (event.worker.slot == target.slot && event.worker.generation > target.generation) {
          return event.at;
        }
      }
    }
    return std::nullopt;
  }
  std::optional<Duration> capacity(Duration from) const {
    const std::uint32_t workers = input_.scenario.settings.pool.workers;
    bool down = somebody_died();
    for (const Sample& sample : input_.history.samples) {
      if (sample.at < from) continue;
      if (down && sample.up >= workers && !newer_everywhere(sample.at)) continue;
      if (sample.up >= workers) return sample.at;
    }
    return std::nullopt;
  }
  // Every slot that died has a newer worker by `at`: a sample from before the death does not count.
  bool newer_everywhere(Duration at) const {
    return std::ranges::all_of(targets_, [&](const WorkerId& target) {
      return !died(target) ||
             std::ranges::any_of(input_.history.workers, [&](const WorkerEvent& event) {
               return event.at <= at && event.worker.slot == target.slot &&
                      event.worker.generation > target.generation && event.what == "ready";
             });
    });
  }
  std::optional<Duration> drained(Duration from) const {
    const std::uint32_t usual = usual_queue(input_);
    for (const Sample& sample : input_.history.samples) {
      if (sample.at >= from && sample.queue <= usual) return sample.at;
    }
    return std::nullopt;
  }

  // Nothing in the pool is on its way in or out any more, and its store is up.
  std::optional<Duration> clean(Duration from) const {
    const std::uint32_t workers = input_.scenario.settings.pool.workers;
    const auto whole = capacity(from);
    for (const Sample& sample : input_.history.samples) {
      if (!whole || sample.at < *whole) continue;
      const bool moving = sample.starting + sample.suspect + sample.draining > 0;
      if (!moving && sample.up == workers && sample.store_up) return sample.at;
    }
    return std::nullopt;
  }

  const CheckInput& input_;
  const Losses& losses_;
  const PhaseStats& baseline_;
  const FaultEvent& fault_;
  std::set<WorkerId> targets_;
};

}  // namespace

std::set<std::string> control_group(const CheckInput& input) {
  std::set<std::uint32_t> touched;
  for (const FaultEvent& fault : input.history.faults) {
    if (fault.targets.empty()) return {};
    for (const WorkerRef& worker : fault.targets) touched.insert(worker.slot);
  }
  std::map<std::string, std::uint32_t> homes;
  for (const CallEvent& call : input.history.calls) {
    if (call.ok() && !call.session.empty() && call.done < input.plan.phases.faults) {
      homes[call.session] = call.worker.slot;
    }
  }
  std::set<std::string> out;
  for (const auto& [session, slot] : homes) {
    if (!touched.contains(slot)) out.insert(session);
  }
  return out;
}

Duration last_heal(const CheckInput& input) {
  Duration last = input.plan.phases.faults;
  for (const FaultEvent& fault : input.history.faults) {
    last = std::max({last, fault.bite, fault.undone ? fault.undo : 0ns});
  }
  return last;
}

Duration hold_of(const Scenario& scenario) {
  return std::max(kHoldMin, std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                                5 * kCallsPerBin / std::max(scenario.load.rate, 1.0))));
}

Duration latency_bound(const Scenario& scenario, const PhaseStats& baseline) {
  const auto scaled =
      std::chrono::duration_cast<Duration>(baseline.p99 * scenario.after.p99_factor);
  return std::max(scaled, baseline.p99 + kLatencySlack);
}

Series make_series(const CheckInput& input, const Losses& losses) {
  Series out;
  const auto wanted = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(kCallsPerBin / std::max(input.scenario.load.rate, 1.0)));
  out.width = std::max(kBinMin, wanted);
  const auto count = static_cast<std::size_t>(input.plan.phases.end / out.width) + 1;
  out.bins.resize(count);
  std::unordered_map<std::uint64_t, Explanation> how;
  for (const Loss& loss : losses.all) how[loss.call] = loss.how;
  const std::set<std::string> control = control_group(input);
  std::vector<std::vector<Duration>> latencies(count);
  for (const CallEvent& call : input.history.calls) {
    if (call.origin != "load") continue;
    const auto index = static_cast<std::size_t>(call.planned / out.width);
    if (index >= count) continue;
    Bin& bin = out.bins[index];
    ++bin.offered;
    bin.good += good(call);
    const auto loss = how.find(call.index);
    if (loss != how.end()) {
      ++(loss->second == Explanation::kUnexplained ? bin.unexplained : bin.explained);
    }
    if (call.finished()) latencies[index].push_back(call.done - call.planned);
    if (control.contains(call.session)) {
      ++bin.control_offered;
      bin.control_good += good(call);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    out.bins[i].at = out.width * static_cast<std::int64_t>(i);
    out.bins[i].p99 = percentile(latencies[i], 0.99);
  }
  return out;
}

PhaseStats phase_stats(const History& history, const Losses& losses, Duration from, Duration to) {
  PhaseStats out;
  std::vector<Duration> latencies, lateness;
  for (const CallEvent& call : history.calls) {
    if (call.origin != "load" || call.planned < from || call.planned >= to) continue;
    if (call.call != 0) lateness.push_back(call.sent - call.planned);
    if (losses.late_words.contains(call.index)) {
      ++out.told;
      ++out.outcomes[std::string(to_string(call.kind))];
      continue;
    }
    ++out.offered;
    out.ok += good(call);
    out.unsent += call.call == 0;
    if (call.finished()) {
      ++out.outcomes[std::string(to_string(call.kind))];
      latencies.push_back(call.done - call.planned);
    }
  }
  out.p50 = percentile(latencies, 0.5);
  out.p99 = percentile(latencies, 0.99);
  out.p999 = percentile(latencies, 0.999);
  out.lateness = percentile(lateness, 0.99);
  return out;
}

std::optional<Duration> service_back(const CheckInput& input, const Losses& losses,
                                     const PhaseStats& baseline, const Stretch& stretch) {
  const Duration width = hold_of(input.scenario);
  const Duration step = width / 10;
  for (Duration at = stretch.from; at + width <= stretch.to; at += step) {
    const Stretch window{.origin = stretch.origin, .from = at, .to = at + width};
    if (at_baseline(input, losses, baseline, window)) return at;
  }
  return std::nullopt;
}

std::vector<Ladder> make_ladders(const CheckInput& input, const Losses& losses,
                                 const PhaseStats& baseline) {
  std::vector<Ladder> out;
  for (const FaultEvent& fault : input.history.faults) {
    out.push_back(LadderMaker(input, losses, baseline, fault).make());
  }
  return out;
}

Shape make_shape(const CheckInput& input, const Series& series, const PhaseStats& baseline) {
  Shape out;
  const double usual = baseline.success();
  if (usual <= 0) return out;
  const double seconds = std::chrono::duration<double>(series.width).count();
  for (std::size_t i = 0; i < series.bins.size(); ++i) {
    const Bin& bin = series.bins[i];
    if (bin.at < input.plan.phases.faults || bin.at >= input.plan.phases.end) continue;
    if (bin.offered > 0) {
      const double share = static_cast<double>(bin.good) / bin.offered / usual;
      (bin.at < input.plan.phases.recovery ? out.area_during : out.area_after) +=
          std::max(0.0, 1 - share) * seconds;
    }
    std::uint64_t offered = 0, ok = 0;
    for (std::size_t k = i; k < std::min(i + kDepthBins, series.bins.size()); ++k) {
      offered += series.bins[k].offered;
      ok += series.bins[k].good;
    }
    if (offered > 0) {
      const double share = static_cast<double>(ok) / static_cast<double>(offered) / usual;
      out.depth = std::max(out.depth, 1 - share);
    }
  }
  return out;
}

}  // namespace keelback::chaos
