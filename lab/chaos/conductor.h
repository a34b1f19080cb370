// Plays a plan on a world: load, faults, samples, probes, verification; and records all of it. The
// same code plays on virtual time and on real processes. It decides nothing about right or wrong.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "chaos/history.h"
#include "chaos/plan.h"
#include "chaos/scenario.h"
#include "chaos/world.h"

namespace keelback::chaos {

struct Progress {
  std::string phase;  // "start", "ramp", "baseline", "faults", "recovery", "verify", "end"
  Duration at{0}, end{0};
  std::uint64_t sent = 0, ok = 0, failed = 0;
  std::string last;  // what happened last: "k: proc.kill bit worker 2.7"
};
inline constexpr Duration kStartLimit = std::chrono::seconds(120);
struct ConductOptions {
  std::function<void(const Progress&)> on_progress;  // a few times a second; may be empty
  const std::atomic<bool>* interrupted = nullptr;    // set: stop, undo, end as ABORTED
  std::vector<CallEvent> before;       // made of the pool before the run: origin "trial"
  Duration start_limit = kStartLimit;  // for the pool to be whole; 0: it was waited for
};

// Blocks until the run is over and the pool is down. The world is used up.
History conduct(const Scenario& scenario, const Plan& plan, World& world,
                const ConductOptions& options = {});

}  // namespace keelback::chaos
