#include <algorithm>

#include "bench/families_internal.h"

namespace keelback::bench {
namespace {

constexpr RunMetric kRunMetrics[] = {
    {"startup.first_ready_ms", "ms", false, "from nothing to the first worker ready"},
    {"startup.first_call_ms", "ms", false, "from nothing to the first result, import included"},
    {"startup.all_ready_ms", "ms", false, "from nothing to all of 4 workers ready"},
    {"startup.import_ms", "ms", false, "the application's import, once, in the zygote"},
    {"startup.exec_all_ready_ms", "ms", false, "the same without a zygote: each worker imports"},
    {"startup.worker_ms", "ms", false, "one more worker while the pool serves"},

    {"call.p10_us", "µs", false,
     "one caller, trivial function: the fastest tenth, the cost without noise"},
    {"call.p50_us", "µs", false, "one caller, trivial function: the median"},
    {"call.p99_us", "µs", false, "one caller, trivial function: the slowest hundredth begins here"},
    {"call.cpu_us", "µs", false, "processor time of all processes a call"},
    {"call.4k_p50_us", "µs", false, "argument and result of 4 KiB"},
    {"call.64k_p50_us", "µs", false, "argument and result of 64 KiB"},
    {"call.1m_p50_us", "µs", false, "argument and result of 1 MiB"},
    {"call.open_p50_us", "µs", false,
     "Poisson arrivals at 15 % of what one caller gets, from the planned time"},
    {"call.open_p99_us", "µs", false, "the same, the slowest hundredth"},
    {"call.worker_switches", "per call", false,
     "times a worker left its processor, to sleep or for another"},
    {"call.caller_switches", "per call", false,
     "times the caller's process left its processor, likewise"},
    {"call.caller_syscalls", "per call", false, "system calls of the caller's process, counted"},
    {"call.worker_syscalls", "per call", false, "system calls of the worker, counted"},
    {"call.caller_allocations", "per call", false,
     "heap allocations of the caller's process, all threads, counted"},

    {"throughput.1_per_second", "calls/s", true, "closed loop, 1 caller, 2 workers"},
    {"throughput.16_per_second", "calls/s", true, "closed loop, 16 callers, 2 workers"},
    {"throughput.64_per_second", "calls/s", true, "closed loop, 64 callers, 2 workers"},
    {"throughput.sleep_efficiency", "share", true,
     "functions that wait 5 ms: calls a second of the ideal 2/5 ms"},
    {"throughput.cpu_efficiency", "share", true,
     "functions that compute 1 ms: calls a second of what the processors allow"},

    {"affinity.hit_ratio", "share", true,
     "calls of a session served by its home, same birth and epoch", 1.0},
    {"affinity.next_p50_us", "µs", false, "a call in one of 1000 sessions"},
    {"affinity.first_p50_us", "µs", false, "the call that opens a session"},
    {"affinity.cost_ratio", "ratio", false, "a session's call divided by a stateless one"},
    {"affinity.jain", "index", true, "fairness of workers under uniform sessions; 1: all alike"},
    {"affinity.zipf_max_over_mean", "ratio", false, "the busiest worker under Zipf(1) sessions"},
    {"affinity.neighbour_p99_us", "µs", false,
     "a session's calls while another one's calls take 20 ms on the other worker"},

    {"overload.capacity", "calls/s", true, "closed loop of 32 callers, function of 1 ms"},
    {"overload.goodput_50", "share", true,
     "answered in time, of those offered, at half the capacity"},
    {"overload.goodput_150", "share of capacity", true,
     "answered in time at 1.5 times the capacity, of the capacity"},
    {"overload.p99_80_ms", "ms", false, "from the planned time at 80 % of the capacity"},
    {"overload.drain_ms", "ms", false, "until a burst of 5 times half the capacity is worked off"},
    {"overload.unexplained", "calls", false,
     "calls that ended neither ok nor refused nor out of time", 0.0},

    {"recovery.detected_ms", "ms", false, "SIGKILL of a busy worker to its call's outcome"},
    {"recovery.ready_ms", "ms", false, "SIGKILL of a busy worker to its replacement ready"},
    {"recovery.first_success_ms", "ms", false,
     "SIGKILL to the next call that succeeds, under load"},
    {"recovery.p99_ratio", "ratio", false,
     "p99 of the calls planned after the kill by that of those before"},
    {"recovery.lost", "calls", false, "idempotent calls of the load that did not succeed", 0.0},

    {"memory.pss_kb", "kB", false, "everything: supervisor, guard, zygote, 2 workers"},
    {"memory.worker_kb", "kB", false, "one worker's proportional share"},
    {"memory.supervisor_kb", "kB", false, "the supervisor"},
    {"memory.per_session_bytes", "bytes", false,
     "supervisor and workers, a session with one counter in it"},
    {"memory.per_queued_bytes", "bytes", false, "the supervisor, a call that waits"},
    {"memory.growth_kb", "kB", false, "slope over 1000 calls (Theil and Sen)"},
    {"memory.fds", "descriptors", false, "open in the supervisor, 2 workers"},

    {"cleanup.stop_ms", "ms", false, "stop of an idle pool of 4"},
    {"cleanup.loaded_stop_ms", "ms", false, "stop of a pool with calls waiting"},
    {"cleanup.kill_ms", "ms", false, "SIGKILL of the supervisor to the end of the last process"},
    {"cleanup.left_processes", "processes", false, "left after stop", 0.0},
    {"cleanup.left_fds", "descriptors", false, "left after stop", 0.0},

    {"idle.cpu_ms", "ms/s", false, "processor time with nothing to do"},
    {"idle.wakeups", "per second", false, "how often anything wakes with nothing to do"},
    {"idle.sessions_cpu_ms", "ms/s", false, "the same with 1000 sessions open"},

    {"http.p50_us", "µs", false, "one keep-alive connection"},
    {"http.p99_us", "µs", false, "one keep-alive connection"},
    {"http.overhead_us", "µs", false, "median over HTTP minus median in process, same block"},
    {"http.16_per_second", "calls/s", true, "16 connections"},
    {"http.connect_p50_us", "µs", false, "a new connection for each call"},
    {"http.open_p99_us", "µs", false,
     "Poisson arrivals at 30 % of what one connection gets, from the planned time"},
    {"http.errors", "calls", false, "answers other than 200", 0.0},

    {"scaling.lambda", "calls/s", true, "one worker, function that waits 2 ms"},
    {"scaling.4_efficiency", "share", true, "4 workers by 4 times one, function that waits 2 ms"},
    {"scaling.sessions_ratio", "ratio", false,
     "core: a call among 10^6 sessions by one among 10^2"},
    {"scaling.workers_ratio", "ratio", false, "core: a call with 64 workers by one with 1"},
    {"scaling.queued_ratio", "ratio", false, "core: a call with 10^5 waiting by one with 1"},
    {"scaling.pool_workers_ratio", "ratio", false,
     "a call of a pool of 64 fake workers by one of 1"},
    {"scaling.pool_queued_ratio", "ratio", false,
     "fake workers: draining 10^5 waiting calls, each, by 10^2"},

    {"soak.p99_us", "µs", false, "open load at half of what one caller gets, whole length"},
    {"soak.p99_drift", "ratio", false, "p99 of the last third by that of the first"},
    {"soak.growth_kb", "kB/min", false,
     "memory of everything, slope (Theil and Sen) after the first third"},
    {"soak.failed", "calls", false, "calls that did not succeed", 0.0},
};

constexpr Family kFamilies[] = {
    {"startup", "From nothing to a pool that answers, and one worker more", startup_block, 1.5},
    {"call", "What one call costs: closed and open loop, by size, in time and in context switches",
     call_block, 2.5},
    {"throughput", "How many calls a second, by callers and by what the function does",
     throughput_block, 3.0},
    {"affinity", "Sessions: at home, fair, and what they cost", affinity_block, 2.0},
    {"overload", "From half the capacity to one and a half: goodput, latency, refusals, a burst",
     overload_block, 5.0},
    {"recovery", "SIGKILL of a worker, idle and under load", recovery_block, 2.0},
    {"memory", "What it takes, by kind, and whether it grows", memory_block, 3.0},
    {"cleanup", "Stop, stop under load, SIGKILL of the supervisor; what is left", cleanup_block,
     1.0},
    {"idle", "What a pool costs that nobody calls", idle_block, 2.0},
    {"http", "The same call over HTTP", http_block, 3.0},
    {"scaling", "Throughput over workers with its law; cost over sessions, workers, waiting calls",
     scaling_block, 9.0},
    {"soak", "Constant load for long: does latency or memory drift", soak_block, 12.0},
};

}  // namespace

std::span<const RunMetric> run_metrics() { return kRunMetrics; }

const RunMetric* find_run_metric(std::string_view id) {
  const auto at = std::ranges::find(kRunMetrics, id, &RunMetric::id);
  return at == std::end(kRunMetrics) ? nullptr : at;
}

std::span<const Family> families() { return kFamilies; }

const Family* find_family(std::string_view name) {
  const auto at = std::ranges::find(kFamilies, name, &Family::name);
  return at == std::end(kFamilies) ? nullptr : at;
}

}  // namespace keelback::bench
