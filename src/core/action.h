// Everything the pool asks of its driver. Plain structs, performed in order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/id.h"
#include "base/time.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::core {

// Why a session's state ended; the worker's on_session_end hook is told the same word. A session
// that is lost had its state in a worker that is dead: there is nobody to tell.
enum class SessionEndReason : std::uint8_t { kExpired, kEnded, kDrained, kMoved };

// What a dispatched call needs to know of its session.
struct SessionTicket {
  std::string id;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  bool opens = false;  // first call of this epoch on this worker: run on_session_open
  bool saves = false;  // the answer is to bring the session's state along
  // The snapshot that this epoch's state is made from first, instead of opening it; 0: none.
  std::uint64_t restore = 0;
};

// Where a call stands in its batch. The calls of a batch are dispatched one after another, in one
// handle(), to a ready, idle worker, which gets nothing else until all have ended.
struct BatchPlace {
  std::uint32_t size = 0;   // 0: it is in no batch
  std::uint32_t index = 0;  // from 0
};
// Hand the call to the worker. One that runs alone only ever to a ready, idle worker; others to a
// ready worker that runs only such calls.
struct Dispatch {
  WorkerId worker;
  CallId call;
  std::uint32_t attempt = 1;  // from 1
  bool alone = true;          // no other call runs there until this one has ended; not in a batch
  BatchPlace batch;
  Time deadline;
  std::optional<SessionTicket> session;
};
// The call has ended; forget it. The driver adds what it holds: result bytes, Python error, dump.
// After a TellCaller nobody waits for this outcome: the driver only keeps it, if `retain` says so.
struct Resolve {
  CallId call;
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  WorkerId worker;  // the last one; generation 0: never dispatched
  std::uint32_t attempts = 0;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  Duration queued{0};
  Duration ran{0};
  std::optional<Duration> retry_after;
  std::string message;         // empty for ok
  std::optional<Death> death;  // for worker_died, not_ready, session_lost
  bool key_reused = false;     // bad_request: the idempotency key is another request's
  std::string_view reason;     // overloaded: Outcome::reason. Static storage
  bool retain = false;         // keep a copy of the outcome until ForgetOutcome{call}
};
// The call's deadline has passed, and its caller hears `answer` now. The call runs on: its worker
// still answers it, and a Resolve follows. An effect of `maybe` is the core's; a driver that knows
// that the call has not started and never will says `none` and `if_never_started` instead.
struct TellCaller {
  Resolve answer;
  std::string if_never_started;  // empty: an earlier attempt may have started
};
// The call ends as `of` did (same idempotency key): hand it a copy of the retained outcome. The
// last word on `call`, like Resolve; `kind` and `effect` are those of the copy.
struct ReplayOutcome {
  CallId call;
  CallId of;
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
};
// Drop the retained outcome of this call.
struct ForgetOutcome {
  CallId call;
};

// ---- the kill ladder, one rung after another
struct CancelCall {  // set the flag; task.cancel() for async functions
  WorkerId worker;
  CallId call;
  Time dispatched;  // when this worker was given the call: what it started since is the call's
};
struct InterruptCall {  // KeyboardInterrupt, armed between the call's start and end marks
  WorkerId worker;
  CallId call;
};
struct DumpWorker {  // ask for the stacks of all Python threads
  WorkerId worker;
  CallId call;
};
struct KillWorker {  // SIGKILL the group and known descendants
  WorkerId worker;
};

// ---- workers
struct StartWorker {
  WorkerId worker;
};
// Idle: ask it to leave; it ends its sessions (reason drained) and exits by itself, else KillWorker
// follows.
struct StopWorker {
  WorkerId worker;
};
// The process would not die. The slot refills; the driver counts it and keeps watching.
struct AbandonWorker {
  WorkerId worker;
};

// ---- sessions
struct EndSession {  // tell the worker: on_session_end(reason), drop its state
  WorkerId worker;
  std::string session;
  std::uint64_t birth = 0;
  SessionEndReason reason = SessionEndReason::kEnded;
};

// A session that others know of is over here: nothing of it is left but a tombstone.
struct SessionGone {
  enum class How : std::uint8_t {
    kEnded,    // by request, it was taken, or nothing ever ran in it
    kExpired,  // its next caller is told
    kLost,     // likewise
  };
  std::string session;
  std::uint64_t birth = 0;
  How how = How::kEnded;
};

// ---- snapshots. The store of them is the driver's; see pool.h on what it owes.
// Ask the idle worker for the state of a session.
struct SaveSession {
  WorkerId worker;
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
};
// Store the state that has just been handed in with WorkerReplied{call} or, without a call, with
// SessionSaved{worker, session}, in place of the session's older one.
struct KeepSnapshot {
  WorkerId worker;
  CallId call;  // whose outcome waits for it; 0: none
  std::string session;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;  // never reused
  Affinity mode = Affinity::kStrictQueue;
  Duration age{0};  // of the session
};
// What is stored of the session is out of date, or it has ended. number 0: nobody waits for it.
struct DropSnapshot {
  CallId call;
  std::string session;
  std::uint64_t birth = 0;
  std::uint64_t number = 0;
};

// Run the application's health functions in the idle worker. Answered by WorkerChecked.
struct CheckWorker {
  WorkerId worker;
};

// The drain is over: nothing in flight, no worker left.
struct Drained {};
// A reload is over: only workers with the latest code are given stateless calls and new sessions.
// error: it is not yet, for this reason; the pool goes on trying, and may say so again.
struct Reloaded {
  std::string error;
};

// Something an operator wants to read; never needed for correctness.
struct Notice {
  enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError } level = Level::kInfo;
  std::string text;
  // If it names a worker, the driver adds the stack of that worker's event loop, if that can be had
  // while the loop does not turn.
  WorkerId stack_of{};
};

using Action = std::variant<Dispatch, Resolve, TellCaller, ReplayOutcome, ForgetOutcome, CancelCall,
                            InterruptCall, DumpWorker, KillWorker, StartWorker, StopWorker,
                            AbandonWorker, EndSession, SessionGone, SaveSession, KeepSnapshot,
                            DropSnapshot, CheckWorker, Drained, Reloaded, Notice>;
using Actions = std::vector<Action>;

}  // namespace keelback::core
