// A fault of a run, from its firing to its undoing. Each class of faults is a struct of these, in a
// file of faults/, which offers them as rows of the catalogue: its description, what it needs, the
// calls that it plans, and this object, which injects it, proves it and undoes it.
//
// A fault without proof stays without a bite; nothing assumes that an order had its effect.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/call_plan.h"
#include "chaos/catalogue.h"
#include "chaos/evidence.h"
#include "chaos/processes.h"
#include "chaos/recorder.h"
#include "chaos/scenario.h"
#include "chaos/world.h"

namespace keelback::chaos {

// What a fault may cost that takes a worker away, or that makes it silent: the worker's call, its
// sessions, and calls that wait too long meanwhile.
inline const std::vector<OutcomeKind> kDeath = {
    OutcomeKind::kWorkerDied, OutcomeKind::kSessionLost, OutcomeKind::kTimeout,
    OutcomeKind::kOverloaded, OutcomeKind::kCircuitOpen, OutcomeKind::kNotReady};
inline const std::vector<OutcomeKind> kHang = {
    OutcomeKind::kTimeout,    OutcomeKind::kWorkerDied,  OutcomeKind::kSessionLost,
    OutcomeKind::kOverloaded, OutcomeKind::kSessionBusy, OutcomeKind::kCircuitOpen};

// Of signals that must not end their process: one that is misled has left when this has passed.
inline constexpr Duration kHarmShows = std::chrono::milliseconds(300);
inline constexpr std::string_view kStrayProof =
    "/proc/PID/status: SigCgt or SigIgn has the signal, and it is not pending any "
    "more; 300 ms later the process must still live, or it is SAFETY";

// All that is referred to outlives the fault.
struct FaultContext {
  const Scenario& scenario;
  World& world;
  Recorder& recorder;
  const Firing& firing;
  const FaultSpec& spec;
  const FaultClass& kind;
  std::size_t event = 0;                  // in the history
  std::vector<host::WorkerInfo> targets;  // of a class that reaches one worker
};

class Fault {
 public:
  Fault() = default;
  virtual ~Fault() = default;
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;

  // ---- what a class does; `at` is now, from the start of the run

  // Remembers how things are before the injection. Of a placebo this is all that happens.
  virtual void before() {}
  // Does it: calls bit() if it has the proof, no_bite() if it could not.
  virtual void inject(Duration at) = 0;
  // After each sample, as long as there is no bite: calls bit() if there is proof by now.
  virtual void prove(Duration at) { static_cast<void>(at); }
  // After each sample, as long as it is in force.
  virtual void act(Duration at) { static_cast<void>(at); }
  // After the injection, and again after what it returns; nullopt: never again.
  virtual std::optional<Duration> turn(Duration at) {
    static_cast<void>(at);
    return std::nullopt;
  }
  virtual Evidence undo() { return "nothing to undo"; }
  // At the end of the faults: waits for proof that is on its way.
  virtual void conclude(Duration at) { static_cast<void>(at); }
  // How much memory it takes from the machine.
  virtual std::uint64_t fills() const { return 0; }

  // ---- for the injector

  void belong_to(FaultContext context) { context_.emplace(std::move(context)); }  // first of all
  const FaultSpec& spec() const { return context_->spec; }
  const FaultClass& kind() const { return context_->kind; }
  const Firing& firing() const { return context_->firing; }
  FaultEvent& noted() const { return recorder().history().faults[context_->event]; }
  const std::vector<host::WorkerInfo>& targets() const { return context_->targets; }
  void sent(std::uint64_t call) { calls_.push_back(call); }  // one of its own
  void no_bite(std::string why) {
    if (!noted().bit) noted().proof = std::move(why);
  }
  bool over = false;  // undone, or there is nothing to undo

 protected:
  World& world() const { return context_->world; }
  Recorder& recorder() const { return context_->recorder; }
  const Scenario& scenario() const { return context_->scenario; }
  const std::vector<std::uint64_t>& calls() const { return calls_; }

  void bit(Duration at, std::string proof);
  // The bite is at once, or there is none.
  void bit_if(const Evidence& evidence);
  // What comes of it shows later; an error is why there is no bite.
  void begun(const Evidence& evidence) {
    if (!evidence) no_bite(evidence.error());
  }
  // The evidence of all targets; the first error, also that there is none.
  Evidence each_target(const std::function<Evidence(const host::WorkerInfo&)>& act) const;
  // The same, to undo: without targets there is nothing to undo.
  Evidence undo_each(const std::function<Evidence(const host::WorkerInfo&)>& act) const;

  std::uint64_t count(std::string_view parameter) const { return count_of(spec(), parameter); }
  Duration duration(std::string_view parameter) const { return duration_of(spec(), parameter); }
  std::uint64_t bytes(std::string_view parameter) const { return bytes_of(spec(), parameter); }
  // Whether another fault that bit is the reason that something is gone.
  bool excused(const std::function<bool(const FaultEvent&, const FaultClass&)>& hits) const;

 private:
  std::optional<FaultContext> context_;
  std::vector<std::uint64_t> calls_;  // its own, by index in the history
};

// How a row of the catalogue makes its faults: `.make = make_fault<Killed>`.
template <class F>
std::unique_ptr<Fault> make_fault(FaultContext context) {
  auto made = std::make_unique<F>();
  made->belong_to(std::move(context));
  return made;
}

// Faults that are calls of the laboratory, and those that are felt by calls.
class OwnCalls : public Fault {
 public:
  struct Seen {
    std::uint64_t planned = 0, sent = 0;
    std::uint64_t punctual = 0;  // sent on time
    std::uint64_t met = 0;       // ended as they should
    Duration met_at = Duration::max();
    Duration first = Duration::max(), last{0};  // when they were sent
  };
  void inject(Duration) override {}
  void prove(Duration at) override;

 protected:
  // Whether this call, which has ended, ended as the fault wants.
  virtual bool met(const CallEvent& call) const {
    static_cast<void>(call);
    return false;
  }
  // Whether the worker that had this call is one that the fault hits.
  virtual bool strikes(const CallEvent& call) const {
    static_cast<void>(call);
    return kind().reach == Reach::kOwnCalls;
  }
  // Decides from what was seen. By default one call that met is a bite.
  virtual void decide(const Seen& seen, Duration at);

  std::uint64_t how_many(OutcomeKind kind) const;  // of its own calls ended so
  bool on_target(const CallEvent& call) const;
};

}  // namespace keelback::chaos
