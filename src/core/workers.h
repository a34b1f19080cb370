// The life of workers: ready, drained, stopped, killed, gone. The pool never dies of them: whatever
// a worker does, its slot is filled again.
//
// Owns: the slots and the workers in them.
// Asks: Starts to fill a slot; Runs and Sessions what a death means to its call and its sessions;
// Snapshots to save what a draining worker holds. Tells Readiness, Health and Replacements when a
// worker has become ready or is gone.
#pragma once

#include <optional>

#include "base/time.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/worker_table.h"

namespace keelback::core {

class Calls;
class Health;
class Readiness;
class Replacements;
class Runs;
class Sessions;
class Snapshots;
class Starts;
class Waiting;

class Workers {
 public:
  // Whom a worker's life concerns.
  struct Others {
    const Calls& calls;
    Waiting& waiting;
    Runs& runs;
    Sessions& sessions;
    Snapshots& snapshots;
    Starts& starts;
    Replacements& replacements;
    Health& health;
    Readiness& readiness;
  };
  Workers(Frame& frame, const Others& others) : frame_(frame), others_(others) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  WorkerTable& table() { return table_; }
  const WorkerTable& table() const { return table_; }

  void on(const WorkerReady& event);
  void on(const WorkerExited& event);
  void on(const DeathOrdered& event);
  void on(const LoadFailed& event);

  // ---- how many there are
  // So many, from the first slot on. Those beyond drain.
  void resize(std::uint32_t workers);
  // The pool scales: slots up to this one may be filled. Those beyond drain.
  void limit(std::uint32_t slots);
  // So many are wanted in all, in the lowest slots; one that leaves may stay instead.
  void grow(std::uint32_t workers);
  // The slot is not wanted. Its worker leaves once its sessions are saved and moved, however long
  // that takes; if they cannot be saved it stays, and the slot is wanted.
  void give_up(Slot& slot);
  // One that drains and may stay drains for good.
  void let_go(Worker& worker);

  // ---- what it does
  void become_ready(Worker& worker);
  // It takes no other call. One that drains is shown as that all the time.
  void occupy(Worker& worker);
  // The call it ran is past its time.
  void suspect(Worker& worker);
  // It runs no call any more.
  void rest(Worker& worker);
  // Something that held it up is over: it takes work, or leaves if it drains.
  void go_on(Worker& worker);

  // ---- how it ends
  // It serves only the sessions that it holds. spare: as give_up() says.
  void drain(Worker& worker, bool spare = false);
  // One that drains gives up what it can, and stops if nothing is left.
  void leave(Worker& worker);
  void maybe_stop(Worker& worker);
  // The drain has taken its time: what is left ends.
  void end_drain(Worker& worker);
  // A doomed one in which only calls are left that do not end.
  void end_doomed(Worker& worker);
  void stop(Worker& worker);
  void kill(Worker& worker, KillCause cause);

  // ---- time
  void arm(Worker& worker);
  void due(Worker& worker);

 private:
  void note_failed_start(Worker& worker, const DeathPtr& death);
  std::optional<Time> next_due(const Worker& worker) const;
  void abandon(Worker& worker);
  void remove(Worker& worker, Duration pause);
  void drop(Slot& slot);
  void want(Slot& slot);
  void stay(Worker& worker);

  Frame& frame_;
  Others others_;
  WorkerTable table_;
};

}  // namespace keelback::core
