// Time as the core knows it: nanoseconds since an epoch that the driver chose. CoreClock has no
// now(): whoever needs the time is given it.
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

// That long after the epoch: where it is known (simulations, tests).
constexpr Time at(Duration since_epoch) { return Time{since_epoch}; }

}  // namespace keelback
