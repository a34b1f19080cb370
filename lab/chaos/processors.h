// Which processors a process may use, and how long it had to wait for one. Every thread of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelback::chaos {

std::vector<int> processors_of(pid_t pid);  // empty: the process is gone
// false: a thread could not be bound, errno says why; one that is gone needs no binding.
bool bind_to(pid_t pid, const std::vector<int>& processors);

std::string processors_text(const std::vector<int>& processors);  // "0,1,5"
std::optional<std::vector<int>> parse_processors(std::string_view text);

// Of all its threads since they began, from /proc/PID/task/*/schedstat.
struct ProcessorTime {
  std::uint64_t ran_ns = 0, waited_ns = 0;
};
std::optional<ProcessorTime> processor_time(pid_t pid);

}  // namespace keelback::chaos
