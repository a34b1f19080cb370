// Calls that keep the event loop of their worker from turning: who hears of it, and whom it
// excuses. While one call blocks the loop, no other call of that worker gets on. So that time is
// not theirs, and a timeout that comes of it counts for no breaker.
#pragma once

#include "base/time.h"
#include "core/call.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/notice_pace.h"
#include "core/worker_table.h"

namespace keelback::core {

class Calls;
class Workers;

class Blocks {
 public:
  Blocks(Frame& frame, Calls& calls, Workers& workers)
      : frame_(frame), calls_(calls), workers_(workers) {}
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  void on(const LoopBlocked& event);
  void on(const LoopTurned& event);

  // The call leaves the worker, which still has it.
  static void call_leaves(Worker& worker, Call& call, Time now) {
    if (worker.block) note_end(worker, call, now);
  }
  // What others have cost a shared call, from its dispatch to its deadline.
  static HeldUp held_up(const Call& call, Time now);

 private:
  static void note_end(Worker& worker, Call& call, Time now);
  static void end(Worker& worker, Time at);
  void warn(const Worker& worker, Duration lag);

  Frame& frame_;
  Calls& calls_;
  Workers& workers_;
  NoticePace unknown_;  // of blocks by whoever
};

}  // namespace keelback::core
