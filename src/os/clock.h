// The monotonic clock, as our Time: what CLOCK_MONOTONIC says, so workers read the same. And the
// time of day, for what outlives a start of the machine.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/time.h"

namespace keelback::os {

inline Time monotonic_now() { return Time{std::chrono::steady_clock::now().time_since_epoch()}; }

// Milliseconds since 1970. It can be set, and go back.
inline std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace keelback::os
