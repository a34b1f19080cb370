#include "chaos/processors.h"

#include <sched.h>

#include <cerrno>
#include <cstdlib>

#include "os/process.h"

namespace keelback::chaos {
std::vector<int> processors_of(pid_t pid) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> out;
  if (::sched_getaffinity(pid, sizeof(set), &set) != 0) return out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) out.push_back(cpu);
  }
  return out;
}

bool bind_to(pid_t pid, const std::vector<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : processors) CPU_SET(static_cast<std::size_t>(cpu), &set);
  int failed = 0;
  const std::vector<pid_t> threads = os::threads_of(pid);
  for (const pid_t tid : threads) {
    if (::sched_setaffinity(tid, sizeof(set), &set) != 0 && errno != ESRCH) failed = errno;
  }
  errno = threads.empty() ? ESRCH : failed;
  return errno == 0;
}

std::string processors_text(const std::vector<int>& processors) {
  std::string out;
  for (const int cpu : processors) out += (out.empty() ? "" : ",") + std::to_string(cpu);
  return out;
}

std::optional<std::vector<int>> parse_processors(std::string_view text) {
  const std::string copy(text);
  std::vector<int> out;
  const char* at = copy.c_str();
  while (true) {
    char* end = nullptr;
    const long cpu = std::strtol(at, &end, 10);
    if (end == at || cpu < 0 || cpu >= CPU_SETSIZE) return std::nullopt;
    out.push_back(static_cast<int>(cpu));
    if (*end == '\0') return out;
    if (*end != ',') return std::nullopt;
    at = end + 1;
  }
}

std::optional<ProcessorTime> processor_time(pid_t pid) {
  const auto use = os::read_processor_use_of_threads(pid);
  if (!use) return std::nullopt;
  return ProcessorTime{static_cast<std::uint64_t>(use->ran.count()),
                       static_cast<std::uint64_t>(use->waited.count())};
}

}  // namespace keelback::chaos
