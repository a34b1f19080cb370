// What a call costs in the core alone - decided, not performed - with so many workers, sessions and
// waiting calls. Real time, no processes: the curve that must stay flat for a pool to grow.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace keelback::bench {

struct CoreLoad {
  std::uint32_t workers = 2;
  std::uint32_t sessions = 0;  // open; each call goes to one of them by chance. 0: stateless
  std::uint32_t waiting = 0;   // calls that wait in front
};

// Nanoseconds a call, from submission to resolution. Builds the state, then measures for `length`.
double core_call_ns(const CoreLoad& load, Duration length);

}  // namespace keelback::bench
