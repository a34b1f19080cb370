#include "core/breaker.h"

#include <algorithm>
#include <bit>

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
    return forget();
  }
  if (result == Result::kNeutral) return;
  const bool failed = result == Result::kFailure;
  if (probe) {
    open_ = failed;
    if (failed) opened_at_ = now;
    return forget();
  }
  // A straggler from before the opening proves nothing about now; only the probe closes.
  if (open_) return;
  count(now, failed, limits.window);
  if (!failed) return;
  const Tally latest = window_.ended >= kLast
                           ? window_
                           : Tally{remembered_, static_cast<unsigned>(std::popcount(last_))};
  const double share = static_cast<double>(latest.failed) / static_cast<double>(latest.ended);
  if (latest.failed < limits.failures || share < limits.ratio) return;
  open_ = true;
  opened_at_ = now;
  forget();
}

void Breaker::count(Time now, bool failed, Duration window) {
  if (now >= part_ends_) turn(now, window);
  ++parts_[part_].ended;
  ++window_.ended;
  parts_[part_].failed += failed;
  window_.failed += failed;
  last_ = ((last_ << 1U) | static_cast<std::uint32_t>(failed)) & ((1U << kLast) - 1);
  remembered_ = std::min(remembered_ + 1, kLast);
}

// The parts that are older than the window leave.
void Breaker::turn(Time now, Duration window) {
  const Duration width = std::max(window / kParts, Duration{1});
  const auto passed = static_cast<std::uint64_t>((now - part_ends_) / width) + 1;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(passed, kParts); ++i) {
    part_ = (part_ + 1) % kParts;
    window_.ended -= parts_[part_].ended;
    window_.failed -= parts_[part_].failed;
    parts_[part_] = {};
  }
  part_ends_ = now + width;
}

void Breaker::forget() {
  if (window_.ended == 0 && remembered_ == 0) return;
  parts_ = {};
  window_ = {};
  last_ = 0;
  remembered_ = 0;
}

}  // namespace keelback::core
