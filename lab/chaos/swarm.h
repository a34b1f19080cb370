// Scenarios from a seed: which fault classes, when, at whom, under which load and on how many
// workers is drawn, so that many seeds meet combinations that nobody wrote down. They promise no
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
