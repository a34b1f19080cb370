#include "chaos/world.h"

namespace keelback::chaos {
namespace {

// Tries after the first, of each slot: the application is broken, and no fault of the moment.
constexpr std::uint64_t kTriesPerSlot = 3;

}  // namespace

std::expected<std::unique_ptr<World>, std::string> make_world(const WorldOptions& options) {
  if (options.nodes > 0) return make_nodes_world(options);
  if (options.settings.pool.backend == Backend::kSim) return make_sim_world(options);
  return make_real_world(options);
}

bool wait_until_whole(World& world, std::uint32_t workers, Duration limit,
                      const std::function<bool()>& interrupted) {
  const Duration until = world.now() + limit;
  const std::uint64_t restarts = world.info().stats.restarts;
  while (!interrupted()) {
    const PoolStats stats = world.info().stats;
    const std::uint32_t up = stats.workers.ready + stats.workers.busy;
    if (up >= workers) return true;
    const bool in_vain = up == 0 && stats.restarts - restarts >= kTriesPerSlot * workers;
    if (in_vain || world.now() >= until) return false;
    world.wait_until(world.now() + std::chrono::milliseconds(2), false);
  }
  return false;
}

}  // namespace keelback::chaos
