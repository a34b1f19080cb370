// What the pool counts for ever. accepted = in flight + the sum of outcomes, at every moment.
#pragma once

#include <cstdint>

#include "keelback/outcome.h"

namespace keelback::core {

struct Counters {
  std::uint64_t accepted = 0;
  std::uint64_t outcomes[kOutcomeKinds] = {};
  std::uint64_t opened = 0, expired = 0, lost = 0, restored = 0, ended = 0, moved = 0;
  std::uint64_t evicted = 0;  // left by an earlier run, and sessions.max had no room for them
  std::uint64_t snapshots_kept = 0, snapshots_failed = 0;
  std::uint64_t health_failures = 0, retired = 0;
  std::uint64_t loop_blocks = 0;
  std::uint64_t restarts = 0;
  std::uint64_t retries = 0;
  std::uint64_t abandoned = 0;
  std::uint64_t late = 0;  // now: calls that run behind the answer that their caller has had
};

}  // namespace keelback::core
