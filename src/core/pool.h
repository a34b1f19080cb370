// The pool's decisions, as a state machine that touches nothing: events in, actions out, time is an
// argument. The same object runs on the host (real processes) and in the simulator (virtual time).
//
// What the driver owes:
//   1  It performs the actions of one handle() in order, and does not call handle() from within.
//   2  Time never goes back; handle(now, Tick{}) comes no later than next_deadline().
//   3  StartWorker{w} is followed by WorkerReady{w} or not, and in the end by exactly one
//      WorkerExited{w} (also when no process could be made: cause "start_failed").
//   4  Dispatch{w, c} is answered by exactly one WorkerReplied{w, c}, unless w exits first.
//   5  WorkerExited{w} comes after every message that w wrote has been handed in, and names the
//      call of w's "started" mark, if it has one.
//   6  After KillWorker{w} the process group is dead as soon as the kernel allows; WorkerExited{w}
//      says so. Until then w may still reply.
//   7  Resolve{c} or ReplayOutcome{c} is the last word on c: the driver hands its outcome to the
//      caller once. A TellCaller{c} before it hands the caller an outcome early; the Resolve{c}
//      that follows is for nobody. Of a Resolve with `retain` it keeps a copy until
//      ForgetOutcome{c}.
//   8  CallIds are never reused.
//   9  KeepSnapshot and DropSnapshot with a number are each answered by exactly one
//      SnapshotSettled of that number; those of one session take effect in the order given.
//  10  Dispatch with session.restore hands the worker exactly that snapshot, or is answered by one
//      RestoreFailed and nothing was sent.
//  11  SaveSession is answered by exactly one SessionSaved, unless the worker exits first.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "keelback/status.h"

namespace keelback::core {

enum class WorkerState : std::uint8_t { kStarting, kReady, kBusy, kSuspect, kDraining };
std::string_view to_string(WorkerState state);

// ---- what can be read off the pool at any moment; one call, one consistent picture

// The types of the other pictures are in keelback/status.h. WorkerView is not WorkerStatus: whoever
// decides by a state reads an enum, and pids and memory are known to the driver only.
struct WorkerView {
  struct Running {
    CallId call;
    std::string function;
    std::string session;  // empty: stateless
    Duration age{0};      // since its dispatch
    CallId parent;        // whose code made it; 0: it is not nested
  };
  WorkerId worker;
  WorkerState state = WorkerState::kStarting;
  std::uint64_t calls = 0;     // dispatched to this generation
  std::uint32_t sessions = 0;  // bound to it
  Duration age{0};             // since its start
  std::uint32_t capacity = 1;  // calls that it may run at once
  std::vector<Running> running;
  CallId call;           // the first of those
  std::string function;  // of that call
  std::string sick;      // why it is to be replaced; empty: it is well
};

class Pool {
 public:
  using Config = Settings;

  Pool(Config config, std::uint64_t seed);
  ~Pool();
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;

  // Appends to `out`; clears nothing. Total: every event is legal in every state. The first call
  // (a Tick will do) starts the workers.
  void handle(Time now, const Event& event, Actions& out);
  // When handle(Tick) next has something to do; nullopt: never, unless something happens.
  std::optional<Time> next_deadline() const;

  // Readers. Whoever reads sees what a call at `now` would meet: due expiries count as expired.
  PoolStats stats(Time now) const;
  std::vector<WorkerView> workers(Time now) const;
  // At most `limit` sessions with ids after `after` in id order; total counts all live ones.
  SessionList sessions(Time now, std::string_view after, std::size_t limit) const;
  // Oldest last death first; at most 4096.
  std::vector<QuarantinedRequest> quarantine(Time now) const;
  const Config& config() const;
  // Whether what an operator's event names is there: the session of SessionEnded, the request of
  // QuarantineReleased, the slot of RecycleRequested. True for every other event. O(1).
  bool knows(Time now, const Event& event) const;
  // Aborts on a violation; O(everything). The simulator calls it after each event.
  void check_invariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelback::core
