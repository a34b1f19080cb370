#include "chaos/injector.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/settings_text.h"
#include "chaos/targets.h"

namespace keelback::chaos {

using namespace std::chrono_literals;

Injector::Injector(const Scenario& scenario, const Plan& plan, World& world, Recorder& recorder)
    : scenario_(scenario), plan_(plan), world_(world), recorder_(recorder) {
  for (std::size_t i = 0; i < plan_.firings.size(); ++i) {
    const FaultSpec* spec = scenario_.fault(plan_.firings[i].fault);
    if (spec == nullptr) continue;
    if (spec->trigger.kind == Trigger::Kind::kAt) {
      agenda_.emplace(plan_.phases.faults + plan_.firings[i].at, Step{StepKind::kFire, i});
    } else {
      waiting_.push_back(i);
    }
  }
}

Duration Injector::next_due() const {
  return agenda_.empty() ? Duration::max() : agenda_.begin()->first;
}

void Injector::run_due(Duration at) {
  while (!agenda_.empty() && agenda_.begin()->first <= at) {
    const auto [due, step] = *agenda_.begin();
    agenda_.erase(agenda_.begin());
    run(step, due, at);
  }
}

void Injector::run(const Step& step, Duration due, Duration at) {
  switch (step.kind) {
    case StepKind::kFire:
      return fire(plan_.firings[step.which], recorder_.now());
    case StepKind::kCall:
      return call(step, due, at);
    case StepKind::kLeave:
      return recorder_.cancel(step.index);
    case StepKind::kUndo:
      return undo(*faults_[step.which], recorder_.now());
    case StepKind::kTurn:
      return turn(step.which, recorder_.now());
  }
}

void Injector::call(const Step& step, Duration due, Duration at) {
  Fault& fault = *faults_[step.which];
  PlannedCall call = *step.call;
  // What is felt by calls in one worker needs calls there: a session that lives there leads to it.
  if (!fault.targets().empty() && call.session.empty()) {
    call.session = recorder_.session_at(fault.targets().front().worker, call.place);
  }
  const std::uint64_t index = recorder_.send(call, fault.spec().id, due);
  fault.sent(index);
  if (call.leave_after > 0ns) {
    agenda_.emplace(at + call.leave_after, Step{StepKind::kLeave, step.which, nullptr, index});
  }
}

// ---- when

bool Injector::rung_reached(const FaultSpec& fault, const std::string& rung) const {
  const auto& history = recorder_.history();
  for (const FaultEvent& event : history.faults) {
    if (event.id != fault.id || !event.bit) continue;
    if (rung == "bite") return true;
    if (rung == "undo" && event.undone) return true;
    for (const WorkerEvent& worker : history.workers) {
      if (worker.at < event.fired) continue;
      for (const WorkerRef& target : event.targets) {
        if (worker.worker.slot != target.slot) continue;
        const bool same = worker.worker.generation == target.generation;
        if (rung == "detect" && same && (worker.what == "gone" || worker.what == "suspect")) {
          return true;
        }
        if (rung == "respawn" && worker.worker.generation > target.generation &&
            worker.what == "ready") {
          return true;
        }
      }
    }
  }
  return false;
}

void Injector::triggers(Duration at) {
  if (at >= plan_.phases.recovery) return;
  std::erase_if(waiting_, [&](std::size_t which) {
    const Firing& firing = plan_.firings[which];
    const FaultSpec& spec = *scenario_.fault(firing.fault);
    bool due = false;
    if (spec.trigger.kind == Trigger::Kind::kCalls) {
      due = recorder_.ended_in_faults() >= spec.trigger.calls;
    } else if (const FaultSpec* other = scenario_.fault(spec.trigger.fault)) {
      due = rung_reached(*other, spec.trigger.rung);
    }
    if (due) agenda_.emplace(at + firing.at, Step{StepKind::kFire, which});
    return due;
  });
}

// ---- doing it

template <class Act>
void Injector::observe(Fault& fault, Act act) {
  const bool before = fault.noted().bit;
  act();
  if (fault.noted().bit && !before) {
    last_word_ = fmt::format("{}: {} bit", fault.spec().id, fault.kind().name);
  }
}

Fault& Injector::make(const Firing& firing, Duration at) {
  const FaultSpec& spec = *scenario_.fault(firing.fault);
  const FaultClass& kind = *find_fault_class(spec.fault_class);
  recorder_.sample(at);  // targets as they are now
  FaultContext context{.scenario = scenario_,
                       .world = world_,
                       .recorder = recorder_,
                       .firing = firing,
                       .spec = spec,
                       .kind = kind,
                       .event = recorder_.history().faults.size()};
  if (kind.reach == Reach::kTarget) {
    context.targets = choose_targets(spec.target, firing.pick, recorder_);
    if (kind.of_nodes) context.targets = whole_node(context.targets, scenario_, recorder_);
  }
  FaultEvent made{.id = firing.fault,
                  .round = firing.round,
                  .fault_class = spec.fault_class,
                  .fired = at,
                  .placebo = spec.placebo};
  for (const host::WorkerInfo& worker : context.targets) {
    made.targets.push_back(worker.worker);
    made.pids.push_back(worker.pid);
  }
  recorder_.history().faults.push_back(std::move(made));
  faults_.push_back(kind.make(std::move(context)));
  return *faults_.back();
}

void Injector::fire(const Firing& firing, Duration at) {
  Fault& fault = make(firing, at);
  const std::size_t which = faults_.size() - 1;
  fault.before();
  fault.over = !fault.kind().lasts;
  if (!fault.over) agenda_.emplace(at + fault.spec().lasts, Step{StepKind::kUndo, which});
  if (std::string why = over_the_cap(fault); !why.empty()) {
    fault.over = true;
    return fault.no_bite(std::move(why));
  }
  if (fault.spec().placebo) {
    fault.no_bite("a placebo does nothing");
  } else {
    observe(fault, [&] { fault.inject(at); });
  }
  for (const PlannedCall& call : firing.calls) {
    agenda_.emplace(at + call.at, Step{StepKind::kCall, which, &call});
  }
  if (!fault.spec().placebo) agenda_.emplace(at, Step{StepKind::kTurn, which});
}

void Injector::turn(std::size_t which, Duration at) {
  Fault& fault = *faults_[which];
  std::optional<Duration> next;
  observe(fault, [&] { next = fault.turn(at); });
  if (next) agenda_.emplace(at + *next, Step{StepKind::kTurn, which});
}

std::string Injector::over_the_cap(const Fault& fault) const {
  std::set<std::uint32_t> slots;
  std::uint32_t in_force = 0;
  for (const auto& each : faults_) {
    if (each.get() != &fault && (each->over || each->spec().placebo)) continue;
    ++in_force;
    for (const WorkerRef& worker : each->noted().targets) slots.insert(worker.slot);
  }
  const Blast& blast = scenario_.blast;
  const std::uint64_t fills = fault.fills();
  if (const auto left = fills > 0 ? world_.machine() : std::nullopt) {
    if (static_cast<double>(fills) > blast.memory * static_cast<double>(left->memory_available)) {
      return fmt::format(
          "it was not injected: it fills {}, and safety.memory_pct allows {:.0f} % of the {} that "
          "are left",
          format_bytes(Bytes{fills}), 100 * blast.memory,
          format_bytes(Bytes{left->memory_available >> 20 << 20}));
    }
  }
  const std::uint32_t workers = scenario_.settings.pool.workers;
  const auto most = std::max(1U, static_cast<std::uint32_t>(blast.share * workers));
  if (in_force > blast.concurrent) {
    return fmt::format("it was not injected: {} faults would be in force, safety.concurrent is {}",
                       in_force, blast.concurrent);
  }
  if (slots.size() > most) {
    return fmt::format(
        "it was not injected: {} of {} workers would be hit, safety.slots_pct "
        "allows {}",
        slots.size(), workers, most);
  }
  return "";
}

void Injector::undo(Fault& fault, Duration at) {
  if (fault.over) return;
  const Evidence done = fault.spec().placebo ? Evidence("nothing to undo") : fault.undo();
  fault.over = true;
  FaultEvent& noted = fault.noted();
  noted.undone = done.has_value();
  noted.undo = std::max(at, recorder_.now());
  if (!done) noted.proof += "; undo failed: " + done.error();
  last_word_ = fmt::format("{}: {} undone", fault.spec().id, fault.kind().name);
}

void Injector::undo_all(Duration at) {
  agenda_.clear();
  for (const auto& fault : faults_) {
    observe(*fault, [&] { fault->conclude(at); });
    undo(*fault, at);
  }
}

void Injector::look(Duration at) {
  for (const auto& fault : faults_) {
    if (fault->spec().placebo) continue;
    if (!fault->over) fault->act(at);
    // Which workers a fault's own calls hit shows after the bite, too.
    if (fault->noted().bit && fault->kind().reach != Reach::kOwnCalls) continue;
    observe(*fault, [&] { fault->prove(at); });
  }
  triggers(at);
}

}  // namespace keelback::chaos
