#include "bench/peer_stages.h"

#include <algorithm>
#include <cmath>

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

Arm growing_pool(const PeersRun& run, unsigned workers, const char* workers_max,
                 double ballast_mb) {
  Arm arm = run.our_pool(workers, ballast_mb);
  arm.start["settings"].update(
      {{"pool.workers_max", workers_max}, {"pool.scale_down_after", "0s"}});
  return arm;
}

}  // namespace

// Each call waits for a second in a worker of its own: of a pool of two it would take 16 seconds.
std::string measure_grow(PeersRun& run) {
  const int count = std::clamp(run.options().blocks / 3, 2, 10);
  const std::vector<Arm> arms = {growing_pool(run, 2, "32", 0)};
  return run.measure("32 calls that wait", arms, count, [&](Block& block) {
    const Json slow = {
        {"op", "wave"}, {"function", "sleep_ms"}, {"payload", "[1000]"}, {"calls", 32}};
    block.note("grow.wave", block.start().ask(slow).value("all_ms", NAN));
  });
}

// A burst on a pool of which only the zygote is there, against the start of one more worker and a
// call on a worker that is there: the pools are the same but for their size.
std::string measure_zero(PeersRun& run) {
  std::vector<Arm> arms = {growing_pool(run, 0, "4", kBallastMb), run.our_pool(2, kBallastMb)};
  arms[1].name = "fork and call";
  return run.measure("from zero", arms, std::max(2, run.options().blocks / 3), [&](Block& block) {
    Subject zero = block.start();
    Subject warm = block.start(1);
    for (int i = 0; i < 5; ++i) {
      zero.ask({{"op", "settle"}, {"workers", 0}});
      const Json burst = zero.ask({{"op", "wave"}, {"function", "noop"}, {"calls", 8}});
      const Json fork = warm.ask("recycle");
      const Json call = warm.ask({{"op", "wave"}, {"function", "noop"}, {"calls", 1}});
      block.note("zero.first", burst.value("first_ms", NAN));
      block.note("zero.first", fork.value("ready_ms", NAN) + call.value("all_ms", NAN), 1);
    }
  });
}

}  // namespace keelback::bench
