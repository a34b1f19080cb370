// How large the pool is: pool.workers, or with pool.workers_max what the load asks for.
//
// Owns: the Scaler, and when it looks.
// Asks: Calls, Waiting and Workers what runs and what waits; Starts and Readiness how starts go;
// Snapshots whose sessions can be saved; Workers to come and to leave.
#pragma once

#include <optional>

#include "base/time.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/pool.h"
#include "core/scaler.h"
#include "core/timers.h"

namespace keelback::core {

class Calls;
class Readiness;
class Snapshots;
class Starts;
class Waiting;
class Workers;
struct Slot;
struct Worker;

class Scaling {
 public:
  Scaling(Frame& frame, Calls& calls, Waiting& waiting, Workers& workers,
          const Snapshots& snapshots, const Starts& starts, const Readiness& readiness)
      : frame_(frame),
        calls_(calls),
        waiting_(waiting),
        workers_(workers),
        snapshots_(snapshots),
        starts_(starts),
        readiness_(readiness) {}
  Scaling(const Scaling&) = delete;
  Scaling& operator=(const Scaling&) = delete;

  // The settings have changed, or how workers are started. The first time the workers start.
  void configure();
  // The size follows the load: note() is to be called after each event.
  bool active() const { return scaler_.has_value(); }
  // An event was handled; quiet: it was a Tick, and no action came of it.
  void note(bool quiet);
  void due() { look(); }
  void describe(Time now, PoolStats& stats) const;

 private:
  void look();
  Scaler::Load measure();
  Duration add_waiting(Scaler::Load& load);
  void add_running(const Worker& worker, Duration takes, Scaler::Load& load) const;
  std::size_t queued() const;
  Slot* first_to_go() const;
  std::uint32_t held() const;

  Frame& frame_;
  Calls& calls_;
  Waiting& waiting_;
  Workers& workers_;
  const Snapshots& snapshots_;
  const Starts& starts_;
  const Readiness& readiness_;
  std::optional<Scaler> scaler_;  // only of a pool that scales
  bool begun_ = false;
  Time look_at_{};          // not more often
  Time leave_at_{};         // no worker is asked to leave before
  std::size_t queued_ = 0;  // at the last look
  Timer timer_{TimerKind::kScaling};
};

}  // namespace keelback::core
