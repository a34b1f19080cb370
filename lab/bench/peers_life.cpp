#include "bench/peer_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

}  // namespace

// A replacement for a worker, its application imported, against a bare os.fork() of a process
// that has imported the same. In turn, one by one: a process that forks again and again finds its
// page tables in the cache, and takes half the time.
std::string measure_start(PeersRun& run) {
  auto bare = run.peer("bare", fmt::format("KEELBACK_BENCH_BALLAST_MB={:.0f}", kBallastMb));
  if (!bare) return bare.error();
  if (auto up = bare->ask({{"op", "start"}, {"workers", 0}}); !up) return up.error();
  const std::vector<Arm> arms = {run.our_pool(2, kBallastMb), {"bare", {}}};
  return run.measure("worker start", arms, std::max(2, run.options().blocks / 3),
                     [&](Block& block) {
                       Subject pool = block.start();
                       for (int i = 0; i < 20; ++i) {
                         const auto fork = bare->ask({{"op", "forks"}, {"times", 1}});
                         if (!fork) return block.fail(1, fork.error());
                         block.note("start.fork", (*fork)["ms"][0], 1);
                         block.note("start.fork", pool.ask("recycle").value("ready_ms", NAN));
                       }
                     });
}

std::string measure_ready(PeersRun& run) {
  constexpr double kImportS = 1;
  const std::vector<Arm> arms = {run.our_pool(4, 0, kImportS), {"bare", {}}};
  const int count = std::clamp(run.options().blocks / 6, 2, 5);
  return run.measure("pool of 4 ready", arms, count, [&](Block& block) {
    auto bare = run.peer("bare", fmt::format("KEELBACK_BENCH_IMPORT_S={}", kImportS));
    if (!bare) return block.fail(1, bare.error());
    if (auto up = bare->ask({{"op", "start"}, {"workers", 0}}); !up)
      return block.fail(1, up.error());
    block.note("ready.import", PeersRun::asked(block, 1, *bare, {{"op", "import_ms"}}, "ms"), 1);
    block.note("ready.import", block.start().started().value("all_ready_ms", NAN));
  });
}

// Few kills in each pool: a pool has a budget of immediate replacements. With 30 blocks
// 372 of them: from 368 on a sample bounds its p99 on both sides.
std::string measure_recovery(PeersRun& run) {
  const int pools = std::clamp(run.options().blocks * 2 + 2, 4, 62);
  return run.measure("recovery", {run.our_pool(2, kBallastMb)}, pools, [&](Block& block) {
    Subject pool = block.start();
    for (int i = 0; i < 6; ++i) {
      const double ms = pool.ask("recover").value("ready_ms", NAN);
      block.note("recovery.p99", ms);
      block.note("recovery.p50", ms);
    }
  });
}

std::string measure_stop(PeersRun& run) {
  const int count = std::clamp(run.options().blocks / 3, 3, 10);
  return run.measure("stop", {run.our_pool(4, kBallastMb)}, count, [&](Block& block) {
    block.note("stop.idle", block.start().ask("stop").value("stop_ms", NAN));
  });
}

std::string measure_cold(PeersRun& run) {
  return run.measure(
      "20 calls on a cold pool", {run.our_pool(4, kBallastMb, 2)}, 1, [&](Block& block) {
        block.note("cold.ok", block.start(0, {{"calls", 20}}).started().value("calls_ok", NAN));
      });
}

std::string measure_kills(PeersRun& run) {
  const std::vector<Arm> arms = {run.our_pool(4, kBallastMb), {"before", {}}};
  const Json window = {{"op", "window"}, {"callers", 16}, {"ms", 3 * run.options().window_ms}};
  const int pools = std::clamp(run.options().blocks / 3, 2, 10);
  return run.measure("after kills", arms, pools, [&](Block& block) {
    Subject pool = block.start();
    pool.ask(window);  // warm
    for (int round = 0; round < 3; ++round) {
      block.note("kills.p99", pool.ask(window).value("p99_us", NAN), 1);
      const Json killed = pool.ask({{"op", "kill_all"}, {"ms", window["ms"]}, {"calls", 5}});
      block.note("kills.ok", killed.value("share", NAN));
      block.note("kills.p99", pool.ask(window).value("p99_us", NAN));
    }
  });
}

}  // namespace keelback::bench
