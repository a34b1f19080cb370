#include "chaos/world.h"

namespace keelback::chaos {

std::expected<std::unique_ptr<World>, std::string> make_world(const WorldOptions& options) {
  if (options.settings.pool.backend == Backend::kSim) return make_sim_world(options);
  return make_real_world(options);
}

}  // namespace keelback::chaos
