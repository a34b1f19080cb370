// Keeps this thread, and what it starts meanwhile, on one processor until the end of the scope.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <optional>

namespace keelback::bench {

class Pinned {
 public:
  explicit Pinned(int cpu) {  // negative: changes nothing
    ::sched_getaffinity(0, sizeof before_, &before_);
    if (cpu >= 0) put(0, cpu);
  }
  ~Pinned() { ::sched_setaffinity(0, sizeof before_, &before_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  // Keeps that thread on a processor until it ends. 0 means the calling thread. False: there is no
  // such thread or no such processor.
  static bool put(pid_t thread, int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return ::sched_setaffinity(thread, sizeof one, &one) == 0;
  }

  // The processor at `index` (from 0) among those on which this thread may run; nullopt: there are
  // not so many.
  static std::optional<int> allowed(int index) {
    cpu_set_t set;
    ::sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set) && index-- == 0) return cpu;
    }
    return std::nullopt;
  }
  static int first_allowed() { return allowed(0).value_or(0); }

 private:
  cpu_set_t before_{};
};

}  // namespace keelback::bench
