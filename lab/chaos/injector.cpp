#include "chaos/injector.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/settings_text.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

std::string start_words(const FaultSpec& fault) {
  const std::string& name = fault.fault_class;
  if (name == "spawn.fail") return "fail";
  if (name == "spawn.exit") return "exit " + parameter_value(fault, "code");
  if (name == "spawn.hang") return "hang";
  if (name == "spawn.stay") return "stay";
  if (name == "spawn.slow") {
    const auto delay = parse_duration(parameter_value(fault, "delay")).value_or(0ns);
    return fmt::format("sleep {}", std::chrono::ceil<std::chrono::milliseconds>(delay).count());
  }
  if (name == "channel.half_greeting") return "wire half_greeting";
  if (name == "channel.no_greeting") return "wire no_greeting";
  return "wire version";
}

ChannelOrder channel_order(const FaultSpec& fault) {
  static constexpr std::pair<std::string_view, Misdeed> kMisdeeds[] = {
      {"channel.garbage", Misdeed::kGarbage},
      {"channel.header", Misdeed::kHeader},
      {"channel.half_stall", Misdeed::kHalfStall},
      {"channel.half_frame", Misdeed::kHalfClose},
      {"channel.close", Misdeed::kClose},
      {"channel.duplicate", Misdeed::kDuplicate},
      {"channel.zombie", Misdeed::kStale},
      {"channel.unknown", Misdeed::kUnknown},
      {"channel.late", Misdeed::kLate},
      {"channel.drip", Misdeed::kDrip},
      {"channel.drop", Misdeed::kDrop}};
  ChannelOrder order{.fault = fault.id};
  for (const auto& [name, what] : kMisdeeds) {
    if (name == fault.fault_class) order.what = what;
  }
  order.delay = parse_duration(parameter_value(fault, "delay")).value_or(0ns);
  const auto count = [&](std::string_view name, std::uint64_t otherwise) {
    return static_cast<std::uint32_t>(
        parse_count(parameter_value(fault, name)).value_or(otherwise));
  };
  order.bytes = std::max(1U, count("bytes", 1));
  order.answers = count("answers", 0);
  return order;
}

constexpr Duration kStarved = 20ms;     // of waiting for a processor
constexpr Duration kHarmShows = 300ms;  // a process that a signal misleads has left by then

int signal_of(std::string_view fault_class) {
  const std::string_view name = fault_class.substr(fault_class.find('.') + 1);
  return name == "segv"    ? SIGSEGV
         : name == "abort" ? SIGABRT
         : name == "term"  ? SIGTERM
         : name == "int"   ? SIGINT
         : name == "hup"   ? SIGHUP
                           : SIGKILL;
}

DiskFault disk_fault(const FaultSpec& fault) {
  return {.fault = fault.id,
          .error = fault.fault_class == "disk.full"    ? ENOSPC
                   : fault.fault_class == "disk.fails" ? EIO
                                                       : 0,
          .delay = parse_duration(parameter_value(fault, "delay")).value_or(0ns)};
}

// Of memory, for as long as its worker lives.
std::uint64_t filled_by(const FaultSpec& fault) {
  return parse_count(parameter_value(fault, "calls")).value_or(0) *
         parse_bytes(parameter_value(fault, "size")).value_or(Bytes{}).count;
}

// Its calls must meet a certain worker.
bool aims_calls(const FaultClass& kind) {
  return kind.means == Means::kLimit || kind.means == Means::kStarve ||
         (kind.means == Means::kCalls && kind.reach == Reach::kTarget);
}

const char* limit_of(std::string_view fault_class) {
  return fault_class == "mem.rlimit" ? "as" : "nofile";
}

}  // namespace

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
    switch (step.kind) {
      case StepKind::kFire:
        fire(plan_.firings[step.which], recorder_.now());
        break;
      case StepKind::kCall: {
        Active& active = active_[step.which];
        PlannedCall call = *step.call;
        // A limit is felt by calls in that worker: a session that lives there leads to it.
        if (aims_calls(*active.kind) && !active.targets.empty()) {
          call.session = recorder_.session_at(active.targets.front().worker);
        }
        const std::uint64_t index = recorder_.send(call, active.spec->id, due);
        active.calls.push_back(index);
        if (call.leave_after > 0ns) {
          agenda_.emplace(at + call.leave_after,
                          Step{StepKind::kLeave, step.which, nullptr, index});
        }
        break;
      }
      case StepKind::kLeave:
        recorder_.cancel(step.index);
        break;
      case StepKind::kUndo:
        undo(active_[step.which], recorder_.now());
        break;
      case StepKind::kTurn:
        turn(step.which, recorder_.now());
        break;
      case StepKind::kWatch:
        watch(active_[step.which]);
        break;
    }
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

// ---- whom

std::vector<host::WorkerInfo> Injector::choose(const FaultSpec& spec, std::uint64_t pick) const {
  std::vector<host::WorkerInfo> up;
  for (const host::WorkerInfo& worker : recorder_.workers()) {
    using enum core::WorkerState;
    if (worker.state == kReady || worker.state == kBusy) up.push_back(worker);
  }
  if (up.empty()) return {};
  Prng prng(pick);
  for (std::size_t i = up.size(); i > 1; --i) std::swap(up[i - 1], up[prng.below(i)]);
  const auto first = [&](auto&& wanted) {
    const auto found = std::ranges::find_if(up, wanted);
    if (found != up.end()) std::swap(*found, up.front());
    return found != up.end();
  };
  using Kind = Target::Kind;
  const Target& target = spec.target;
  std::size_t n = 1;
  switch (target.kind) {
    case Kind::kAny:
      break;
    case Kind::kBusy:  // with nobody busy, anybody
      first([](const auto& w) { return w.state == core::WorkerState::kBusy; });
      break;
    case Kind::kIdle:
      first([](const auto& w) { return w.state == core::WorkerState::kReady; });
      break;
    case Kind::kAll:
      n = up.size();
      break;
    case Kind::kCount:
      n = target.n;
      break;
    case Kind::kShare:
      n = std::max<std::size_t>(
          1, static_cast<std::size_t>(target.share * static_cast<double>(up.size())));
      break;
    case Kind::kSlot:
      if (!first([&](const auto& w) { return w.worker.slot == target.n; })) return {};
      break;
    case Kind::kOldest:
      std::ranges::sort(up, {}, [](const auto& w) { return w.worker.generation; });
      break;
    case Kind::kHome: {
      const auto home = recorder_.busiest_home();
      if (!home || !first([&](const auto& w) { return w.worker == *home; })) return {};
      break;
    }
    case Kind::kSame: {
      const auto& faults = recorder_.history().faults;
      const auto other = std::ranges::find(faults, target.fault, &FaultEvent::id);
      if (other == faults.end() || other->targets.empty()) return {};
      const std::uint32_t slot = other->targets.front().slot;
      if (!first([&](const auto& w) { return w.worker.slot == slot; })) return {};
      break;
    }
  }
  up.resize(std::min(n, up.size()));
  return up;
}

// ---- doing it

void Injector::fire(const Firing& firing, Duration at) {
  Active active{.firing = &firing,
                .spec = scenario_.fault(firing.fault),
                .kind = find_fault_class(scenario_.fault(firing.fault)->fault_class)};
  active.event = recorder_.history().faults.size();
  recorder_.sample(at);  // targets as they are now
  const Means means = active.kind->means;
  const bool recycle = active.spec->fault_class == "pool.recycle";
  if (means == Means::kSignal || means == Means::kThrottle || means == Means::kChannel || recycle ||
      aims_calls(*active.kind)) {
    active.targets = choose(*active.spec, firing.pick);
  }
  FaultEvent made{.id = firing.fault,
                  .round = firing.round,
                  .fault_class = active.spec->fault_class,
                  .fired = at,
                  .targets = {},
                  .pids = {},
                  .placebo = active.spec->placebo,
                  .proof = {}};
  for (const host::WorkerInfo& worker : active.targets) {
    made.targets.push_back({worker.worker.slot, worker.worker.generation});
    made.pids.push_back(worker.pid);
    active.slots_before.push_back(worker.worker.slot);
  }
  for (const host::WorkerInfo& worker : recorder_.workers()) {
    active.newest_before = std::max(active.newest_before, worker.worker.generation);
  }
  active.sample_before = recorder_.history().samples.back();
  active.obeyed_before = world_.obeyed(firing.fault);
  if (!active.targets.empty()) {
    active.held_before = world_.holdings(active.targets.front());
    active.time_before = world_.processor_time(active.targets.front());
  }
  if (means == Means::kZygote) {
    active.zygote_before = world_.info().start.zygote_pid;
    made.pids.push_back(active.zygote_before);
  }
  recorder_.history().faults.push_back(std::move(made));
  active_.push_back(std::move(active));
  const std::size_t which = active_.size() - 1;
  if (active_[which].kind->lasts) {
    agenda_.emplace(at + active_[which].spec->lasts, Step{StepKind::kUndo, which});
  } else {
    active_[which].over = true;
  }
  if (std::string why = over_the_cap(active_[which]); !why.empty()) {
    active_[which].over = true;
    return no_bite(active_[which], std::move(why));
  }
  inject(active_[which], at);
  calls_of(which, at);
  if (means == Means::kThrottle && !active_[which].spec->placebo) {
    agenda_.emplace(at, Step{StepKind::kTurn, which});
  }
  if (active_[which].kind->harmless && event(active_[which]).bit) {
    agenda_.emplace(at + kHarmShows, Step{StepKind::kWatch, which});
  }
}

std::string Injector::over_the_cap(const Active& active) const {
  std::set<std::uint32_t> slots;
  std::uint32_t in_force = 0;
  for (const Active& each : active_) {
    if (&each != &active && (each.over || event(each).placebo)) continue;
    ++in_force;
    for (const WorkerRef& worker : event(each).targets) slots.insert(worker.slot);
  }
  const Blast& blast = scenario_.blast;
  if (active.kind->name == "mem.leak" || active.kind->name == "shm.leak") {
    const auto left = world_.machine();
    const std::uint64_t fills = filled_by(*active.spec);
    if (left &&
        static_cast<double>(fills) > blast.memory * static_cast<double>(left->memory_available)) {
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

World::Evidence Injector::each_target(
    Active& active, const std::function<World::Evidence(const host::WorkerInfo&)>& act) {
  if (active.targets.empty()) return std::unexpected("there was no worker to hit");
  std::string proof;
  for (const host::WorkerInfo& worker : active.targets) {
    const World::Evidence evidence = act(worker);
    if (!evidence) return evidence;
    proof += (proof.empty() ? "" : "; ") + *evidence;
  }
  return proof;
}

// Everything that starting workers are told at the moment, but for `without`.
World::Evidence Injector::order(const Active* without) {
  std::vector<StartOrder> orders;
  for (const Active& each : active_) {
    if (each.over || &each == without || each.kind->means != Means::kStarts) continue;
    if (each.spec->placebo) continue;
    orders.push_back({each.spec->id, start_words(*each.spec)});
  }
  return world_.order_starts(orders);
}

void Injector::inject(Active& active, Duration at) {
  const FaultSpec& spec = *active.spec;
  if (spec.placebo) return no_bite(active, "a placebo does nothing");
  World::Evidence evidence = std::unexpected("");
  switch (active.kind->means) {
    case Means::kSignal:
      if (spec.fault_class == "proc.stop") {
        evidence = each_target(active, [&](const auto& w) { return world_.stop(w, spec.lasts); });
      } else {
        const int signal = signal_of(spec.fault_class);
        evidence = world_.send_signal(active.targets, signal, active.kind->harmless);
        if (active.targets.empty()) evidence = std::unexpected("there was no worker to hit");
      }
      break;
    case Means::kZygote:
      evidence = active.kind->lasts
                     ? world_.stop_zygote(spec.lasts)
                     : world_.signal_zygote(signal_of(spec.fault_class), active.kind->harmless);
      break;
    case Means::kLimit: {
      const auto room = spec.fault_class == "mem.rlimit"
                            ? parse_bytes(parameter_value(spec, "room")).value_or(Bytes{}).count
                            : parse_count(parameter_value(spec, "room")).value_or(0);
      const auto set = each_target(
          active, [&](const auto& w) { return world_.limit(w, limit_of(spec.fault_class), room); });
      if (!set) no_bite(active, set.error());
      return;  // the bite is what calls meet
    }
    case Means::kInterpreter: {
      const auto gone = world_.hide_interpreter(spec.lasts);
      if (!gone) no_bite(active, gone.error());
      return;  // the bite is a start that fails for it
    }
    case Means::kDaemon:
      world_.try_daemon(
          daemon_of(active),
          static_cast<std::uint32_t>(parse_count(parameter_value(spec, "clients")).value_or(0)));
      return;  // the bite is what is seen of it, seconds later
    case Means::kChannel: {
      const ChannelOrder wrong = channel_order(spec);
      const auto told =
          each_target(active, [&](const auto& w) { return world_.misbehave(w, wrong); });
      if (!told) no_bite(active, told.error());
      return;  // the bite is the first answer that is hit
    }
    case Means::kStore: {
      const auto spoilt = world_.spoil_disk(disk_fault(spec));
      if (!spoilt) no_bite(active, spoilt.error());
      return;  // the bite is the first write that is hit
    }
    case Means::kStarts: {
      const auto told = order(nullptr);
      if (!told) no_bite(active, told.error());
      return;
    }
    case Means::kOperator: {
      if (spec.fault_class == "pool.recycle") {
        for (const auto& worker : active.targets) world_.recycle(worker.worker.slot);
      } else if (spec.fault_class == "pool.reload") {
        world_.reload();
      } else if (spec.fault_class == "pool.shorten_sessions") {
        Settings shorter = scenario_.settings;
        shorter.sessions.idle_ttl =
            parse_duration(parameter_value(spec, "ttl")).value_or(shorter.sessions.idle_ttl);
        world_.configure(shorter);
      } else {
        Settings smaller = scenario_.settings;
        smaller.pool.workers = std::max(1U, smaller.pool.workers - 1);
        smaller.pool.min_ready = std::min(smaller.pool.min_ready, smaller.pool.workers);
        world_.configure(smaller);
      }
      return;
    }
    case Means::kStarve: {
      const auto others = parse_count(parameter_value(spec, "competitors")).value_or(1);
      const auto begun = each_target(active, [&](const auto& w) {
        return world_.starve(w, static_cast<std::uint32_t>(others), spec.lasts);
      });
      if (!begun) no_bite(active, begun.error());
      return;  // the bite is that it has to wait
    }
    case Means::kCalls:
      if (spec.fault_class == "shm.leak") {
        const auto lent = world_.lend_shared(spec.lasts);
        if (!lent) no_bite(active, lent.error());
      }
      return;
    case Means::kThrottle:
    case Means::kClients:
      return;
  }
  static_cast<void>(at);
  if (evidence) {
    bit(active, recorder_.now(), *evidence);
  } else {
    no_bite(active, evidence.error());
  }
}

void Injector::calls_of(std::size_t which, Duration at) {
  for (const PlannedCall& call : active_[which].firing->calls) {
    agenda_.emplace(at + call.at, Step{StepKind::kCall, which, &call});
  }
}

void Injector::turn(std::size_t which, Duration at) {
  Active& active = active_[which];
  if (active.over) return;
  const bool stop = !active.stopped_now;
  const Duration length =
      parse_duration(parameter_value(*active.spec, stop ? "stopped" : "running")).value_or(10ms);
  const auto done = each_target(active, [&](const host::WorkerInfo& worker) {
    return stop ? world_.stop(worker, active.spec->lasts) : world_.resume(worker);
  });
  active.stopped_now = stop;
  if (stop && done && ++active.stops_seen == 3) {
    bit(active, at, "state T seen in three turns: " + *done);
  }
  agenda_.emplace(at + length, Step{StepKind::kTurn, which});
}

// A process that a stray signal was sent to must still be there, unless something else ended it.
void Injector::watch(const Active& active) {
  const auto& faults = recorder_.history().faults;
  FaultEvent& noted = event(active);
  const auto excused = [&](auto&& hits) {
    return std::ranges::any_of(faults, [&](const FaultEvent& other) {
      const FaultClass* kind = find_fault_class(other.fault_class);
      return kind != nullptr && !kind->harmless && other.bit && hits(other, *kind);
    });
  };
  const auto gone = [&](const std::string& who, std::int64_t pid) {
    noted.harm = fmt::format("{} (pid {}) is gone after a signal that must not end it", who, pid);
  };
  recorder_.sample(recorder_.now());
  if (active.kind->means == Means::kZygote) {
    const bool other = excused([](const FaultEvent&, const FaultClass& kind) {
      return kind.means == Means::kZygote || kind.means == Means::kOperator ||
             kind.means == Means::kInterpreter;
    });
    if (!other && world_.info().start.zygote_pid != active.zygote_before) {
      gone("the zygote", active.zygote_before);
    }
    return;
  }
  for (const host::WorkerInfo& target : active.targets) {
    const bool there = std::ranges::any_of(recorder_.workers(), [&](const auto& worker) {
      return worker.worker == target.worker && worker.state != core::WorkerState::kDead;
    });
    const bool other = excused([&](const FaultEvent& fault, const FaultClass&) {
      const WorkerRef mine{target.worker.slot, target.worker.generation};
      return fault.targets.empty() || std::ranges::find(fault.targets, mine) != fault.targets.end();
    });
    if (!there && !other) {
      gone(fmt::format("worker {}.{}", target.worker.slot, target.worker.generation), target.pid);
    }
  }
}

void Injector::undo(Active& active, Duration at) {
  if (active.over) return;
  const FaultSpec& spec = *active.spec;
  World::Evidence done = "nothing to undo";
  const auto resume = [&](const auto& w) { return world_.resume(w); };
  if (!spec.placebo) {
    switch (active.kind->means) {
      case Means::kSignal:
      case Means::kThrottle:
        if (!active.targets.empty()) done = each_target(active, resume);
        break;
      case Means::kZygote:
        done = world_.resume_zygote();
        break;
      case Means::kLimit:
        if (!active.targets.empty()) {
          done = each_target(
              active, [&](const auto& w) { return world_.unlimit(w, limit_of(spec.fault_class)); });
        }
        break;
      case Means::kStarts:
        done = order(&active);
        break;
      case Means::kChannel:
        done = world_.behave(spec.id);
        break;
      case Means::kInterpreter:
        done = world_.restore_interpreter();
        break;
      case Means::kStore:
        done = world_.mend_disk(spec.id);
        break;
      case Means::kOperator:
        world_.configure(scenario_.settings);
        break;
      case Means::kStarve:
        if (!active.targets.empty()) {
          done = each_target(active, [&](const auto& w) { return world_.feed(w); });
        }
        break;
      case Means::kCalls:
        if (active.kind->replaced) done = replace(active);
        break;
      case Means::kClients:
      case Means::kDaemon:
        break;
    }
  }
  active.over = true;
  FaultEvent& noted = event(active);
  noted.undone = done.has_value();
  noted.undo = std::max(at, recorder_.now());
  if (!done) noted.proof += "; undo failed: " + done.error();
  last_word_ = fmt::format("{}: {} undone", spec.id, spec.fault_class);
}

// What a worker keeps goes with it.
World::Evidence Injector::replace(const Active& active) {
  for (const host::WorkerInfo& target : active.targets) {
    const auto same = [&](const auto& worker) { return worker.worker == target.worker; };
    if (std::ranges::any_of(recorder_.workers(), same)) world_.recycle(target.worker.slot);
  }
  if (active.spec->fault_class == "shm.leak") return world_.take_back_shared();
  return "the worker is replaced";
}

void Injector::undo_all(Duration at) {
  agenda_.clear();
  for (Active& active : active_) {
    if (active.kind->means == Means::kDaemon) evidence_of_daemon(active, at, true);
    undo(active, at);
  }
}

// ---- the evidence

void Injector::bit(Active& active, Duration at, std::string proof) {
  FaultEvent& noted = event(active);
  if (noted.bit) return;
  noted.bit = true;
  noted.bite = at;
  noted.proof = std::move(proof);
  last_word_ = fmt::format("{}: {} bit", active.spec->id, active.spec->fault_class);
}

void Injector::no_bite(Active& active, std::string why) {
  if (!event(active).bit) event(active).proof = std::move(why);
}

void Injector::look(Duration at) {
  for (Active& active : active_) {
    if (active.spec->fault_class == "client.retry_storm" && !active.over) retry(active, at);
    if (!event(active).bit || active.kind->reach == Reach::kOwnCalls) seek_evidence(active, at);
  }
  triggers(at);
}

void Injector::seek_evidence(Active& active, Duration at) {
  if (active.spec->placebo) return;
  switch (active.kind->means) {
    case Means::kStarts: {
      const std::uint64_t n = world_.obeyed(active.spec->id) - active.obeyed_before;
      if (n > 0) bit(active, at, fmt::format("{} starting workers obeyed", n));
      return;
    }
    case Means::kInterpreter: {
      const host::StartPath start = world_.info().start;
      // As the launcher words a zygote or a worker that cannot be executed.
      const bool said = start.reason.find("No such file") != std::string::npos;
      if (!active.over && said) {
        bit(active, at, "the pool says: " + start.reason);
      }
      return;
    }
    case Means::kDaemon:
      return evidence_of_daemon(active, at, false);
    case Means::kChannel: {
      const std::uint64_t n = world_.obeyed(active.spec->id) - active.obeyed_before;
      if (n > 0) bit(active, at, fmt::format("the interposer counted {} answers hit", n));
      return;
    }
    case Means::kStarve:
      return evidence_of_starvation(active, at);
    case Means::kStore:
      return evidence_of_disk(active, at);
    case Means::kOperator:
      return evidence_of_order(active, at);
    case Means::kCalls:
    case Means::kClients:
    case Means::kLimit:
      return evidence_of_calls(active, at);
    default:
      return;
  }
}

void Injector::evidence_of_order(Active& active, Duration at) {
  const std::string& name = active.spec->fault_class;
  if (name == "pool.resize") {
    const auto living = std::ranges::count_if(recorder_.workers(), [](const auto& worker) {
      return worker.state == core::WorkerState::kReady || worker.state == core::WorkerState::kBusy;
    });
    const auto usual = static_cast<std::int64_t>(scenario_.settings.pool.workers);
    if (living < usual) bit(active, at, fmt::format("{} workers of {} were up", living, usual));
    return;
  }
  if (name == "pool.shorten_sessions") {
    const Sample& before = active.sample_before;
    const Sample& now = recorder_.history().samples.back();
    const std::uint64_t lost = now.lost - before.lost, opened = now.opened - before.opened;
    const std::uint64_t known = before.sessions + opened - std::min(before.sessions + opened, lost);
    if (!active.over && now.sessions < known) {
      bit(active, at, fmt::format("{} sessions ended that nobody lost", known - now.sessions));
    }
    return;
  }
  const auto newer = [&](std::uint32_t slot) {
    return std::ranges::any_of(recorder_.workers(), [&](const host::WorkerInfo& worker) {
      return worker.worker.slot == slot && worker.worker.generation > active.newest_before &&
             worker.state != core::WorkerState::kStarting;
    });
  };
  if (name == "pool.recycle") {
    if (!active.slots_before.empty() && std::ranges::all_of(active.slots_before, newer)) {
      bit(active, at, fmt::format("slot {} has a newer worker", active.slots_before.front()));
    }
    return;
  }
  for (std::uint32_t slot = 1; slot <= scenario_.settings.pool.workers; ++slot) {
    if (newer(slot)) {  // the first of the rolling replacement: it has begun to bite
      bit(active, at, fmt::format("slot {} has a newer worker", slot));
      return;
    }
  }
}

void Injector::evidence_of_calls(Active& active, Duration at) {
  const FaultSpec& spec = *active.spec;
  const std::string& name = spec.fault_class;
  const auto& calls = recorder_.history().calls;
  const auto count = [&](std::string_view parameter) {
    return static_cast<int>(parse_count(parameter_value(spec, parameter)).value_or(0));
  };
  const Duration told = std::max(
      {parse_duration(parameter_value(spec, "hold")).value_or(0ns),
       parse_duration(parameter_value(spec, "spin")).value_or(0ns),
       name == "call.slow" ? parse_duration(parameter_value(spec, "takes")).value_or(0ns) : 0ns});
  std::uint64_t met = 0, died = 0, refused = 0, known = 0, sent = 0, punctual = 0;
  Duration first = Duration::max(), last{0}, met_at = Duration::max();
  for (const std::uint64_t index : active.calls) {
    const CallEvent& call = calls[index];
    ++sent;
    punctual += call.sent - call.planned < 50ms;
    known += recorder_.cancelled_known(index);
    first = std::min(first, call.sent);
    last = std::max(last, call.sent);
    if (!call.finished()) continue;
    const std::uint64_t met_before = met;
    using enum OutcomeKind;
    const bool dead = call.kind == kWorkerDied;
    died += dead;
    refused += call.kind == kQuarantined;
    const bool on_target = std::ranges::any_of(active.targets, [&](const auto& worker) {
      return worker.worker.slot == call.worker.slot &&
             worker.worker.generation == call.worker.generation;
    });
    if (name == "call.crash") met += dead && call.death_signal == count("signal");
    if (name == "call.exit") met += dead && call.death_code == count("code");
    if (name == "call.raise" || name == "call.unserialisable" || name == "call.huge" ||
        name == "call.exceptions" || name == "call.results") {
      met += call.kind == kError && !call.error_type.empty();
    }
    // The pool's own limit may be the shorter one.
    const Duration limit = std::min(
        {call.deadline, scenario_.settings.calls.deadline, scenario_.settings.calls.deadline_max});
    if (told > 0ns) met += call.ran >= std::min(told, limit) * 9 / 10;
    if (name == "client.tiny_deadline") met += call.kind == kTimeout;
    if (name == "client.malformed") met += call.kind == kBadRequest;
    if (name == "client.unknown_function") met += call.kind == kUnknownFunction;
    if (name == "mem.rlimit") met += on_target && call.error_type == "MemoryError";
    if (name == "fd.exhaust") {
      met += on_target && call.error_type == "OSError" &&
             call.message.find("[Errno 24]") != std::string::npos;
    }
    if (met > met_before) met_at = std::min(met_at, call.done);
    // Which workers a fault's own calls hit is known only now.
    if (active.kind->reach == Reach::kOwnCalls && call.worker.generation != 0) {
      auto& targets = event(active).targets;
      if (std::ranges::find(targets, call.worker) == targets.end()) targets.push_back(call.worker);
    }
  }
  const std::uint64_t planned = active.firing->calls.size();
  if (name == "call.poison" && died > 0 && refused > 0) {
    bit(active, at, fmt::format("{} workers died of it, {} tries were refused", died, refused));
  } else if (name == "call.exceptions" || name == "call.results") {
    if (met == planned) bit(active, at, fmt::format("each of {} kinds ended as error", met));
  } else if (name == "client.retry_storm") {
    if (sent > 0) bit(active, at, fmt::format("{} failed calls were sent again at once", sent));
  } else if (name == "mem.leak") {
    evidence_of_growth(active, at);
  } else if (active.kind->replaced) {
    evidence_of_leak(active, at);
  } else if (name == "client.vanish" && known > 0) {
    bit(active, at, fmt::format("{} calls were in flight when their clients left", known));
  } else if (name == "client.herd" && sent == planned && last - first <= 50ms) {
    bit(active, at,
        fmt::format("{} calls within {:.1f} ms", sent,
                    std::chrono::duration<double, std::milli>(last - first).count()));
  } else if (name == "client.burst" || name == "client.hot_session") {
    if (sent == planned && punctual * 10 >= sent * 9) {
      bit(active, at, fmt::format("{} calls sent, {} of them on time", sent, punctual));
    } else if (sent == planned) {
      no_bite(active, fmt::format("only {} of {} calls were sent on time: this machine is too busy",
                                  punctual, sent));
    }
  } else if (name == "client.session_flood") {
    const std::uint64_t opened =
        recorder_.history().samples.back().opened - active.sample_before.opened;
    const auto full =
        static_cast<std::uint64_t>(std::ranges::count_if(active.calls, [&](std::uint64_t index) {
          return calls[index].finished() && calls[index].kind == OutcomeKind::kSessionLimit;
        }));
    if ((opened + full) * 10 >= planned * 9) {
      bit(active, at,
          fmt::format("{} sessions were opened, {} refused for want of room", opened, full));
    }
  } else if (met > 0) {
    bit(active, met_at, fmt::format("{} of {} calls ended as they should", met, planned));
  }
}

// Clients that do not wait and do not give up: what fails is sent again in the same instant.
void Injector::retry(Active& active, Duration at) {
  if (active.spec->placebo) return;
  const auto most = parse_count(parameter_value(*active.spec, "retries")).value_or(0);
  const Duration since = event(active).fired;
  const std::size_t known = recorder_.history().calls.size();
  for (std::size_t i = 0; i < known; ++i) {
    const CallEvent call = recorder_.history().calls[i];
    const bool theirs = call.origin == "load" || call.origin == active.spec->id;
    const bool plain = call.function == "echo" || call.function == "chain";
    if (!theirs || !plain || !call.finished() || call.ok() || call.done < since) continue;
    if (active.tries.contains(call.index)) continue;
    // A retry inherits how often its call has been tried.
    const auto before = std::ranges::find(active.calls, call.index) == active.calls.end()
                            ? std::uint64_t{0}
                            : call.token >> 60;
    active.tries[call.index] = before + 1;
    if (before >= most) continue;
    PlannedCall again{.function = call.function,
                      .session = call.session,
                      .token = (call.token & (~std::uint64_t{0} >> 4)) | (before + 1) << 60,
                      .idempotent = call.idempotent,
                      .deadline = call.deadline};
    again.payload = call.function == "echo" ? fmt::format("[\"n{:x}\"]", again.token)
                                            : fmt::format("[{}]", again.token);
    active.calls.push_back(recorder_.send(again, active.spec->id, at));
  }
}

std::string Injector::daemon_of(const Active& active) const {
  return fmt::format("{}-{}", active.spec->id, active.firing->round);
}

void Injector::evidence_of_daemon(Active& active, Duration at, bool wait) {
  FaultEvent& noted = event(active);
  if (noted.bit || !noted.proof.empty() || active.spec->placebo) return;
  const auto killed = world_.daemon_seen(daemon_of(active), wait);
  if (!killed) return;
  if (!*killed) return no_bite(active, killed->error());
  bit(active, std::max(at, recorder_.now()), **killed);
}

void Injector::evidence_of_disk(Active& active, Duration at) {
  if (active.over) return;  // the store says what it said while the fault was in force
  const std::uint64_t n = world_.obeyed(active.spec->id) - active.obeyed_before;
  if (n == 0) return;
  if (active.spec->fault_class == "disk.slow") {
    return bit(active, at, fmt::format("{} writes of the store were delayed", n));
  }
  const store::Status store = world_.info().store;
  if (store.up) return;
  bit(active, at,
      fmt::format("{} writes of the store were refused; the pool says of it: {}", n, store.error));
}

void Injector::evidence_of_leak(Active& active, Duration at) {
  if (active.over || active.targets.empty() || !active.held_before) return;
  const auto now = world_.holdings(active.targets.front());
  if (!now) return;
  const FaultSpec& spec = *active.spec;
  const Holdings& before = *active.held_before;
  const std::int64_t pid = active.targets.front().pid;
  const std::uint64_t calls = parse_count(parameter_value(spec, "calls")).value_or(0);
  const auto half = [&](std::string_view each) {
    return calls * parse_count(parameter_value(spec, each)).value_or(0) / 2;
  };
  if (spec.fault_class == "fd.leak" && now->descriptors >= before.descriptors + half("files")) {
    bit(active, at,
        fmt::format("pid {}: {} descriptors, {} before", pid, now->descriptors,
                    before.descriptors));
  }
  if (spec.fault_class == "thread.leak" && now->threads >= before.threads + half("threads")) {
    bit(active, at,
        fmt::format("pid {}: {} threads, {} before", pid, now->threads, before.threads));
  }
  if (spec.fault_class == "shm.leak" && now->shared_bytes >= filled_by(spec) / 2) {
    bit(active, at,
        fmt::format("pid {}: {} segments in /dev/shm mapped, {} KiB", pid, now->segments,
                    now->shared_bytes >> 10));
  }
}

void Injector::evidence_of_starvation(Active& active, Duration at) {
  if (active.over || active.targets.empty() || !active.time_before) return;
  const auto now = world_.processor_time(active.targets.front());
  if (!now) return;
  const std::uint64_t ran = now->ran_ns - active.time_before->ran_ns;
  const std::uint64_t waited = now->waited_ns - active.time_before->waited_ns;
  if (std::chrono::nanoseconds(waited) < kStarved || waited < ran) return;
  bit(active, at,
      fmt::format("pid {}: waited {:.1f} ms for its processor and ran {:.1f} ms, by schedstat",
                  active.targets.front().pid, static_cast<double>(waited) / 1e6,
                  static_cast<double>(ran) / 1e6));
}

// The pool's own numbers of the worker, or its replacement, which the leak has forced.
void Injector::evidence_of_growth(Active& active, Duration at) {
  const std::uint64_t kept = filled_by(*active.spec);
  for (const host::WorkerInfo& before : active.targets) {
    for (const host::WorkerInfo& now : recorder_.workers()) {
      if (now.worker != before.worker || now.rss_bytes < before.rss_bytes + kept / 2) continue;
      bit(active, at,
          fmt::format("pid {}: resident {} MiB, {} MiB before", now.pid, now.rss_bytes >> 20,
                      before.rss_bytes >> 20));
    }
  }
}

}  // namespace keelback::chaos
