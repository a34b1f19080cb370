// Model clients: an open loop of calls drawn from a mix, arriving whether or not earlier ones have
// been answered, with cancellations. Keeps count of what was asked and of how it ended.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "keelback/call.h"
#include "keelback/outcome.h"
#include "sim/simulation.h"

namespace keelback::sim {

struct LoadSettings {
  double rate = 1000;  // arrivals per virtual second, > 0
  Duration length = std::chrono::seconds(1);
  struct Kind {
    Call call;
    std::uint32_t weight = 1;
    bool in_session = false;  // gets the id of a session drawn from `sessions`
    bool stream = false;
  };
  std::vector<Kind> mix;       // not empty
  std::uint32_t sessions = 8;  // ids "s0" …
  double cancel = 0;           // chance that the caller leaves, some time within cancel_within
  Duration cancel_within = std::chrono::milliseconds(20);
};

class OpenLoad {
 public:
  // The simulation must outlive the load, and the load every call it submitted.
  OpenLoad(Simulation& simulation, LoadSettings settings, std::uint64_t seed);
  // Arrivals from now until now + length; each one schedules the next.
  void start();

  std::uint64_t submitted() const { return submitted_; }
  std::uint64_t ended() const { return ended_; }
  std::uint64_t ended(OutcomeKind kind) const { return outcomes_[static_cast<int>(kind)]; }
  // Called with every outcome, after it was counted.
  void on_outcome(std::function<void(CallId, const Call&, const Outcome&)> hear);

 private:
  void arrive();
  Call draw(bool& stream);

  Simulation& simulation_;
  LoadSettings settings_;
  Prng prng_;
  std::uint32_t weight_total_ = 0;
  Time end_{};
  std::uint64_t submitted_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t outcomes_[kOutcomeKinds] = {};
  std::function<void(CallId, const Call&, const Outcome&)> hear_;
};

}  // namespace keelback::sim
