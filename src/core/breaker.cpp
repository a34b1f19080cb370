#include "core/breaker.h"

#include <algorithm>

namespace keelback::core {

std::optional<Duration> Breaker::refusal(Time now, const Limits& limits) const {
  if (limits.failures == 0 || !open_) return std::nullopt;
  const Time half_open = opened_at_ + limits.open_for;
  if (now < half_open) return half_open - now;
  // The probe's end decides; nobody knows when that is.
  if (probing_) return std::max(limits.open_for, Duration{1});
  return std::nullopt;
}

bool Breaker::enter(const Limits& limits) {
  if (limits.failures == 0 || !open_) return false;
  probing_ = true;
  return true;
}

void Breaker::settle(Time now, Result result, bool probe, const Limits& limits) {
  if (probe) probing_ = false;
  if (limits.failures == 0) {
    open_ = false;
    failures_.clear();
    return;
  }
  if (result == Result::kNeutral) return;
  if (result == Result::kSuccess) {
    // A straggler from before the opening proves nothing about now; only the probe closes.
    if (probe) {
      open_ = false;
      failures_.clear();
    }
    return;
  }
  if (probe) {
    opened_at_ = now;
    return;
  }
  if (open_) return;
  while (!failures_.empty() && now - failures_.front() >= limits.window) failures_.pop_front();
  failures_.push_back(now);
  while (failures_.size() > limits.failures) failures_.pop_front();
  if (failures_.size() == limits.failures) {
    open_ = true;
    opened_at_ = now;
    failures_.clear();
  }
}

}  // namespace keelback::core
