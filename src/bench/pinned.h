// Puts this thread, and what it starts meanwhile, on one processor; undone at the end of the scope.
#pragma once

#include <sched.h>

namespace keelback::bench {

class Pinned {
 public:
  explicit Pinned(int cpu) {  // negative: changes nothing
    ::sched_getaffinity(0, sizeof before_, &before_);
    if (cpu < 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  ~Pinned() { ::sched_setaffinity(0, sizeof before_, &before_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  static int first_allowed() {
    cpu_set_t set;
    ::sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) return cpu;
    }
    return 0;
  }

 private:
  cpu_set_t before_{};
};

}  // namespace keelback::bench
