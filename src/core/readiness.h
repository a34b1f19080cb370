// Whether the pool can serve, and if not, why.
//
// Owns: the deaths that say why.
// Asks: Starts when the next worker starts; Waiting to end the calls that wait for nothing.
#pragma once

#include <string>

#include "base/time.h"
#include "core/ending.h"
#include "core/frame.h"
#include "core/pool.h"

namespace keelback::core {

class Health;
class Replacements;
class Starts;
class Waiting;
class Workers;

class Readiness {
 public:
  Readiness(Frame& frame, Waiting& waiting, const Starts& starts, const Workers& workers,
            const Replacements& replacements, const Health& health)
      : frame_(frame),
        waiting_(waiting),
        starts_(starts),
        workers_(workers),
        replacements_(replacements),
        health_(health) {}
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  void note_ready();
  void note_failed_start(const DeathPtr& death) { start_failure_ = death; }
  // The application has been loaded, by whomever; or it could not be, and no start was there to
  // fail.
  void note_loaded() { announced_ = true; }
  void note_failed_load(const DeathPtr& death) {
    start_failure_ = death;
    announced_ = false;
  }
  bool starts_fail() const { return start_failure_ != nullptr; }
  // A ready worker has ended without our doing.
  void note_exit(const DeathPtr& death) { last_exit_ = death; }
  // Workers, slots or settings have changed.
  void refresh();
  // No worker is up, and none comes: calls are refused.
  bool not_ready() const { return not_ready_; }
  Ending refusal() const;
  // The parts of the statistics that say whether the pool is ready, and why not.
  void describe(Time now, PoolStats& stats) const;

 private:
  void ask_for_workers(std::uint32_t serving, std::uint32_t wanted, PoolStats& stats) const;
  void give_causes(Time now, PoolStats& stats) const;
  std::string describe_failure() const;

  Frame& frame_;
  Waiting& waiting_;
  const Starts& starts_;
  const Workers& workers_;
  const Replacements& replacements_;
  const Health& health_;
  DeathPtr start_failure_;  // of the last start, while none has succeeded since
  DeathPtr last_exit_;      // of the last ready worker that ended without our doing
  bool not_ready_ = false;
  bool loaded_ = false;     // a worker has been ready
  bool announced_ = false;  // the application was loaded
};

}  // namespace keelback::core
