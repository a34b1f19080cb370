// Everything that can happen to the pool. Plain structs; string_views are borrowed for the call of
// handle() only. Every event is legal in every state: what has become meaningless is ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/id.h"
#include "base/settings.h"
#include "base/time.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::core {

// ---- callers

struct CallSubmitted {
  CallId call;  // chosen by the driver, never reused
  std::string_view function;
  std::string_view session;  // empty: stateless
  std::optional<Affinity> affinity;
  SessionOpen open = SessionOpen::kAny;
  std::optional<Fence> fence;
  std::optional<Duration> deadline;
  Priority priority = Priority::kNormal;
  bool idempotent = false;
  bool stream = false;  // the caller can take a stream
  std::string_view idempotency_key;
  std::uint64_t fingerprint = 0;  // of function, session, payload and attachments
  std::uint64_t payload_bytes = 0;
  std::uint64_t attachment_bytes = 0;
  std::string_view attachment_fault;   // why they cannot be sent, as a sentence; empty: they can
  std::string_view batch_key;          // only calls with the same go into a batch together
  std::uint64_t attachment_kinds = 0;  // kinds_of() them; likewise
  CallId parent;                       // whose code makes this call; 0: it is not nested
  // Of the session, if this call opens it: others know it by this birth, and want to hear of its
  // end (SessionGone). 0: the pool draws one.
  std::uint64_t birth = 0;
};
// The caller cancelled or left. A queued call ends at once; a running one gets the cancel flag.
struct CallCancelled {
  CallId call;
};

// ---- workers

// How workers are started now. Exec starts are limited to exec_concurrency at a time.
struct StartModeChanged {
  bool exec = false;
  std::uint32_t exec_concurrency = 1;
};
struct FunctionSpec {
  std::string name;
  bool idempotent = false;
  bool stream = false;
  bool interruptible = false;  // it leaves everything whole when it is interrupted
  std::optional<Duration> timeout;
  std::uint32_t max_workers = 0;  // bulkhead: at most so many workers run it; 0 = no limit
  std::uint32_t concurrency = 1;  // calls of it that one worker may run; 1: each runs alone there
  std::uint32_t batch = 0;        // calls that it takes at once, at most; below 2: each on its own
  Duration batch_wait{0};         // how long the first call of a batch waits for others
};
// The application's functions, from the first hello or the zygote; a reload may change them.
struct FunctionsAnnounced {
  std::vector<FunctionSpec> functions;
  bool health = false;  // there are health functions
};
struct WorkerReady {
  WorkerId worker;
};

enum class ReplyKind : std::uint8_t {
  kOk,
  kError,            // raised, or a result that cannot be sent
  kCancelled,        // ended because of the cancel flag or an interrupt
  kBadRequest,       // arguments that do not bind; nothing ran
  kUnknownFunction,  // nothing ran
};
enum class Snapshot : std::uint8_t { kNone, kTaken, kFailed };
struct WorkerReplied {
  WorkerId worker;
  CallId call;
  ReplyKind kind = ReplyKind::kOk;
  // The worker's task and thread sets equal those before the call. False: it is not reused if the
  // call was past its deadline.
  bool clean = true;
  // KeyboardInterrupt was raised in the call's code, at whatever line it was, by our interrupt.
  // What the code made of it does not matter: it may have caught it and returned.
  bool interrupted = false;
  std::uint64_t result_bytes = 0;  // what the driver holds of it; bounds what is kept for replays
  // Of the session's state after the call: whether it came along, and if the worker could not write
  // it down, why.
  Snapshot snapshot = Snapshot::kNone;
  std::string_view snapshot_error;
  // The function has asked for its worker's replacement; empty: it has not.
  std::string_view retire_reason;
  // False: the worker answered without having begun, so nothing of the call ran.
  bool started = true;
};
// The answer to CheckWorker, unless the worker exits first. A check that takes too long is answered
// twice: at its limit (not healthy, not over), and when it has ended.
struct WorkerChecked {
  WorkerId worker;
  bool healthy = true;
  bool over = true;         // false: it still runs
  std::string_view reason;  // what failed
};
// One item of a stream has come: its idle timeout starts again.
struct StreamMoved {
  WorkerId worker;
  CallId call;
};
// The caller of a stream takes so many more items, beside the first kStreamCredit of each attempt.
struct StreamGranted {
  CallId call;
  std::uint32_t items = 0;
};
// A call that a worker had begun, by its mark, and had not answered when it ended.
struct StartedCall {
  CallId call;
  // If the driver has only now looked at all of the call; 0: as it was submitted.
  std::uint64_t fingerprint = 0;
};
// The process is gone (or never was: death.cause "start_failed"). Everything it wrote has been
// reported before.
struct WorkerExited {
  WorkerId worker;
  Death death;
  std::vector<StartedCall> started;
  CallId culprit{};  // the one call whose code the thread ran that has ended it; 0: not known

  const StartedCall* find(CallId call) const {
    for (const StartedCall& each : started) {
      if (each.call == call) return &each;
    }
    return nullptr;
  }
};

// The application could not be loaded (as a failed start, death.cause "start_failed"), and no start
// was there to fail. Only a pool that keeps no worker need be told.
struct LoadFailed {
  Death death;
};

// The worker's event loop turns: it has answered a ping, which a call that runs beside others is
// cancelled with, or it turns again after a LoopBlocked.
struct LoopTurned {
  WorkerId worker;
};
// The worker's event loop does not turn. It comes once for a turn that takes 100 ms, or
// workers.loop_lag_warn if that is less; and once more when the turn takes workers.loop_lag_warn.
struct LoopBlocked {
  WorkerId worker;
  CallId by;        // whose code the loop runs; 0: it is not known
  Time since;       // the turn's begin
  Duration lag{0};  // since then, without time in which the worker had no processor
};

// The chaos laboratory ends this worker: whatever call it dies with is not to blame, so no request
// is quarantined for it (kills by the laboratory never count). No such worker: nothing.
struct DeathOrdered {
  WorkerId worker;
};

// ---- snapshots

// The answer to SaveSession; not taken: why.
struct SessionSaved {
  WorkerId worker;
  std::string_view session;
  std::uint64_t birth = 0;
  bool taken = false;
  std::string_view error;
};
// The answer to KeepSnapshot and to DropSnapshot: what they named. kept: this very snapshot is
// stored, and may be asked for by its number.
struct SnapshotSettled {
  WorkerId worker;  // of a KeepSnapshot without a call
  CallId call;
  std::string session;
  std::uint64_t birth = 0;
  std::uint64_t number = 0;
  bool kept = false;    // stored; of a DropSnapshot: never
  bool failed = false;  // the store could not do what it was asked to; nothing usable is in it
};
// Instead of a reply: nothing of the call was sent, since the snapshot that it restores could not
// be had. gone: nor ever will be.
struct RestoreFailed {
  WorkerId worker;
  CallId call;
  bool gone = true;
};
// What others have left in the store: an earlier run of the pool, or another pool that gave it up.
struct FoundSession {
  std::string id;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;  // of its last home
  std::uint64_t number = 0;
  Affinity mode = Affinity::kStrictQueue;
  Duration age{0};
  Duration idle{0};
  bool watched = false;  // its end is told by SessionGone
  // The last answer of the session, if its call had an idempotency key: the driver holds it as the
  // outcome of `answered`, a call id of its own.
  std::string key;
  std::uint64_t fingerprint = 0;
  CallId answered;
  OutcomeKind kind = OutcomeKind::kOk;
  std::uint64_t answer_bytes = 0;
};
struct SessionsFound {
  std::vector<FoundSession> sessions;
  std::vector<std::string> lost;  // what is left of them is damaged
};
// The session is another pool's from now on, or may be. Its calls that wait here end session_lost
// with `detail`, effect none. One that runs, or whose answer waits for the store, does not end `ok`
// or `error`, since its state is kept by nobody: it ends session_lost with its effect. No such
// session: nothing happens.
struct SessionTaken {
  std::string_view session;
  std::uint64_t birth = 0;  // 0: whichever is open
  std::string_view detail;
  // The state may be kept after all: that call ends `timeout`, effect maybe, as with a slow store.
  bool may_be_kept = false;
};

// ---- operators

struct ConfigChanged {
  Settings settings;
};
struct SessionEnded {  // DELETE /v1/sessions/{id}
  std::string_view session;
};
// DELETE /v1/quarantine/{fingerprint}; no entry: nothing happens.
struct QuarantineReleased {
  std::uint64_t fingerprint = 0;
};
// The slot's worker is replaced; one that starts, once it is ready.
struct RecycleRequested {
  std::uint32_t slot = 0;
};
// New code is loaded: replace every older worker, all at once, replacement first. Answered by
// Reloaded.
struct ReloadRequested {};
// Refuse new calls, finish the accepted ones until `now + limit`, then stop every worker.
struct DrainRequested {
  Duration limit{0};
};
// Time has passed.
struct Tick {};

using Event =
    std::variant<CallSubmitted, CallCancelled, StartModeChanged, FunctionsAnnounced, WorkerReady,
                 WorkerReplied, StreamMoved, StreamGranted, WorkerExited, WorkerChecked, LoopTurned,
                 LoopBlocked, DeathOrdered, SessionSaved, SnapshotSettled, RestoreFailed,
                 SessionsFound, SessionTaken, ConfigChanged, SessionEnded, QuarantineReleased,
                 RecycleRequested, ReloadRequested, DrainRequested, Tick, LoadFailed>;

}  // namespace keelback::core
