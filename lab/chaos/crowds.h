// How many calls each worker ran at once, by the pool's own samples.
#pragma once

#include <cstdint>
#include <vector>

#include "chaos/history.h"

namespace keelback::chaos {

struct Crowd {
  WorkerRef worker;
  std::uint32_t most = 0;  // at one time
  double mean = 0;         // over the time in which it ran any
};
// Of the workers that ran calls, by their generations. `end` is that of the run.
std::vector<Crowd> crowds_of(const History& history, Duration end);
// Of all workers.
std::uint32_t most_at_once(const std::vector<Crowd>& crowds);

}  // namespace keelback::chaos
