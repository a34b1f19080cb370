#include "core/retry.h"

#include <algorithm>
#include <chrono>

namespace keelback::core {

using namespace std::chrono_literals;

RetryBudget::Bucket& RetryBudget::bucket(Time now) {
  const std::int64_t second = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch() / 1s;
  const std::int64_t slot = ((second % kSeconds) + kSeconds) % kSeconds;
  Bucket& bucket = ring_[static_cast<std::size_t>(slot)];
  if (bucket.second != second) bucket = Bucket{second, 0, 0};
  return bucket;
}

bool RetryBudget::take(Time now, double share) {
  Bucket& current = bucket(now);
  std::uint64_t calls = 0, retries = 0;
  for (const Bucket& bucket : ring_) {
    if (bucket.second > current.second - kSeconds && bucket.second <= current.second) {
      calls += bucket.calls;
      retries += bucket.retries;
    }
  }
  const double allowed = std::max(share * static_cast<double>(calls), kFloorPerSecond * kSeconds);
  if (static_cast<double>(retries) + 1 > allowed) return false;
  ++current.retries;
  return true;
}

AfterDeath after_death(const LostAttempt& attempt) {
  const bool state_gone =
      attempt.has_session && attempt.session_established && !attempt.session_restorable;
  if (!attempt.started) {
    if (attempt.cancelled) return AfterDeath::kCancelled;
    if (state_gone) return AfterDeath::kSessionLost;
    return attempt.dispatches < kDispatchesMax ? AfterDeath::kRedispatch : AfterDeath::kFail;
  }
  // The started call itself may have built state in a session it opened: that is gone too.
  const bool session_ok = !attempt.has_session || attempt.session_restorable;
  const bool may = attempt.idempotent && !attempt.cancelled && !attempt.quarantined && session_ok;
  if (may && attempt.innocent) return AfterDeath::kRedispatch;
  return may && attempt.retries < attempt.retries_max ? AfterDeath::kRetry : AfterDeath::kFail;
}

Duration retry_pause(std::uint32_t retry, Prng& prng) {
  Duration pause = 10ms;
  for (std::uint32_t i = 1; i < retry && pause < 1s; ++i) pause *= 2;
  pause = std::min<Duration>(pause, 1s);
  return pause / 2 + Duration{static_cast<Duration::rep>(
                         prng.below(static_cast<std::uint64_t>(pause.count() / 2 + 1)))};
}

}  // namespace keelback::core
