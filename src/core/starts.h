// When slots are filled: at once, after a pause, or in their turn.
//
// Owns: the pauses, and the line for the places of exec starts.
// Asks: Workers for records; Sessions for a home; Waiting whether anything waits while the pool
// shuts down; Replacements which code is the latest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

#include "base/time.h"
#include "core/crash_loop.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/worker_table.h"

namespace keelback::core {

class Replacements;
class Sessions;
class Waiting;
class Workers;

class Starts {
 public:
  Starts(Frame& frame, Waiting& waiting, Sessions& sessions, Workers& workers,
         const Replacements& replacements)
      : frame_(frame),
        waiting_(waiting),
        sessions_(sessions),
        workers_(workers),
        replacements_(replacements) {}
  Starts(const Starts&) = delete;
  Starts& operator=(const Starts&) = delete;

  void on(const StartModeChanged& event);
  bool exec() const { return exec_; }

  // Fills the slot if a worker is wanted there and none is on its way.
  void refill(Slot& slot, Duration pause);
  // The slot's pause is over.
  void due(Slot& slot);
  void end_pause(Slot& slot);
  // Places of exec starts may have become free.
  void pump();
  // How long the slot of a worker that ended on its own stays empty.
  Duration pause_after(const Worker& worker);
  // The same for a slot whose worker could not even be begun.
  Duration pause_after_failure(Slot& slot);
  // When the first of the slots that pause is to be filled again.
  std::optional<Time> next() const;
  // Ends the pauses of slots where no worker is wanted any more.
  void drop_unwanted();
  void drop_all();

 private:
  void start(Slot& slot);
  bool wanted(const Slot& slot) const;
  bool has_place() const;

  Frame& frame_;
  Waiting& waiting_;
  Sessions& sessions_;
  Workers& workers_;
  const Replacements& replacements_;
  bool exec_ = false;
  std::uint32_t exec_concurrency_ = 1;
  std::deque<Slot*> line_;
  CrashLoop crash_loop_;
};

}  // namespace keelback::core
