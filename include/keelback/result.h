// How a call comes back to a C++ caller: a Reply or a Failure.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <string>

#include "keelback/outcome.h"

namespace keelback {

// The function returned.
struct Reply {
  std::string payload;      // its result, JSON by default
  Attachments attachments;  // {"$attachment": name} in the JSON stands for the one of that name
  WorkerRef worker;         // the one that ran it
  std::uint64_t birth = 0;  // its session's; 0 without a session
  std::uint32_t epoch = 0;
  std::uint32_t attempts = 0;
  std::chrono::nanoseconds queued{0};  // from acceptance to the last dispatch
  std::chrono::nanoseconds ran{0};     // from the last dispatch to the result
};

// Every other outcome, as outcome.h describes it: kind, effect, message, python, death, dump,
// retry_after, worker, attempts … `payload` is empty.
struct Failure : Outcome {
  // "timeout (maybe): …" with what Python or the kernel said; one line.
  std::string describe() const;
};

using Result = std::expected<Reply, Failure>;

}  // namespace keelback
