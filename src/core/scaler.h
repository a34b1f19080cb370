// How many workers a pool wants whose size follows the load, and why. It is told what the pool
// knows of its load, and decides; class Scaling asks it and does what it says.
//
// Up: when calls that any worker could serve wait up_delay, or by experience will, by as many
// workers as it takes to begin all of them within up_delay, at once. If there is no worker, it does
// not wait for that.
// Down: worker n is needed while the calls that run and wait fill more than n - 1 workers, on
// average over a short time. When the last worker was not needed for down_after, it leaves. One
// leaves in kLeaveEvery. So what comes back within down_after finds the pool as it was: the size
// follows no load that swings faster.
//
// Invariants (the property test holds them): least <= wanted() <= most. wanted() grows only while
// calls wait, or to `least`. It shrinks by one in kLeaveEvery, and not below what was needed within
// down_after; set_limits() alone may take more.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"

namespace keelback::core {

class Scaler {
 public:
  static constexpr Duration kLeaveEvery = std::chrono::seconds(1);

  struct Limits {
    std::uint32_t least = 0;
    std::uint32_t most = 0;  // not below `least`
    Duration up_delay{0};
    Duration down_after{0};
  };
  // The pool at one moment. What calls fill is counted in thousandths of a worker: one that runs
  // alone fills a worker, one of 32 that run beside each other a 32nd.
  static constexpr std::uint64_t kWorker = 1000;
  struct Load {
    std::uint32_t up = 0;      // workers that take calls
    std::uint64_t filled = 0;  // by the calls that run and those that wait
    bool failing = false;      // no worker is up, and the last start failed
    // The calls that wait and that any worker could serve.
    std::uint64_t waiting = 0;
    Duration waited{0};         // the first of them
    std::uint64_t backlog = 0;  // what they fill
    std::uint64_t known = 0;    // of that, calls of functions whose time is known
    std::uint64_t begun = 0;    // of the backlog, what the workers will begin within up_delay
    std::uint64_t begun_by_new = kWorker;  // … and what one more worker would; > 0
  };

  Scaler(Time now, Limits limits) { set_limits(now, limits); }

  // Requires: limits.least <= limits.most. The wanted size changes at once if it is outside.
  void set_limits(Time now, Limits limits);
  const Limits& limits() const { return limits_; }
  // A pool of this size is there: it need not be made, and leaves as it would have.
  void adopt(Time now, std::uint32_t workers);
  // The load is this from now on.
  void look(Time now, const Load& load);
  // When look() would say something new though the load stays as it was.
  std::optional<Time> next() const;

  std::uint32_t wanted() const { return wanted_; }
  // One sentence without its full stop.
  std::string why(Time now) const;

 private:
  enum class Cause : std::uint8_t { kNone, kNobody, kWait, kForecast, kFailing, kUnneeded };
  struct Change {
    Cause cause = Cause::kNone;
    Time at{};
    std::uint64_t waiting = 0;
    Duration waited{0};
  };

  std::uint32_t floor() const;
  // Workers that calls fill.
  static std::uint32_t level(std::uint64_t filled);
  Duration window() const;
  void remember(Time now);
  void note_needed(Time at, std::uint32_t level);
  void grow(Time now, const Load& load);
  void shrink(Time now);
  void want(Time now, std::uint32_t workers);

  Limits limits_;
  Load load_;
  std::uint32_t wanted_ = 0;
  Change change_;
  Time leave_at_{};  // no worker leaves before
  // The window whose mean is being taken.
  Time window_since_{};
  Time load_since_{};           // load_.filled is right since then
  std::uint64_t integral_ = 0;  // of `filled` over the window up to load_since_; per microsecond
  std::vector<Time> needed_;    // [n]: when worker n was last needed; [0] is not used
};

}  // namespace keelback::core
