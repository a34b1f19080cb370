// The end of the pool: no new calls, the accepted ones finish or run into the limit, every worker
// stops.
//
// Owns: the limit; it alone moves Frame::phase on.
// Asks: Waiting and Workers to end what is left; Starts, Replacements, Health and Readiness to give
// up what they had in mind.
#pragma once

#include "core/event.h"
#include "core/frame.h"
#include "core/timers.h"

namespace keelback::core {

class Calls;
class Health;
class Readiness;
class Replacements;
class Starts;
class Waiting;
class Workers;

class Shutdown {
 public:
  Shutdown(Frame& frame, const Calls& calls, Waiting& waiting, Workers& workers, Starts& starts,
           Replacements& replacements, Health& health, Readiness& readiness)
      : frame_(frame),
        calls_(calls),
        waiting_(waiting),
        workers_(workers),
        starts_(starts),
        replacements_(replacements),
        health_(health),
        readiness_(readiness) {}
  Shutdown(const Shutdown&) = delete;
  Shutdown& operator=(const Shutdown&) = delete;

  void on(const DrainRequested& event);
  // The limit has passed: what waits is turned away, what runs is killed, what is idle may still
  // run its end hooks.
  void due();
  // What is still to be done while the pool shuts down.
  void advance();

 private:
  Frame& frame_;
  const Calls& calls_;
  Waiting& waiting_;
  Workers& workers_;
  Starts& starts_;
  Replacements& replacements_;
  Health& health_;
  Readiness& readiness_;
  Timer timer_{TimerKind::kPool};
};

}  // namespace keelback::core
