// Waiting for what can only be looked at: the state of a process in /proc, a file, an answer.
#pragma once

#include <chrono>
#include <thread>

namespace keelback::chaos {

// Whether the condition became true within `limit`; looked at each `pause`. Blocks that long.
template <class Condition>
bool soon(Condition condition, std::chrono::nanoseconds limit,
          std::chrono::nanoseconds pause = std::chrono::microseconds(200)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace keelback::chaos
