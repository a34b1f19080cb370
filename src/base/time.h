// Time in the core: nanoseconds since an epoch that the driver chose. CoreClock has no now(): code
// that needs the time gets it as an argument.
#pragma once

#include <chrono>

namespace keelback {

using Duration = std::chrono::nanoseconds;

struct CoreClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<CoreClock>;
  static constexpr bool is_steady = true;
};
using Time = CoreClock::time_point;

// The time at this distance from the epoch. For simulations and tests, which know the epoch.
constexpr Time at(Duration since_epoch) { return Time{since_epoch}; }

}  // namespace keelback
