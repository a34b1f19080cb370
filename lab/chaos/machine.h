// The machine that a run happens on: what it is, and what is left of it. A laboratory that takes
// the last memory of its host has no result worth having, so a run ends before that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/settings.h"
#include "base/time.h"

namespace keelback::chaos {

// What is left at one moment. 0 of a total: not known.
struct MachineSample {
  Duration at{0};
  std::uint64_t memory_total = 0, memory_available = 0;  // bytes; of the cgroup, if that has less
  std::uint64_t disk_total = 0, disk_available = 0;      // bytes, where the run keeps its files
  double load = 0;                                       // runnable processes, over a minute
};

// The machine that numbers belong to.
struct MachineFacts {
  std::string cpu, kernel, version;  // of the processor, of Linux, of Keelback
  std::uint32_t cpus = 0;            // that this process may use
};

MachineFacts describe_machine();
MachineSample look_at_machine(const std::string& directory);

// A run ends when less than this is left.
struct HostGuard {
  Bytes memory{128ULL << 20};
  Bytes disk{64ULL << 20};
};
// Why the run must end; nullopt: it may go on.
std::optional<std::string> too_little(const MachineSample& sample, const HostGuard& guard);

}  // namespace keelback::chaos
