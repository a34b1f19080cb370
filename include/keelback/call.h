// What a caller asks for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "keelback/attachment.h"

namespace keelback {

enum class Priority : std::uint8_t { kHigh, kNormal, kLow };

// What ties a session to its worker; fixed when the session opens.
enum class Affinity : std::uint8_t {
  kStrictQueue,     // wait for its worker
  kStrictFailFast,  // session_busy if its worker is busy
  kHint,            // prefer its worker; if another one serves it, the session moves (epoch + 1)
};

enum class SessionOpen : std::uint8_t {
  kAny,       // open it if it is not there
  kNew,       // bad_request if it is there
  kExisting,  // session_expired / session_lost / bad_request if it is not there
};

// The caller accepts the session only with this birth and epoch. birth 0: only the epoch counts.
struct Fence {
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
};

struct Call {
  std::string function;
  std::string payload = "[]";        // JSON: an object is keywords, an array positional
  std::string session;               // empty: stateless; at most 256 bytes
  std::optional<Affinity> affinity;  // default: sessions.mode
  SessionOpen open = SessionOpen::kAny;
  std::optional<Fence> expect_epoch;
  std::optional<std::chrono::nanoseconds>
      deadline;  // of the whole call, queue included; default: the function's, else calls.deadline
  Priority priority = Priority::kNormal;
  bool idempotent = false;      // it may run twice; the function may say so too
  std::string idempotency_key;  // same key and body: same answer, for calls.idempotency_ttl
  Attachments attachments;      // beside the payload; at most attachments.max bytes together
  std::string traceparent;      // W3C trace context, handed to the worker as it is
  std::string batch_key;        // of a function that takes batches: only calls with the same go
                                // together; at most 256 bytes
  std::uint64_t parent = 0;  // of a call that a host function makes for a request of Python code:
                             // HostRequest::call. It ends at the latest with that call, and is
                             // refused where that call would wait for itself. 0: there is none
};

}  // namespace keelback
