// Our ids. None is ever reused while the process lives; pids and descriptors stay in os/ and host/.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "keelback/worker.h"

namespace keelback {

// CallHandle (keelback/pool.h) is its public name: a caller may keep one, but has no use for order,
// hash and truth.
struct CallId {
  std::uint64_t value = 0;  // 0 is no call
  auto operator<=>(const CallId&) const = default;
  explicit operator bool() const { return value != 0; }
};

using WorkerId = WorkerRef;

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
