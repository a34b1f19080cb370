#include "core/crash_loop.h"

#include <algorithm>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr double kTokensPerWorker = 4;
constexpr double kTokensMin = 8;
constexpr double kTokensPerSecond = 1;

}  // namespace

bool CrashLoop::take_free(Time now, std::uint32_t workers) {
  const double most = std::max(kTokensMin, kTokensPerWorker * workers);
  if (tokens_ < 0) {
    tokens_ = most;
  } else {
    const double seconds = std::chrono::duration<double>(now - refilled_).count();
    tokens_ = std::min(most, tokens_ + seconds * kTokensPerSecond);
  }
  refilled_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

Duration CrashLoop::after_exit(Time now, const Life& life, Streak& streak, std::uint32_t workers,
                               Prng& prng) {
  if (life.was_ready && life.ready_for >= kLived) {
    streak.count = 0;
    return 0s;
  }
  if (life.was_ready && take_free(now, workers)) return 0s;
  ++streak.count;
  Duration pause = kPauseMin;
  for (std::uint32_t i = 1; i < streak.count && pause < kPauseMax; ++i) pause *= 2;
  pause = std::min(pause, kPauseMax);
  return pause / 2 + Duration{static_cast<Duration::rep>(
                         prng.below(static_cast<std::uint64_t>(pause.count() / 2 + 1)))};
}

}  // namespace keelback::core
