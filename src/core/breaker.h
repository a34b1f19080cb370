// One function's circuit breaker. It looks at the function's latest calls: those that ended within
// `window`, but at least the last 20. It opens when at least `failures` of them failed, and at
// least the share `ratio`. It stays open for `open_for`, then lets one probe through at a time.
// Failures are deaths of the worker and running timeouts at the function's own limit; that the
// function raised is an answer, not a failure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace keelback::core {

class Breaker {
 public:
  struct Limits {
    std::uint32_t failures;  // 0: off
    double ratio;            // from 0 to 1
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
  struct Tally {
    std::uint64_t ended = 0;
    std::uint64_t failed = 0;
  };
  // A window is counted in so many parts; the oldest leaves as a whole. So what is counted covers
  // between 95 and 100 % of the window.
  static constexpr int kParts = 20;
  static constexpr unsigned kLast = 20;

  void count(Time now, bool failed, Duration window);
  void turn(Time now, Duration window);
  void forget();

  bool open_ = false;
  bool probing_ = false;
  Time opened_at_{};
  std::array<Tally, kParts> parts_{};
  std::size_t part_ = 0;     // the one that counts now
  Time part_ends_{};         // when the next one begins
  Tally window_;             // the sum of the parts
  std::uint32_t last_ = 0;   // a bit for each of the last 20 calls: it failed
  unsigned remembered_ = 0;  // how many bits of it mean something
};

}  // namespace keelback::core
