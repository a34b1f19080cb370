// How many events the core handles a second in the simulator (the target is 10^6 on one core).
#include <benchmark/benchmark.h>

#include "sim/load.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

// One iteration is one virtual second of open load at 20 000 calls a second on 8 workers.
void BM_Events(benchmark::State& state) {
  const bool sessions = state.range(0) != 0;
  std::uint64_t events = 0;
  std::uint64_t calls = 0;
  for (auto _ : state) {
    Simulation::Options options;
    options.settings.pool.workers = 8;
    options.settings.pool.queue_max = 10'000;
    Simulation sim(options);
    LoadSettings load;
    load.rate = 20'000;
    load.length = 1s;
    load.sessions = 1000;
    if (sessions) {
      load.mix = {{.call = {.function = "count"}, .in_session = true}};
    } else {
      load.mix = {{.call = {.function = "echo", .payload = "[1]"}}};
    }
    OpenLoad clients(sim, load, 7);
    clients.start();
    sim.advance(2s);
    events += sim.events();
    calls += clients.ended();
  }
  state.counters["events"] =
      benchmark::Counter(static_cast<double>(events), benchmark::Counter::kIsRate);
  state.counters["calls"] =
      benchmark::Counter(static_cast<double>(calls), benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Events)->ArgName("sessions")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace keelback::sim

BENCHMARK_MAIN();
