// How deep the pool fell, how much was lost, and when each rung of the ladder back was reached. The
// series are by planned send time: a call that was never sent counts against the pool as much as
// one that failed.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/checkers.h"
#include "chaos/losses.h"

namespace keelback::chaos {

struct Bin {
  Duration at{0};
  std::uint32_t offered = 0, good = 0, explained = 0, unexplained = 0;
  Duration p99{0};
  std::uint32_t control_offered = 0, control_good = 0;
};
struct Series {
  Duration width{0};
  std::vector<Bin> bins;
};
Series make_series(const CheckInput& input, const Losses& losses);

struct PhaseStats {
  std::uint64_t offered = 0, ok = 0, unsent = 0;
  std::uint64_t told = 0;            // late words of losses (losses.h): not counted as offered
  Duration p50{0}, p99{0}, p999{0};  // of the finished ones, from their planned times
  // How late the load generator sent them, p99. It measures the machine, not the pool: the
  // generator only has to be woken at a planned time.
  Duration lateness{0};
  std::map<std::string, std::uint64_t> outcomes;
  double success() const {
    return offered == 0 ? 0 : static_cast<double>(ok) / static_cast<double>(offered);
  }
};
PhaseStats phase_stats(const History& history, const Losses& losses, Duration from, Duration to);

// What the pool did once the faults were gone.
enum class Latch : std::uint8_t {
  kNone,        // the service came back in time
  kSlow,        // it came back, too late
  kMetastable,  // only when the load was taken away
  kDamaged,     // not even then
};
std::string_view to_string(Latch latch);

// What the judge weighs of the whole run, before any invariant is checked.
struct Weighed {
  Losses losses;
  PhaseStats baseline, during, after;
  std::optional<Duration> service;  // from the last heal to the service at its baseline
  std::uint64_t verified = 0, verify_offered = 0;  // calls after everything
  bool recovery_known = false;  // the run was long enough to say whether the service is back
  std::string not_back;         // what of the service is not back, in words; empty: all is
  Latch latch = Latch::kNone;
};

// From the bite (capacity, service and drained of a fault that lasts: from its undo); nullopt: not
// reached; a rung that does not apply to the class is absent.
struct Ladder {
  std::string fault;
  std::uint32_t round = 0;
  std::vector<std::pair<std::string, std::optional<Duration>>> rungs;
};
std::vector<Ladder> make_ladders(const CheckInput& input, const Losses& losses,
                                 const PhaseStats& baseline);

// The first time from `from` on, before `to`, at which the load of this origin is served as the
// baseline was, for half a second or 100 calls.
struct Stretch {
  std::string_view origin = "load";
  Duration from{0}, to{0};
};
std::optional<Duration> service_back(const CheckInput& input, const Losses& losses,
                                     const PhaseStats& baseline, const Stretch& stretch);

// How long the service must stay at its baseline to count as back.
Duration hold_of(const Scenario& scenario);

// When the last fault was over: its bite, or its undoing.
Duration last_heal(const CheckInput& input);

// Sessions whose home, when the faults began, was a slot that no fault touched; empty where a fault
// reached the whole pool.
std::set<std::string> control_group(const CheckInput& input);

// If the service is not back in time, the run adds a latch test: the load of the recovery phase
// goes on (kHeldLoad), and after a rest it comes again (kRestoredLoad). These are the origins of
// its calls.
inline constexpr const char* kHeldLoad = "held";
inline constexpr const char* kRestoredLoad = "restored";

struct Shape {
  double depth = 0;        // 1 - the worst five bins in a row over the baseline's share
  double area_during = 0;  // outage-seconds lost before the recovery phase
  double area_after = 0;   // … and after it had begun
};
Shape make_shape(const CheckInput& input, const Series& series, const PhaseStats& baseline);

// p99 at which the service counts as back.
Duration latency_bound(const Scenario& scenario, const PhaseStats& baseline);

}  // namespace keelback::chaos
