// Waiting for what can only be looked at: the state of a process in /proc, a file, an answer.
#pragma once

#include <chrono>
#include <thread>

namespace keelback::load {

// Whether the condition became true within `limit`. Looks at it again after each `pause`, which is
// the error of every time that is measured with it. Blocks.
template <class Condition>
bool soon(Condition condition, std::chrono::nanoseconds limit,
          std::chrono::nanoseconds pause = std::chrono::microseconds(100)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace keelback::load
