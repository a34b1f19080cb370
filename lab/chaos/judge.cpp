#include "chaos/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

// Worst first.
constexpr Verdict kOrder[] = {Verdict::kResidue, Verdict::kSafety,       Verdict::kLiveness,
                              Verdict::kBudget,  Verdict::kInvalid,      Verdict::kAborted,
                              Verdict::kSkipped, Verdict::kInconclusive, Verdict::kPass};

std::size_t rank(Verdict verdict) {
  return static_cast<std::size_t>(std::ranges::find(kOrder, verdict) - std::begin(kOrder));
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

class Judge {
 public:
  explicit Judge(const CheckInput& input) : input_(input) {}

  Judgement run() {
    const Phases& phases = input_.plan.phases;
    const History& history = input_.history;
    out_.losses = explain(input_);
    out_.series = make_series(input_, out_.losses);
    out_.baseline = phase_stats(history, out_.losses, phases.baseline, phases.faults);
    out_.during = phase_stats(history, out_.losses, phases.faults, phases.recovery);
    out_.after = phase_stats(history, out_.losses, phases.recovery, phases.end);
    out_.shape = make_shape(input_, out_.series, out_.baseline);
    out_.ladders = make_ladders(input_, out_.losses, out_.baseline);
    out_.metrics = make_metrics(input_, out_.losses, out_.baseline);
    weigh_recovery();
    out_.not_tested = application_not_tested(input_);
    for (NotTested& each : not_tested(input_.plan.backend)) {
      out_.not_tested.push_back(std::move(each));
    }
    if (history.facts.stopped) say(Verdict::kAborted, history.facts.stop_reason);
    validity();
    residue();
    harm();  // the cause before what came of it
    invariants();
    liveness();
    budget();
    advise();
    std::ranges::stable_sort(out_.reasons, {}, [](const Reason& r) { return rank(r.verdict); });
    if (!out_.reasons.empty()) {
      out_.verdict = out_.reasons.front().verdict;
      out_.why = out_.reasons.front().text;
    } else {
      const std::size_t n = input_.history.faults.size();
      out_.why = fmt::format("{} fault{} bit, every loss is explained, service is back at {}", n,
                             n == 1 ? "" : "s", percent(out_.after.success()));
    }
    return std::move(out_);
  }

 private:
  void say(Verdict verdict, std::string text) {
    out_.reasons.push_back({verdict, std::move(text)});
  }

  void validity() {
    const History& history = input_.history;
    for (const FaultEvent& fault : history.faults) {
      if (fault.bit) continue;
      say(Verdict::kInvalid,
          fmt::format("fault {} ({}{}) did not bite: {}", fault.id, fault.fault_class,
                      fault.placebo ? ", a placebo" : "",
                      fault.proof.empty() ? "there is no evidence" : fault.proof));
    }
    for (const FaultSpec& spec : input_.scenario.faults) {
      const auto fired = std::ranges::count(history.faults, spec.id, &FaultEvent::id);
      const auto planned = std::ranges::count(input_.plan.firings, spec.id, &Firing::fault);
      if (fired < planned && !history.facts.stopped) {
        say(Verdict::kInvalid, fmt::format("fault {} was fired {} times of {}: its trigger did not "
                                           "happen",
                                           spec.id, fired, planned));
      }
    }
    if (out_.baseline.offered == 0) {
      if (!history.facts.stopped) {  // else it may not have come to that
        say(Verdict::kInvalid, "the baseline has no calls: there is no positive control");
      }
    } else if (out_.baseline.success() < input_.scenario.baseline_ok) {
      say(Verdict::kInvalid,
          fmt::format("the baseline is only {} ok ({} wanted): the application fails without any "
                      "fault",
                      percent(out_.baseline.success()), percent(input_.scenario.baseline_ok)));
    }
    if (!history.facts.generator.empty()) say(Verdict::kInvalid, history.facts.generator);
  }

  void residue() {
    for (const FaultEvent& fault : input_.history.faults) {
      const FaultClass* kind = find_fault_class(fault.fault_class);
      if (kind != nullptr && kind->lasts && fault.bit && !fault.undone) {
        say(Verdict::kResidue, fmt::format("fault {} was not undone", fault.id));
      }
    }
  }

  CheckResult guarded(const std::string& id) const {
    CheckInput input = input_;
    input.weighed = &out_;
    try {
      return check(id, input);
    } catch (const std::exception& error) {
      return {.id = id, .status = Status::kUnknown, .witness = error.what()};
    }
  }

  void invariants() {
    for (const std::string& id : input_.scenario.checks) {
      CheckResult result = guarded(id);
      if (result.instead) {
        out_.reasons.push_back(*result.instead);
      } else if (result.status == Status::kBroken) {
        say(find_invariant(id)->verdict, fmt::format("{} is broken: {}", id, result.witness));
      } else if (result.status == Status::kUnknown) {
        say(Verdict::kInconclusive, fmt::format("{} could not be decided: {}", id, result.witness));
      } else if (result.status == Status::kVacuous) {
        out_.not_tested.push_back({id, result.witness});
      }
      out_.invariants.push_back(std::move(result));
    }
    for (const CallEvent& call : input_.history.calls) {
      const auto& never = input_.scenario.never;
      if (!call.finished() || std::ranges::find(never, call.kind) == never.end()) continue;
      say(Verdict::kSafety, fmt::format("expect.never: {}", describe(call)));
      break;
    }
  }

  // What a fault's class says that it cannot do.
  void harm() {
    for (const FaultEvent& fault : input_.history.faults) {
      if (fault.harm.empty()) continue;
      say(Verdict::kSafety,
          fmt::format("fault {} ({}): {}", fault.id, fault.fault_class, fault.harm));
    }
  }

  void verification() {
    for (const CallEvent& call : input_.history.calls) {
      if (call.origin != "verify") continue;
      ++out_.verify_offered;
      out_.verified += call.ok() && call.mine && call.intact;
    }
  }

  // Whether the service is back, and in time; if not, what brings it back.
  void weigh_recovery() {
    verification();
    const Stretch until_end{.from = last_heal(input_), .to = input_.plan.phases.end};
    if (const auto back = service_back(input_, out_.losses, out_.baseline, until_end)) {
      out_.service = *back - until_end.from;
    }
    out_.recovery_known = has_recovery() && out_.after.offered > 0 && !was_too_short();
    if (out_.recovery_known) out_.not_back = not_back();
  }

  bool has_recovery() const { return !input_.history.facts.stopped && out_.baseline.offered > 0; }
  bool whole() const { return out_.verified == out_.verify_offered; }
  bool was_too_short() const {
    return whole() && !out_.service &&
           last_heal(input_) + hold_of(input_.scenario) > input_.plan.phases.end;
  }

  void liveness() {
    if (!has_recovery()) return;
    if (out_.after.offered == 0) {
      return say(Verdict::kInvalid,
                 "the recovery has no calls: nothing says that the service is back");
    }
    if (was_too_short()) {
      say(Verdict::kInvalid,
          fmt::format(
              "the last fault bit or was undone at {:.0f} ms, and the run ended at {:.0f} ms: "
              "no time was left to judge the recovery; give recovery.for more",
              milliseconds(last_heal(input_)), milliseconds(input_.plan.phases.end)));
    }
    deadlines();
  }

  // What of the service is not back, and sets the latch; empty: all is.
  std::string not_back() {
    if (!whole()) {
      out_.latch = Latch::kDamaged;
      return fmt::format("after everything {} of {} verification calls were ok", out_.verified,
                         out_.verify_offered);
    }
    if (!out_.service) {
      out_.latch = latch();
      return latch_words(out_.latch);
    }
    const Duration bound = latency_bound(input_.scenario, out_.baseline);
    std::string why;
    if (*out_.service > input_.scenario.after.within) {
      why = fmt::format("the service needed {:.0f} ms to come back; {:.0f} ms are promised",
                        milliseconds(*out_.service), milliseconds(input_.scenario.after.within));
    } else if (out_.after.success() < out_.baseline.success() - input_.scenario.after.margin) {
      why = fmt::format("after the faults {} ok, {} in the baseline", percent(out_.after.success()),
                        percent(out_.baseline.success()));
    } else if (out_.after.p99 > bound) {
      why = fmt::format(
          "after the faults p99 is {:.1f} ms; {:.1f} ms in the baseline, {:.1f} ms allowed",
          milliseconds(out_.after.p99), milliseconds(out_.baseline.p99), milliseconds(bound));
    }
    if (!why.empty()) out_.latch = Latch::kSlow;
    return why;
  }

  // The conductor's test of a service that was not back in time: the same load went on, then it was
  // taken away, then it came again. The verification calls alone where there was no such test.
  Latch latch() const {
    const auto served = [&](std::string_view origin) -> std::optional<bool> {
      Duration first = Duration::max(), last{0};
      for (const CallEvent& call : input_.history.calls) {
        if (call.origin != origin) continue;
        first = std::min(first, call.planned);
        last = std::max(last, call.planned);
      }
      if (last == 0ns) return std::nullopt;
      const Stretch stretch{.origin = origin, .from = first, .to = last};
      return service_back(input_, out_.losses, out_.baseline, stretch).has_value();
    };
    if (served(kHeldLoad).value_or(false)) return Latch::kSlow;
    return served(kRestoredLoad).value_or(true) ? Latch::kMetastable : Latch::kDamaged;
  }
  static std::string latch_words(Latch latch) {
    switch (latch) {
      case Latch::kSlow:
        return "the service came back only after the time that the plan gives it, under the same "
               "load";
      case Latch::kDamaged:
        return "the service did not come back, not even after a rest without load";
      default:
        return "the service stayed below its baseline until the load was taken away";
    }
  }

  void deadlines() {
    for (const Ladder& ladder : out_.ladders) {
      for (const auto& [rung, at] : ladder.rungs) {
        const auto limit = input_.scenario.after.deadlines.find(rung);
        if (limit == input_.scenario.after.deadlines.end()) continue;
        if (at && *at <= limit->second) continue;
        say(Verdict::kLiveness,
            fmt::format("fault {}: rung {} {}; {:.0f} ms are promised", ladder.fault, rung,
                        at ? fmt::format("took {:.1f} ms", milliseconds(*at)) : "was not reached",
                        milliseconds(limit->second)));
      }
    }
  }

  void budget() {
    const During& during = input_.scenario.during;
    if (out_.during.offered == 0) return;
    if (out_.during.success() < during.ok) {
      say(Verdict::kBudget,
          fmt::format("{} of the load were ok during the faults; the budget is {}",
                      percent(out_.during.success()), percent(during.ok)));
    }
    if (during.p99 && out_.during.p99 > *during.p99) {
      say(Verdict::kBudget,
          fmt::format("p99 during the faults was {:.0f} ms; the budget is {:.0f} ms",
                      milliseconds(out_.during.p99), milliseconds(*during.p99)));
    }
  }

  // The author of an application does not know our invariants.
  void advise() {
    for (const CheckResult& result : out_.invariants) {
      const Invariant* rule = find_invariant(result.id);
      if (result.status != Status::kBroken || rule == nullptr || rule->advice == nullptr) continue;
      out_.advice.push_back(rule->advice(input_));
    }
    const Sample* first =
        input_.history.samples.empty() ? nullptr : &input_.history.samples.front();
    for (const Ladder& ladder : out_.ladders) {
      for (const auto& [rung, at] : ladder.rungs) {
        if (rung != "capacity" || first == nullptr) continue;
        if (at && *at > 5s) {
          out_.advice.push_back(fmt::format(
              "A replacement took {:.1f} s to be ready: move imports to the top of the module or "
              "into @keelback.setup, so that the zygote pays them once.",
              std::chrono::duration<double>(*at).count()));
        }
      }
    }
    if (out_.baseline.offered > 0 && out_.baseline.success() < input_.scenario.baseline_ok) {
      out_.advice.push_back("The application fails without any fault: start with `keelback run`.");
    }
    for (std::string& each : application_advice(input_)) out_.advice.push_back(std::move(each));
    std::ranges::sort(out_.advice);
    out_.advice.erase(std::unique(out_.advice.begin(), out_.advice.end()), out_.advice.end());
  }

  const CheckInput& input_;
  Judgement out_;
};

}  // namespace

std::string_view to_string(Verdict verdict) {
  static constexpr std::string_view kNames[] = {"PASS",    "SAFETY",       "LIVENESS",
                                                "BUDGET",  "INVALID",      "ABORTED",
                                                "RESIDUE", "INCONCLUSIVE", "SKIPPED"};
  return kNames[static_cast<std::size_t>(verdict)];
}

int exit_code(Verdict verdict) {
  return verdict == Verdict::kSkipped ? 77 : static_cast<int>(verdict);
}

Verdict worst(const std::vector<Verdict>& verdicts) {
  std::optional<Verdict> out;
  for (const Verdict verdict : verdicts) {
    if (verdict == Verdict::kSkipped) continue;
    if (!out || rank(verdict) < rank(*out)) out = verdict;
  }
  return out.value_or(verdicts.empty() ? Verdict::kPass : Verdict::kSkipped);
}

std::string_view to_string(Latch latch) {
  static constexpr std::string_view kNames[] = {"none", "slow", "metastable", "damaged"};
  return kNames[static_cast<std::size_t>(latch)];
}

Judgement judge(const CheckInput& input) { return Judge(input).run(); }

}  // namespace keelback::chaos
