// What can be read off the pool, and the checks that tests run after every event. Changes nothing.
//
// Owns: nothing. Asks: everybody.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "core/call.h"
#include "core/frame.h"
#include "core/pool.h"
#include "core/quarantine.h"

namespace keelback::core {

class Calls;
class Readiness;
class Runs;
class Scaling;
class Sessions;
class Snapshots;
class Waiting;
class Workers;

class Views {
 public:
  Views(const Frame& frame, const Quarantine& quarantine, const Calls& calls,
        const Waiting& waiting, const Runs& runs, const Sessions& sessions,
        const Snapshots& snapshots, const Workers& workers, const Readiness& readiness,
        const Scaling& scaling)
      : frame_(frame),
        quarantine_(quarantine),
        calls_(calls),
        waiting_(waiting),
        runs_(runs),
        sessions_(sessions),
        snapshots_(snapshots),
        workers_(workers),
        readiness_(readiness),
        scaling_(scaling) {}

  PoolStats stats(Time now) const;
  std::vector<WorkerView> workers(Time now) const;
  SessionList sessions(Time now, std::string_view after, std::size_t limit) const;
  std::vector<QuarantinedRequest> quarantine(Time now) const;
  bool knows(Time now, const Event& event) const;
  void check_invariants() const;

 private:
  void count_leaving(Time now, PoolStats& stats) const;
  std::uint32_t check_calls() const;
  void check_family(const Call& call) const;
  void check_running(const Call& call, const Call::Running& run) const;
  void check_waiting(const Call& call) const;
  std::uint32_t check_workers() const;
  void check_groups(bool idle) const;

  const Frame& frame_;
  const Quarantine& quarantine_;
  const Calls& calls_;
  const Waiting& waiting_;
  const Runs& runs_;
  const Sessions& sessions_;
  const Snapshots& snapshots_;
  const Workers& workers_;
  const Readiness& readiness_;
  const Scaling& scaling_;
};

}  // namespace keelback::core
