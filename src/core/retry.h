// What becomes of a call whose worker died. One pure decision, and the budget it is held to.
#pragma once

#include <array>
#include <cstdint>

#include "base/prng.h"
#include "base/time.h"

namespace keelback::core {

// Retries within any 10 s may be `share` of the calls accepted in them, or 3 a second if that is
// more, so that a failing application is not hit harder the more it fails.
class RetryBudget {
 public:
  void count_call(Time now) { ++bucket(now).calls; }
  // Takes one retry if there is one.
  bool take(Time now, double share);

 private:
  static constexpr int kSeconds = 10;
  static constexpr double kFloorPerSecond = 3;
  struct Bucket {
    std::int64_t second = -1;
    std::uint64_t calls = 0;
    std::uint64_t retries = 0;
  };
  Bucket& bucket(Time now);
  std::array<Bucket, kSeconds> ring_{};
};

// An attempt that ended with its worker.
struct LostAttempt {
  bool started = false;  // the worker's mark named it
  bool has_session = false;
  bool session_established = false;  // user code had run for the session on that worker
  bool session_restorable = false;   // a snapshot of its last acknowledged call exists
  bool idempotent = false;
  bool innocent = false;  // others ran beside it, and it is not known to be the cause
  bool cancelled = false;
  bool quarantined = false;      // this death was one too many for its fingerprint
  std::uint32_t dispatches = 0;  // so far
  std::uint32_t retries = 0;     // so far
  std::uint32_t retries_max = 0;
};

enum class AfterDeath : std::uint8_t {
  kRedispatch,   // nothing ran, or it is innocent and may run twice: again at once, silently
  kRetry,        // it may have run and may run twice: again after a pause, if the budget allows
  kSessionLost,  // nothing ran, but the state it needs is gone
  kFail,         // worker_died
  kCancelled,    // nothing ran, and nobody waits
};
AfterDeath after_death(const LostAttempt& attempt);

// The pause before retry number `retry` (from 1): 10 ms doubling up to 1 s, half of it by chance.
Duration retry_pause(std::uint32_t retry, Prng& prng);

// A call that kills its worker before it starts is given up after so many silent dispatches.
inline constexpr std::uint32_t kDispatchesMax = 16;

}  // namespace keelback::core
