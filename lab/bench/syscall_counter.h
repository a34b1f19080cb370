// System calls of processes, counted one by one with ptrace(2): no sampling, no performance
// counters that a virtual machine does not have. The traced processes run slower meanwhile, so
// nothing is timed while it counts. Needs to be an ancestor of what it traces (or privileged).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace keelback::bench {

// Runs `work` on another thread and counts meanwhile what all threads of `pids` call that exist
// when it begins. The result: calls by pid. The error: the system does not allow tracing.
std::expected<std::map<pid_t, std::uint64_t>, std::string> count_system_calls(
    const std::vector<pid_t>& pids, const std::function<void()>& work);

}  // namespace keelback::bench
