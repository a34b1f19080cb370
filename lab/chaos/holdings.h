// What a process holds, by the kernel's books: the evidence of a leak.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace keelback::chaos {

struct Holdings {
  std::uint64_t descriptors = 0, threads = 0;
  std::uint64_t segments = 0, shared_bytes = 0;  // mapped from files below the given path
};
std::optional<Holdings> holdings_of(pid_t pid,
                                    std::string_view shared_path);  // nullopt: it is gone

}  // namespace keelback::chaos
