// The agenda of a run's faults: fires them when the plan or their trigger says so, sends their own
// calls, lets each look for its proof, and undoes it. What a fault does is its own (chaos/fault.h).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chaos/fault.h"

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
  enum class StepKind { kFire, kCall, kLeave, kUndo, kTurn };
  struct Step {
    StepKind kind;
    std::size_t which = 0;  // firing or fault
    const PlannedCall* call = nullptr;
    std::uint64_t index = 0;
  };

  void fire(const Firing& firing, Duration at);
  Fault& make(const Firing& firing, Duration at);
  void run(const Step& step, Duration due, Duration at);
  void call(const Step& step, Duration due, Duration at);
  void turn(std::size_t which, Duration at);
  void undo(Fault& fault, Duration at);
  void triggers(Duration at);
  bool rung_reached(const FaultSpec& fault, const std::string& rung) const;
  // Why this fault may not be injected now; empty: it may.
  std::string over_the_cap(const Fault& fault) const;
  // Lets the fault do something that may prove it.
  template <class Act>
  void observe(Fault& fault, Act act);

  const Scenario& scenario_;
  const Plan& plan_;
  World& world_;
  Recorder& recorder_;
  std::multimap<Duration, Step> agenda_;
  std::vector<std::size_t> waiting_;  // firings whose trigger has not happened
  std::vector<std::unique_ptr<Fault>> faults_;
  std::string last_word_;
};

}  // namespace keelback::chaos
