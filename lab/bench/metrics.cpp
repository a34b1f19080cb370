#include "bench/metrics.h"

namespace keelback::bench {
namespace {

constexpr Metric kMetrics[] = {
    {"startup.first_call_ms", "startup", "ms", false, true, 0.15,
     "from nothing to the first result, import included"},
    {"startup.all_ready_ms", "startup", "ms", false, true, 0.15,
     "from nothing to every worker ready"},
    {"call.p10_us", "call", "µs", false, true, 0.04,
     "one caller, trivial function: the fastest tenth, the cost without noise"},
    {"call.p50_us", "call", "µs", false, true, 0.04, "one caller, trivial function: the median"},
    {"call.p99_us", "call", "µs", false, true, 0.25,
     "one caller, trivial function: the slowest hundredth begins here"},
    {"call.cpu_us", "call", "µs", false, true, 0.06, "processor time of all processes a call"},
    {"open.p50_us", "call", "µs", false, true, 0.10,
     "open loop at 15 % of the base's lone caller, from the planned time: the median"},
    {"open.p99_us", "call", "µs", false, false, 0.25, "the same, the slowest hundredth"},
    {"session.p50_us", "affinity", "µs", false, true, 0.06, "the same in one of 1000 sessions"},
    {"throughput.per_second", "throughput", "calls/s", true, true, 0.10, "16 callers, closed loop"},
    {"recovery.detected_ms", "recovery", "ms", false, false, 0.25,
     "SIGKILL of a busy worker, under load, to its call's outcome"},
    {"recovery.ready_ms", "recovery", "ms", false, true, 0.25,
     "SIGKILL of a busy worker, under load, to its replacement ready"},
    {"memory.pss_kb", "memory", "kB", false, true, 0.03,
     "proportional memory of pool and workers, after load"},
    {"cleanup.stop_ms", "cleanup", "ms", false, true, 0.25, "stop of the idle pool"},
};

constexpr Counter kCounters[] = {
    {"counters.worker_switches", 0.05, "times a worker left its processor, a call", true},
    {"counters.caller_switches", 0.10, "times the caller left its processor, a call", true},
    {"counters.caller_syscalls", 0.2, "system calls of the caller's process, a call"},
    {"counters.worker_syscalls", 0.2, "system calls of the worker, a call"},
    {"counters.caller_allocations", 0.2, "heap allocations of the caller's process, a call"},
    {"counters.fds", 0, "descriptors open with the pool up"},
    {"counters.processes", 0, "processes with the pool up"},
    {"cleanup.left_processes", 0, "processes left after stop"},
    {"cleanup.left_fds", 0, "descriptors left after stop"},
};

}  // namespace

std::span<const Metric> metrics() { return kMetrics; }
std::span<const Counter> counters() { return kCounters; }

const Metric* find_metric(std::string_view id) {
  for (const Metric& metric : kMetrics) {
    if (metric.id == id) return &metric;
  }
  return nullptr;
}

}  // namespace keelback::bench
