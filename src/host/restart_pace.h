// How long the zygote or the guard that has died waits before its next start: not at all, unless it
// dies again and again. A budget of immediate restarts fills up with time, so deaths that have
// nothing to do with each other cost no pause, and a pause is never the reason for the next one:
// what has waited for ten seconds cannot have lived for ten.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace keelback::host {

class RestartPace {
 public:
  static constexpr double kFreeMax = 5;
  static constexpr Duration kFreeEvery = std::chrono::seconds(5);
  static constexpr Duration kPauseMin = std::chrono::milliseconds(100);
  static constexpr Duration kPauseMax = std::chrono::seconds(10);

  Duration after_death(Time now) {
    refill(now);
    if (free_ >= kFreeMax) streak_ = 0;
    if (free_ < 1) return next_pause();
    free_ -= 1;
    return Duration{0};
  }
  // It could not even be started.
  Duration after_failure(Time now) {
    refill(now);
    return next_pause();
  }

 private:
  void refill(Time now) {
    if (refilled_) {
      const std::chrono::duration<double> since = now - *refilled_;
      free_ = std::min(kFreeMax, free_ + since / kFreeEvery);
    }
    refilled_ = now;
  }
  Duration next_pause() {
    streak_ = std::min(streak_ + 1, 16U);
    return std::min<Duration>(kPauseMax, kPauseMin * (1U << (streak_ - 1)));
  }

  double free_ = kFreeMax;
  std::optional<Time> refilled_;
  std::uint32_t streak_ = 0;  // pauses in a row, each twice as long as the one before
};

}  // namespace keelback::host
