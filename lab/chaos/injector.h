// Fires the plan's faults, finds the evidence that they bit, and undoes them. A fault without
// evidence stays without a bite; nothing here assumes that an order had its effect.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "chaos/catalogue.h"
#include "chaos/recorder.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

class Injector {
 public:
  // All must outlive the injector.
  Injector(const Scenario& scenario, const Plan& plan, World& world, Recorder& recorder);

  Duration next_due() const;
  void run_due(Duration at);
  // After each sample: triggers, evidence that takes its time.
  void look(Duration at);
  void undo_all(Duration at);
  const std::string& last_word() const { return last_word_; }

 private:
  struct Active {
    const Firing* firing = nullptr;
    const FaultSpec* spec = nullptr;
    const FaultClass* kind = nullptr;
    std::size_t event = 0;  // in the history
    std::vector<host::WorkerInfo> targets;
    std::vector<std::uint64_t> calls;  // its own, by index
    std::vector<std::uint32_t> slots_before;
    Sample sample_before;
    std::uint32_t newest_before = 0;  // generation
    std::uint64_t obeyed_before = 0;
    std::optional<Holdings> held_before;  // of the first target
    std::optional<ProcessorTime> time_before;
    std::int64_t zygote_before = 0;  // pid
    std::uint64_t stops_seen = 0;
    std::map<std::uint64_t, std::uint64_t> tries;  // of calls that failed: how often tried again
    bool stopped_now = false;
    bool over = false;  // undone, or nothing to undo
    bool shrank = false;
  };
  enum class StepKind { kFire, kCall, kLeave, kUndo, kTurn, kWatch };
  struct Step {
    StepKind kind;
    std::size_t which = 0;  // firing or active
    const PlannedCall* call = nullptr;
    std::uint64_t index = 0;
  };

  void fire(const Firing& firing, Duration at);
  void inject(Active& active, Duration at);
  void undo(Active& active, Duration at);
  void turn(std::size_t which, Duration at);  // of a throttle
  void watch(const Active& active);           // what had to live on
  void calls_of(std::size_t which, Duration at);
  void triggers(Duration at);
  bool rung_reached(const FaultSpec& fault, const std::string& rung) const;
  std::vector<host::WorkerInfo> choose(const FaultSpec& spec, std::uint64_t pick) const;
  void seek_evidence(Active& active, Duration at);
  void evidence_of_calls(Active& active, Duration at);
  void retry(Active& active, Duration at);
  std::string daemon_of(const Active& active) const;
  void evidence_of_daemon(Active& active, Duration at, bool wait);
  void evidence_of_growth(Active& active, Duration at);
  void evidence_of_leak(Active& active, Duration at);
  void evidence_of_starvation(Active& active, Duration at);
  void evidence_of_disk(Active& active, Duration at);
  void evidence_of_order(Active& active, Duration at);
  void bit(Active& active, Duration at, std::string proof);
  void no_bite(Active& active, std::string why);
  // Why this fault may not be injected now; empty: it may.
  std::string over_the_cap(const Active& active) const;
  World::Evidence each_target(Active& active,
                              const std::function<World::Evidence(const host::WorkerInfo&)>& act);
  World::Evidence order(const Active* without);
  World::Evidence replace(const Active& active);
  FaultEvent& event(const Active& active) { return recorder_.history().faults[active.event]; }
  const FaultEvent& event(const Active& active) const {
    return recorder_.history().faults[active.event];
  }

  const Scenario& scenario_;
  const Plan& plan_;
  World& world_;
  Recorder& recorder_;
  std::multimap<Duration, Step> agenda_;
  std::vector<std::size_t> waiting_;  // firings whose trigger has not happened
  std::deque<Active> active_;         // references stay valid
  std::string last_word_;
};

}  // namespace keelback::chaos
