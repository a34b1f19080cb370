// How long a slot waits before its next start. A worker that lived is replaced at once; one that
// never became ready, or died young too often, is not: the pause doubles per failure in a row, and
// the pool as a whole has a budget of immediate replacements.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/prng.h"
#include "base/time.h"

namespace keelback::core {

class CrashLoop {
 public:
  // A worker that was ready for this long has lived.
  static constexpr Duration kLived = std::chrono::seconds(10);
  static constexpr Duration kPauseMin = std::chrono::milliseconds(100);
  static constexpr Duration kPauseMax = std::chrono::seconds(30);

  // One slot's failures in a row.
  struct Streak {
    std::uint32_t count = 0;
  };
  struct Life {
    bool was_ready = false;
    Duration ready_for{0};
  };
  // The pause before the slot's next start, after a worker of it ended on its own.
  Duration after_exit(Time now, const Life& life, Streak& streak, std::uint32_t workers,
                      Prng& prng);

 private:
  bool take_free(Time now, std::uint32_t workers);
  double tokens_ = -1;  // immediate replacements left; -1: not yet filled
  Time refilled_{};
};

}  // namespace keelback::core
