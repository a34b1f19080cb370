// The monotonic clock, as our Time: what CLOCK_MONOTONIC says, so workers read the same.
#pragma once

#include <chrono>

#include "base/time.h"

namespace keelback::os {

inline Time monotonic_now() { return Time{std::chrono::steady_clock::now().time_since_epoch()}; }

}  // namespace keelback::os
