// The arrival schedule, decided before the run: a list of planned start times, with the session
// each arrival belongs to. Latency is later measured from these times, never from when the
// generator got round to sending, so a stall of the system under test is not hidden by a
// generator that stalled with it. The same spec and seed give the same plan; its hash is stored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/prng.h"
#include "base/time.h"

namespace keelback::load {

struct Arrival {
  Duration at{0};             // from the start of the run
  std::uint32_t session = 0;  // 0: stateless; else 1 … sessions
  std::uint32_t stream = 0;   // which part of the mix
};

struct LoadSpec {
  enum class Shape { kPoisson, kRamp, kSteps, kBurst } shape = Shape::kPoisson;
  double rate = 100;        // arrivals a second; of kRamp and kSteps: at the end
  double rate_from = 0;     // kRamp, kSteps: at the start
  std::uint32_t steps = 4;  // kSteps: levels of equal length
  double burst_factor = 5;  // kBurst: rate * factor in the middle fifth of the run
  Duration length{0};
  std::uint32_t sessions = 0;               // 0: all stateless
  double zipf = 0;                          // 0: uniform over sessions; else the exponent
  std::vector<double> mix;                  // weights of the streams; empty: one
  std::uint64_t arrivals_max = 10'000'000;  // a plan is bounded
};

struct Plan {
  std::vector<Arrival> arrivals;  // by time
  std::uint64_t hash = 0;         // FNV-1a over all fields
};
Plan make_plan(const LoadSpec& spec, std::uint64_t seed);
// The number of arrivals planned per second at `at`.
double planned_rate(const LoadSpec& spec, Duration at);

// Picks 1 … n with probability proportional to 1 / rank^exponent. O(log n) a pick.
class ZipfPicker {
 public:
  ZipfPicker(std::uint32_t n, double exponent);
  std::uint32_t pick(Prng& prng) const;

 private:
  std::vector<double> cumulative_;
};

}  // namespace keelback::load
