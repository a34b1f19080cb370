// How a call ends. Every call that the pool has seen ends in exactly one outcome, and the outcome
// says whether the function may have run. The names are the same words in C++, HTTP, metrics and
// the laboratories' reports.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "keelback/attachment.h"
#include "keelback/worker.h"

namespace keelback {

enum class OutcomeKind : std::uint8_t {
  kOk,               // the function returned
  kError,            // the function raised, or its result could not be sent
  kTimeout,          // the deadline passed
  kCancelled,        // the caller left or cancelled
  kWorkerDied,       // the worker died while it had the call
  kOverloaded,       // queue full, or its delay too high
  kCircuitOpen,      // this function's breaker is open
  kQuarantined,      // this same request has killed workers before
  kSessionBusy,      // strict_fail_fast, and the session's worker is busy
  kSessionExpired,   // idle_ttl or max_age is over
  kSessionLost,      // its worker died and there is no usable snapshot
  kSessionLimit,     // the session table is full
  kStaleEpoch,       // the caller's fence names a birth or an epoch that is gone
  kUnknownFunction,  // no such function in the application
  kBadRequest,       // the arguments do not bind, or do not fit the function's annotations
  kTooLarge,         // the payload is over calls.payload_max
  kNotReady,         // a start failed and no worker is up
  kShuttingDown,     // draining; this stays the last one
};
inline constexpr int kOutcomeKinds = static_cast<int>(OutcomeKind::kShuttingDown) + 1;

// Whether the function may have run: none (certainly not), maybe, done (it returned or raised).
enum class Effect : std::uint8_t { kNone, kMaybe, kDone };

// "ok", "worker_died", … ; "none", "maybe", "done". Static storage.
std::string_view to_string(OutcomeKind kind);
std::string_view to_string(Effect effect);
std::optional<OutcomeKind> outcome_kind_from(std::string_view name);
// The HTTP status of this kind. A whole Outcome may have another one: see the function below.
int http_status(OutcomeKind kind);

// What the function raised, or why it was not called.
struct PythonError {
  std::string type;       // "ValueError", with its module unless that is builtins
  std::string message;    // str(exception)
  std::string traceback;  // as Python prints it
  // kBadRequest, arguments that do not fit the function's annotations: where and why, a JSON array
  // of {"loc": ["item", "price"], "msg": "…", "type": "float_type"}. Empty otherwise.
  std::string errors{};
};

// What a call was to the end of its worker, if that ran several calls.
enum class DeathRole : std::uint8_t {
  kNone,       // the call ran alone, had not begun, or no call is the cause
  kCulprit,    // it is the cause
  kBystander,  // another call is the cause
  kSuspect,    // one of the calls is, nobody knows which
};
std::string_view to_string(DeathRole role);  // "", "culprit", "bystander", "suspect"

// How a worker ended. At most one of signal and exit_code is set. Neither is set if the status is
// unknown, because the process that reaps workers died too.
struct Death {
  std::string cause;  // "signal", "exit", "oom", "start_failed", "killed", "abandoned", "unknown"
  std::optional<int> signal;
  std::optional<int> exit_code;
  bool oom_suspected = false;         // SIGKILL that we did not send
  std::string step;                   // of a failed start: "fork", "connect", "hello", "setup"
  std::string detail;                 // one sentence for people
  std::string stderr_tail;            // the last lines it wrote, bounded
  DeathRole role = DeathRole::kNone;  // of the call that ended with it
};

struct Outcome {
  std::uint64_t call = 0;  // the pool's number of the call; never reused
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  std::string payload;      // the result's bytes (JSON by default) for kOk; empty otherwise
  Attachments attachments;  // what the function returned beside its JSON; empty unless kOk
  std::string message;      // one sentence for people; empty for kOk
  std::optional<PythonError> python;
  std::optional<Death> death;
  // For a call that timed out: the stacks of all Python threads, as text. With calls.answer_at =
  // deadline they are taken after the caller has got its answer; then Pool::dump() returns them.
  std::string dump;

  WorkerRef worker;            // the last worker the call was given to
  std::uint32_t attempts = 0;  // how often it was given to a worker
  std::uint64_t birth = 0;     // its session's birth and epoch; 0 without a session
  std::uint32_t epoch = 0;
  std::chrono::nanoseconds queued{0};  // from acceptance to the last dispatch
  std::chrono::nanoseconds ran{0};     // from the last dispatch to the outcome
  std::optional<std::chrono::nanoseconds> retry_after;
  bool key_reused = false;  // kBadRequest: its idempotency key was used for another request
  // kOverloaded of a nested call: "would_deadlock", if it would wait for its own callers. kNotReady
  // of a call that another node of a cluster has sent here: "not_owner", if this node does not own
  // its session. Else empty.
  std::string reason{};

  bool ok() const { return kind == OutcomeKind::kOk; }
};

// The status of its kind; 422 if its idempotency key was used for another request, or if arguments
// do not fit the function's annotations; 421 if another node sent it here in vain.
int http_status(const Outcome& outcome);

}  // namespace keelback
