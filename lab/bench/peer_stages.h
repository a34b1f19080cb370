// The stages of `bench peers`, each a group of rows or several. Each answers with its error.
#pragma once

#include <string>

#include "bench/peers_run.h"

namespace keelback::bench {

inline constexpr double kBallastMb =
    100;  // of an application that a worker's start is measured with

// peers_calls.cpp
std::string measure_pinned_calls(PeersRun& run);
std::string measure_free_calls(PeersRun& run);
std::string measure_http(PeersRun& run);
std::string measure_pinned_host(PeersRun& run);
std::string measure_free_host(PeersRun& run);

// peers_shared.cpp
std::string measure_shared(PeersRun& run);
std::string measure_dspy(PeersRun& run);

// peers_batches.cpp
std::string measure_batches(PeersRun& run);

// peers_life.cpp
std::string measure_start(PeersRun& run);
std::string measure_ready(PeersRun& run);
std::string measure_recovery(PeersRun& run);
std::string measure_stop(PeersRun& run);
std::string measure_cold(PeersRun& run);
std::string measure_kills(PeersRun& run);

// peers_scaling.cpp
std::string measure_grow(PeersRun& run);
std::string measure_zero(PeersRun& run);

// peers_attachments.cpp
std::string measure_attachment(PeersRun& run);
std::string measure_ways(PeersRun& run);

// peers_core.cpp
std::string measure_sessions(PeersRun& run);
std::string measure_simulator(PeersRun& run);

}  // namespace keelback::bench
