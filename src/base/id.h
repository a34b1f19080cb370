// Our ids. None is ever reused while the process lives; pids and descriptors stay in os/ and host/.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace keelback {

struct CallId {
  std::uint64_t value = 0;  // 0 is no call
  auto operator<=>(const CallId&) const = default;
  explicit operator bool() const { return value != 0; }
};

// A worker is a slot and the generation that fills it. Generations count up over the whole pool,
// so a late message of a dead worker never matches a living one.
struct WorkerId {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  // 0 is no worker
  auto operator<=>(const WorkerId&) const = default;
  explicit operator bool() const { return generation != 0; }
};

}  // namespace keelback

template <>
struct std::hash<keelback::CallId> {
  std::size_t operator()(keelback::CallId id) const noexcept {
    return std::hash<std::uint64_t>{}(id.value);
  }
};
template <>
struct std::hash<keelback::WorkerId> {
  std::size_t operator()(keelback::WorkerId id) const noexcept {
    return std::hash<std::uint64_t>{}(std::uint64_t{id.slot} << 32 | id.generation);
  }
};
