// Scenarios from a seed, which draws the fault classes, their times and targets, the load and the
// number of workers. Many seeds try combinations that no one wrote down. These scenarios promise no
// success during the faults: only the invariants, explained losses and the way back.
#pragma once

#include <cstdint>
#include <string>

#include "base/settings.h"

namespace keelback::chaos {

inline constexpr const char* kSwarm = "swarm";  // its name where scenarios are named

// TOML; every seed gives a scenario that this backend can inject.
std::string swarm_scenario(std::uint64_t seed, Backend backend);

}  // namespace keelback::chaos
