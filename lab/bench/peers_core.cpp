#include "bench/peer_stages.h"

#include <algorithm>

#include "bench/core_cost.h"
#include "bench/pool_under_test.h"

namespace keelback::bench {

std::string measure_sessions(PeersRun& run) {
  const int count = std::clamp(run.options().blocks / 6, 2, 5);
  return run.measure("a million sessions", {{"ours", {}}, {"misses", {}}}, count,
                     [&](Block& block) {
                       SessionTouch table(1'000'000, run.prng().next());
                       const SessionTouch::Cost cost = table.measure();
                       block.note("sessions.touch", cost.touch_ns);
                       block.note("sessions.touch", cost.two_misses_ns, 1);
                       block.note("sessions.bytes", table.bytes_per_session());
                     });
}

std::string measure_simulator(PeersRun& run) {
  const int count = std::clamp(run.options().blocks / 6, 2, 5);
  return run.measure("simulator", {{"ours", {}}, {"bare", {}}}, count, [&](Block& block) {
    block.alternate(2, [&](std::size_t arm) {
      const auto rate = arm == run.kOurs ? simulated_events_per_second : bare_events_per_second;
      block.note("simulator.events", rate(from_ms(250), run.options().seed), arm);
    });
  });
}

}  // namespace keelback::bench
