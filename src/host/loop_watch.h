// Watches the event loops of workers while shared calls run there: how late they are, which call
// keeps one from turning, and its stack. It reads the workers' marks by a timer, which runs only
// while there is something to watch. Loop thread, but for lag().
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <string>

#include "base/id.h"
#include "base/loop_lag.h"
#include "base/time.h"
#include "core/action.h"
#include "host/engine.h"
#include "host/roster.h"

namespace keelback::host {

class LoopWatch {
 public:
  LoopWatch(Engine& engine, Roster& roster)
      : engine_(engine), roster_(roster), timer_(engine.context()) {}

  // A worker was given a shared call: begins to look (Roster::loops_watched is set).
  void begin();
  // A PONG of the worker. False: nobody here has asked for it.
  static bool heard(WorkerProcess& worker, std::uint64_t token, CallId running);
  // Logs the notice with the stack of the loop of the worker that it names, when that is there.
  void log_with_stack(const core::Notice& notice);
  void leave_loop() { timer_.cancel(); }

  LoopLag lag() const REQUIRES(host_state) { return lag_; }

 private:
  struct Sight;
  struct Limits;
  struct Stack;
  Limits limits() const;
  void arm(Duration wait);
  void look();
  // When to look again.
  Duration look_at(const Sight& sight, const Limits& limits);
  void await(Stack stack);

  Engine& engine_;
  Roster& roster_;
  boost::asio::steady_timer timer_;
  Duration planned_{0};
  Time sample_at_;  // the histogram has as many samples of each moment
  Time busy_at_;    // the last look at shared calls
  LoopLag lag_ GUARDED_BY(host_state);
};

}  // namespace keelback::host
