// What can be known to be wrong with a scenario before it runs.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/settings_schema.h"
#include "base/settings_text.h"
#include "chaos/catalogue.h"
#include "chaos/scenario.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr double kThinkersMax = 0.8;  // of the sessions: arrivals come in bursts
constexpr double kCallsMin = 50;      // fewer in the baseline say nothing about a share

class Checker {
 public:
  explicit Checker(const Scenario& scenario) : scenario_(scenario) {}

  std::vector<Finding> run() {
    names();
    load();
    std::set<std::string> ids;
    for (const FaultSpec& fault : scenario_.faults) {
      if (!ids.insert(fault.id).second)
        error("fault." + fault.id, "there are two faults of this id");
      if (const FaultClass* known = find_fault_class(fault.fault_class)) check_fault(fault, *known);
    }
    for (const SettingConflict& conflict : check_settings(scenario_.settings)) {
      error(fmt::format("settings.{}", conflict.key), conflict.why);
    }
    if (scenario_.nodes > 0) cluster();
    promises();
    return std::move(findings_);
  }

 private:
  void error(std::string where, std::string text) {
    findings_.push_back({true, std::move(where), std::move(text)});
  }
  void warning(std::string where, std::string text) {
    findings_.push_back({false, std::move(where), std::move(text)});
  }

  void names() {
    if (scenario_.name.empty()) error("name", "is missing");
    if (scenario_.why.empty()) error("why", "is missing: say what the scenario is for");
    if (scenario_.faults.empty()) error("fault", "there is none: nothing would be tested");
    if (scenario_.checks.empty()) error("check.use", "is empty: nothing would be asserted");
    if (scenario_.verify == 0) warning("recovery.verify", "0: no verification calls at the end");
  }

  void load() {
    const LoadSpec& load = scenario_.load;
    if (scenario_.baseline <= 0s) {
      error("baseline.for", "is 0: without a baseline there is no positive control");
    }
    const double calls = load.rate * std::chrono::duration<double>(scenario_.baseline).count();
    if (scenario_.baseline > 0s && calls < kCallsMin) {
      error("load.rate", fmt::format("the baseline has {:.0f} calls; fewer than {:.0f} say nothing",
                                     calls, kCallsMin));
    }
    double weight = 0, in_sessions = 0;
    for (const LoadCall& call : load.calls) {
      weight += call.weight;
      if (call.session) in_sessions += call.weight;
    }
    const bool sessions = in_sessions > 0;
    if (load.steps > 0 && load.ramp <= 0s) error("load.steps", "means nothing without load.ramp");
    if (load.think > 0s && sessions) {
      const double most = load.sessions / std::chrono::duration<double>(load.think).count();
      const double wanted = load.rate * in_sessions / weight;
      if (wanted > kThinkersMax * most) {
        error("load.think",
              fmt::format("{} sessions that think {} between their calls make at most "
                          "{:.0f} calls a second; the mix wants {:.0f} of them, and "
                          "some must be free when the next one comes",
                          load.sessions, format_duration(load.think), most, wanted));
      }
    }
    if (weight <= 0) error("load.mix", "has no weight: no call would be made");
    if (sessions && load.sessions == 0) error("load.sessions", "is 0, but the mix has sessions");
    if (load.deadline <= 0s) error("load.deadline", "must be more than 0");
    if (scenario_.recovery < 1s) error("recovery.for", "must be at least 1s to judge recovery");
  }

  void cluster() {
    const std::uint32_t workers = scenario_.settings.pool.workers;
    if (scenario_.nodes < 2) error("cluster.nodes", "must be at least 2");
    if (workers % scenario_.nodes != 0 || workers == 0) {
      error("settings.pool.workers", fmt::format("{} workers cannot be shared evenly by {} nodes",
                                                 workers, scenario_.nodes));
    }
    for (const LoadCall& call : scenario_.load.calls) {
      const Word* word = call.own ? nullptr : find_word(call.function);
      if (word != nullptr && !word->is_chain() && !word->is_text()) {
        error("load.mix", fmt::format("{}: nodes are called with echo and chain", word->name));
      }
    }
  }

  // Follows rung triggers to a fault that time or calls start.
  bool reachable(const FaultSpec& fault, std::size_t depth) {
    if (fault.trigger.kind != Trigger::Kind::kRung) return true;
    const FaultSpec* other = scenario_.fault(fault.trigger.fault);
    return other != nullptr && depth < scenario_.faults.size() && reachable(*other, depth + 1);
  }

  void check_fault(const FaultSpec& fault, const FaultClass& known) {
    const std::string where = "fault." + fault.id;
    if (fault.times == 0) error(where + ".times", "is 0: it would never be injected");
    if (fault.times > 1 && fault.every <= 0s) error(where + ".every", "is missing for `times`");
    if (known.lasts && fault.lasts <= 0s) {
      error(where + ".for", "is missing: this class lasts until it is undone");
    }
    if (!known.lasts && fault.lasts > 0s) error(where + ".for", "means nothing to this class");
    if (!reachable(fault, 0)) {
      error(where + ".on",
            "can never happen: it waits for a fault that is not there, or for itself");
    }
    if (fault.trigger.kind == Trigger::Kind::kRung) check_rung(fault, where);
    if (fault.target.kind == Target::Kind::kSame &&
        scenario_.fault(fault.target.fault) == nullptr) {
      error(where + ".target", fmt::format("there is no fault '{}'", fault.target.fault));
    }
    const std::uint32_t workers = scenario_.settings.pool.workers;
    if (fault.target.kind == Target::Kind::kSlot &&
        (fault.target.n == 0 || fault.target.n > workers)) {
      error(where + ".target", fmt::format("the pool has the slots 1 to {}", workers));
    }
    if (fault.target.kind == Target::Kind::kCount && fault.target.n > workers) {
      error(where + ".target", fmt::format("the pool has {} workers", workers));
    }
    if (known.of_nodes && scenario_.nodes == 0) {
      error(where + ".class", "hits a node of a cluster: it needs cluster.nodes, or --nodes");
    }
    if (!known.of_nodes && scenario_.nodes > 0) {
      error(where + ".class", "hits one pool: it cannot be injected into several nodes");
    }
    if (known.needs_growth && !scenario_.settings.pool.scales()) {
      error(where + ".class", "the pool cannot grow: it needs pool.workers_max");
    }
    const auto& sessions = scenario_.settings.sessions;
    if (known.needs_store &&
        (!sessions.store.starts_with("sqlite:") || sessions.snapshot == SnapshotMode::kOff)) {
      error(where + ".class",
            "there is nothing to write: it needs sessions.store = \"sqlite:NAME\" and "
            "sessions.snapshot");
    }
    if (fault.times > 1 && fault.lasts >= fault.every && fault.lasts > 0s) {
      error(where + ".every", "overlaps itself: it must be longer than `for`");
    }
  }

  void check_rung(const FaultSpec& fault, const std::string& where) {
    const FaultSpec* other = scenario_.fault(fault.trigger.fault);
    if (other == nullptr) return;
    const FaultClass* known = find_fault_class(other->fault_class);
    if (known == nullptr) return;
    if (fault.trigger.rung == "undo" && !known->lasts) {
      error(where + ".on", fmt::format("'{}' is never undone", other->id));
    }
    const bool worker = known->reach == Reach::kTarget || known->reach == Reach::kOwnCalls;
    if ((fault.trigger.rung == "respawn" || fault.trigger.rung == "detect") && !worker) {
      error(where + ".on", fmt::format("'{}' hits no worker", other->id));
    }
  }

  void promises() {
    if (scenario_.during.ok == 0 && !scenario_.during.p99 && scenario_.unexplained_max > 0) {
      warning("during.ok",
              "0 and unexplained losses are allowed: only invariants judge the faults");
    }
    if (!scenario_.loosened.empty() && scenario_.reason.empty()) {
      std::string all;
      for (const std::string& each : scenario_.loosened) all += (all.empty() ? "" : "; ") + each;
      error("reason", fmt::format("is missing: this scenario promises less than the one it extends "
                                  "({}); say why, and every report will",
                                  all));
    }
    blast();
    if (scenario_.after.within < scenario_.settings.calls.grace) {
      warning("after.within", "is shorter than calls.grace, which the kill ladder may take");
    }
    if (scenario_.backends.empty() && !scenario_.faults.empty()) {
      error("fault", "no backend can inject all of them together");
    }
    if (scenario_.settings.pool.queue_max < 16) {
      warning("settings.pool.queue_max", "is so small that the baseline may be refused");
    }
  }

  // What can be counted before the run; the injector counts again.
  void blast() {
    const std::uint32_t workers = scenario_.settings.pool.workers;
    const auto most = static_cast<std::uint32_t>(scenario_.blast.share * workers);
    for (const FaultSpec& fault : scenario_.faults) {
      const Target& target = fault.target;
      const std::uint32_t hits = target.kind == Target::Kind::kAll     ? workers
                                 : target.kind == Target::Kind::kCount ? target.n
                                 : target.kind == Target::Kind::kShare
                                     ? static_cast<std::uint32_t>(target.share * workers)
                                     : 1;
      if (hits > std::max(most, 1U)) {
        error("fault." + fault.id + ".target",
              fmt::format("hits {} of {} workers; safety.slots_pct allows {}", hits, workers,
                          std::max(most, 1U)));
      }
    }
  }

  const Scenario& scenario_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> check_scenario(const Scenario& scenario) { return Checker(scenario).run(); }

}  // namespace keelback::chaos
