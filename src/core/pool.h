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

namespace keelback::core {

enum class WorkerState : std::uint8_t { kStarting, kReady, kBusy, kSuspect, kDraining, kDead };
std::string_view to_string(WorkerState state);

// ---- what can be read off the pool at any moment; one call, one consistent picture

struct Stats {
  bool ready = false;
  std::vector<std::string> reasons;  // why not ready; empty when ready
  // Ready, but not whole: why slots stay empty. Empty when no start has failed since the last good
  // one.
  std::string failing;
  // The first load has failed: every worker's start did, and none has ever been ready. Null: no.
  std::shared_ptr<const Death> load_failure;
  struct {
    std::uint32_t starting = 0, ready = 0, busy = 0, suspect = 0, draining = 0;
  } workers;
  std::uint32_t queue_depth = 0;
  Duration queue_delay{0};  // how long the oldest waiting call has waited
  std::uint64_t accepted = 0;
  std::uint64_t in_flight = 0;                 // queued + running + backing off, not yet told
  std::uint64_t late = 0;                      // told at their deadline, and still running
  std::uint64_t outcomes[kOutcomeKinds] = {};  // accepted = in_flight + their sum
  struct {
    std::uint64_t active = 0, opened = 0, expired = 0, lost = 0, restored = 0, ended = 0, moved = 0,
                  evicted = 0;
  } sessions;
  std::uint64_t restarts = 0;  // workers started to replace one that died
  std::uint64_t retries = 0;
  std::uint64_t quarantined = 0;       // fingerprints held now
  std::uint64_t attachment_bytes = 0;  // that unfinished calls carry
  std::uint64_t abandoned = 0;
  struct {
    std::uint64_t kept = 0, failed = 0;  // failed: not written down by its worker, or not stored
  } snapshots;
  struct {
    std::uint64_t failed = 0;   // checks
    std::uint64_t retired = 0;  // workers that a function has given up
  } health;
  bool draining = false;
  // Workers that have been replaced and serve only the sessions that they hold.
  struct {
    std::uint32_t workers = 0;
    std::uint64_t sessions = 0;
    Duration until{0};  // then the last of them ends
  } leaving;
};

struct WorkerView {
  WorkerId worker;
  WorkerState state = WorkerState::kStarting;
  std::uint64_t calls = 0;     // dispatched to this generation
  std::uint32_t sessions = 0;  // bound to it
  Duration age{0};             // since its start
  CallId call;                 // running now
  std::string function;        // of that call
  std::string sick;            // why it is to be replaced; empty: it is well
};

struct SessionView {
  std::string id;
  WorkerId worker;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  Duration idle{0};
  Duration age{0};
  std::string_view state;  // "idle", "queued", "running"
};

// A request that is refused because it killed workers before.
struct QuarantineView {
  std::uint64_t fingerprint = 0;
  std::string function;
  std::string session;       // empty: stateless
  std::uint32_t deaths = 0;  // started attempts that killed their worker, in a row
  Duration remaining{0};     // until it is let go by itself
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
  Stats stats(Time now) const;
  std::vector<WorkerView> workers(Time now) const;
  // At most `limit` sessions with ids after `after` in id order; total counts all live ones.
  struct SessionPage {
    std::uint64_t total = 0;
    std::vector<SessionView> items;
    std::optional<std::string> next;  // pass as `after`
  };
  SessionPage sessions(Time now, std::string_view after, std::size_t limit) const;
  // Oldest last death first; at most 4096.
  std::vector<QuarantineView> quarantine(Time now) const;
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
