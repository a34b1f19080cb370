// The workers that a fault hits: those that its target names, as they are now.
#pragma once

#include <cstdint>
#include <vector>

#include "chaos/recorder.h"
#include "chaos/scenario.h"

namespace keelback::chaos {

// `pick` decides where the target leaves a choice. Empty: there is no such worker.
std::vector<host::WorkerInfo> choose_targets(const Target& target, std::uint64_t pick,
                                             Recorder& recorder);

// All workers of the node of the first target.
std::vector<host::WorkerInfo> whole_node(const std::vector<host::WorkerInfo>& targets,
                                         const Scenario& scenario, const Recorder& recorder);

}  // namespace keelback::chaos
