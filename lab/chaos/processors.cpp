#include "chaos/processors.h"

#include <dirent.h>
#include <sched.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>

namespace keelback::chaos {
namespace {

// false: there is no such process.
bool each_thread(pid_t pid, const std::function<void(pid_t)>& act) {
  const std::string path = "/proc/" + std::to_string(pid) + "/task";
  DIR* tasks = ::opendir(path.c_str());
  if (tasks == nullptr) return false;
  while (const dirent* entry = ::readdir(tasks)) {
    const long tid = std::strtol(entry->d_name, nullptr, 10);
    if (tid > 0) act(static_cast<pid_t>(tid));
  }
  ::closedir(tasks);
  return true;
}

}  // namespace

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
  const bool there = each_thread(pid, [&](pid_t tid) {
    if (::sched_setaffinity(tid, sizeof(set), &set) != 0 && errno != ESRCH) failed = errno;
  });
  errno = there ? failed : ESRCH;
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
  ProcessorTime out;
  bool some = false;
  each_thread(pid, [&](pid_t tid) {
    const std::string path =
        "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/schedstat";
    std::FILE* file = std::fopen(path.c_str(), "re");
    if (file == nullptr) return;
    unsigned long long ran = 0, waited = 0;
    if (std::fscanf(file, "%llu %llu", &ran, &waited) == 2) {
      out.ran_ns += ran;
      out.waited_ns += waited;
      some = true;
    }
    std::fclose(file);
  });
  return some ? std::optional(out) : std::nullopt;
}

}  // namespace keelback::chaos
