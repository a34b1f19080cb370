// One function's circuit breaker: after `failures` within `window` it is open for `open_for`, then
// lets one probe through at a time. Failures are deaths of the worker and running timeouts at the
// function's own limit; that the function raised is an answer, not a failure.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/time.h"

namespace keelback::core {

class Breaker {
 public:
  struct Limits {
    std::uint32_t failures;  // 0: off
    Duration window;
    Duration open_for;
  };
  enum class Result : std::uint8_t {
    kSuccess,  // the worker answered
    kFailure,
    kNeutral,  // says nothing about the function: refused, cancelled, never started
  };

  // How long to stay away; nullopt: come in. Never blocks, changes nothing.
  std::optional<Duration> refusal(Time now, const Limits& limits) const;
  // A call comes in: true if it is the half-open probe, whose settle() must follow.
  // Requires: !refusal(now).
  [[nodiscard]] bool enter(const Limits& limits);
  // How a call ended. `probe` is what enter() said; the permit comes back whatever the result.
  void settle(Time now, Result result, bool probe, const Limits& limits);
  bool open() const { return open_; }

 private:
  bool open_ = false;
  bool probing_ = false;
  Time opened_at_{};
  std::deque<Time> failures_;  // within the window, at most limits.failures
};

}  // namespace keelback::core
