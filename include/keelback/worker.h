// How workers are named.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace keelback {

// A worker is a slot and the generation that fills it. Generations count up over the whole pool and
// never repeat, so a late message of a dead worker never matches a living one.
struct WorkerRef {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  // 0: no worker
  friend auto operator<=>(const WorkerRef&, const WorkerRef&) = default;
  explicit operator bool() const { return generation != 0; }
};

std::string to_string(const WorkerRef& worker);  // "2.17"

}  // namespace keelback
