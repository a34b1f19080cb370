// The rows of the design that need no alternative beside them: how fast a pool of ours comes up,
// comes back and goes, and what the core costs. Every function makes its own pool of real Python
// workers (bench_probe.py) in this process, and ends it.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "base/prng.h"

namespace keelback::bench {

struct TargetPool {
  std::string python = "python3";
  std::uint32_t workers = 4;
  double import_s = 0;      // the application's import takes so long
  double ballast_mb = 100;  // and leaves so much memory behind
};

// Milliseconds from the start of the pool to its last worker's being ready.
std::expected<double, std::string> pool_ready_ms(const TargetPool& pool);
// Milliseconds from the order for a replacement to its being ready; the application is imported.
// `before_each` runs before each order, so that what is compared meets the same caches.
using BeforeEach = std::function<std::expected<void, std::string>()>;
std::expected<std::vector<double>, std::string> worker_start_ms(const TargetPool& pool, int times,
                                                                const BeforeEach& before_each);
// Milliseconds from SIGKILL of a worker that runs a call to its replacement's being ready.
std::expected<std::vector<double>, std::string> recovery_ms(const TargetPool& pool, int times);
// Milliseconds that the end of an idle pool takes.
std::expected<double, std::string> stop_ms(const TargetPool& pool);
// How many of `calls` simultaneous calls on a pool that is just starting end as ok.
std::expected<int, std::string> cold_calls_ok(const TargetPool& pool, int calls);

struct AfterKills {
  std::vector<double> p99_before_us, p99_after_us;  // of 16 callers, round by round
  int ok = 0, asked = 0;                            // verification calls after each round of kills
};
// Rounds of: a window of load, every worker killed while loaded, five calls, a window of load.
std::expected<AfterKills, std::string> after_kills(const TargetPool& pool, int rounds,
                                                   double window_ms);

// On which processors the two ends run. Left alone, the kernel puts them on one or on two and keeps
// them there: a coin that is thrown once, and worth a factor of two, because on two the bytes cross
// from one cache to the other.
enum class Ends { kOnOneProcessor, kOnTwoProcessors };

// Medians of blocks, microseconds; everything alternated in an order that is thrown anew.
struct AttachmentTimes {
  std::vector<double> there, back;              // one caller, one worker
  std::vector<double> floor_there, floor_back;  // SharedMemoryPeer
};
std::expected<AttachmentTimes, std::string> attachment_us(
    const TargetPool& pool, Ends ends, std::size_t bytes, int blocks, int calls_a_block, Prng& prng,
    const std::function<void(int block)>& before_each);

struct SessionCost {
  double ns_per_touch = 0;  // find, judge and touch of a random session
  double bytes_per_session = 0;
};
SessionCost session_cost(std::uint64_t sessions, std::uint64_t seed);

// Events a second that the core handles in the simulator, on one thread.
double simulated_events_per_second(double seconds, std::uint64_t seed);

}  // namespace keelback::bench
