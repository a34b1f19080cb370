#include "bench/metrics.h"

#include <algorithm>

namespace keelback::bench {
namespace {

constexpr Better kLess = Better::kLess, kMore = Better::kMore;
constexpr Compared kNo = Compared::kNo, kReported = Compared::kReported, kGated = Compared::kGated,
                   kCounted = Compared::kCounted, kCountedOnOneCpu = Compared::kCountedOnOneCpu;

constexpr Metric held(std::string_view id, std::string_view unit, Better better,
                      std::string_view doc, double target = 0, std::string_view against = {},
                      std::string_view limit = {}) {
  Metric metric{.id = id, .unit = unit, .better = better, .doc = doc};
  metric.held = true;
  metric.target = target;
  metric.against = against;
  metric.limit = limit;
  return metric;
}

// Asks for 10^6 events a second where the bare loop has 7.9 times as many, as on the machine of
// docs/performance.md that this row was measured on.
constexpr double kEvents = 0.13;
constexpr std::string_view kSharedMemory = "warm shared memory";
constexpr std::string_view kWaves =
    "the answers of calls that end together leave one after another";
constexpr std::string_view kBatched =
    "the function itself; how full batches are, and what a batch waits for";
constexpr std::string_view kOneThread = "one thread parses, submits and writes for all connections";

constexpr Metric kMetrics[] = {
    {"startup.first_ready_ms", "ms", kLess, "start.first_ready_ms",
     "from nothing to the first worker ready"},
    {"startup.first_call_ms", "ms", kLess, "start.first_call_ms",
     "from nothing to the first result, import included", kGated, 0.15},
    {"startup.all_ready_ms", "ms", kLess, "start.all_ready_ms",
     "from nothing to every worker ready", kGated, 0.15},
    {"startup.import_ms", "ms", kLess, "start.import_ms",
     "the application's import, once, in the zygote"},
    {"startup.exec_all_ready_ms", "ms", kLess, "start_exec.all_ready_ms",
     "the same without a zygote: each worker imports"},
    {"startup.worker_ms", "ms", kLess, "recycle.ready_ms", "one more worker while the pool serves"},

    {"call.p10_us", "µs", kLess, "closed.p10_us",
     "one caller, trivial function: the fastest tenth, the cost without noise", kGated, 0.04},
    {"call.p50_us", "µs", kLess, "closed.p50_us", "one caller, trivial function: the median",
     kGated, 0.04},
    {"call.p99_us", "µs", kLess, "closed.p99_us",
     "one caller, trivial function: the slowest hundredth begins here", kGated, 0.25},
    {"call.cpu_us", "µs", kLess, "closed.cpu_us_per_call", "processor time of all processes a call",
     kGated, 0.06},
    {"call.4k_p50_us", "µs", kLess, "closed_4k.p50_us", "argument and result of 4 KiB"},
    {"call.64k_p50_us", "µs", kLess, "closed_64k.p50_us", "argument and result of 64 KiB"},
    {"call.1m_p50_us", "µs", kLess, "closed_1m.p50_us", "argument and result of 1 MiB"},
    {"call.open_p50_us", "µs", kLess, "open.p50_us",
     "Poisson arrivals at 15 % of what one caller gets, from the planned time", kGated, 0.1,
     kNoPromise, "open.p50_us"},
    {"call.open_p99_us", "µs", kLess, "open.p99_us", "the same, the slowest hundredth", kReported,
     0.25, kNoPromise, "open.p99_us"},
    {"call.worker_switches", "per call", kLess, "counters.worker_switches",
     "times a worker left its processor, to sleep or for another", kCountedOnOneCpu, 0.05,
     kNoPromise, "counters.worker_switches"},
    {"call.caller_switches", "per call", kLess, "counters.caller_switches",
     "times the caller's process left its processor, likewise", kCountedOnOneCpu, 0.1, kNoPromise,
     "counters.caller_switches"},
    {"call.caller_syscalls", "per call", kLess, "system_calls.caller",
     "system calls of the caller's process, counted", kCounted, 0.2, kNoPromise,
     "counters.caller_syscalls"},
    {"call.worker_syscalls", "per call", kLess, "system_calls.worker",
     "system calls of the worker, counted", kCounted, 0.2, kNoPromise, "counters.worker_syscalls"},
    {"call.caller_allocations", "per call", kLess, "allocations.allocations_per_call",
     "heap allocations of the caller's process, all threads, counted", kCounted, 0.2, kNoPromise,
     "counters.caller_allocations"},

    {"throughput.1_per_second", "calls/s", kMore, "callers_1.per_second",
     "closed loop, 1 caller, 2 workers"},
    {"throughput.16_per_second", "calls/s", kMore, "callers_16.per_second",
     "closed loop, 16 callers, 2 workers", kGated, 0.1, kNoPromise, "throughput.per_second"},
    {"throughput.64_per_second", "calls/s", kMore, "callers_64.per_second",
     "closed loop, 64 callers, 2 workers"},
    {"throughput.sleep_efficiency", "share", kMore, "",
     "functions that wait 5 ms: calls a second of the ideal 2/5 ms"},
    {"throughput.cpu_efficiency", "share", kMore, "",
     "functions that compute 1 ms: calls a second of what the processors allow"},

    {"affinity.hit_ratio", "share", kMore, "",
     "calls of a session served by its home, same birth and epoch", kNo, 0, 1.0},
    {"affinity.next_p50_us", "µs", kLess, "affinity.next_p50_us", "a call in one of 1000 sessions"},
    {"affinity.first_p50_us", "µs", kLess, "affinity.first_p50_us",
     "the call that opens a session"},
    {"affinity.cost_ratio", "ratio", kLess, "", "a session's call divided by a stateless one"},
    {"affinity.jain", "index", kMore, "affinity.jain",
     "fairness of workers under uniform sessions; 1: all alike"},
    {"affinity.zipf_max_over_mean", "ratio", kLess, "affinity_zipf.max_over_mean",
     "the busiest worker under Zipf(1) sessions"},
    {"affinity.neighbour_p99_us", "µs", kLess, "neighbour.p99_us",
     "a session's calls while another one's calls take 20 ms on the other worker"},
    {"affinity.sessions_p50_us", "µs", kLess, "sessions.p50_us",
     "closed loop, one caller, calls to 1000 sessions: the median", kGated, 0.06, kNoPromise,
     "session.p50_us", true},

    {"overload.capacity", "calls/s", kMore, "capacity.per_second",
     "closed loop of 32 callers, function of 1 ms"},
    {"overload.goodput_50", "share", kMore, "",
     "answered in time, of those offered, at half the capacity"},
    {"overload.goodput_150", "share of capacity", kMore, "",
     "answered in time at 1.5 times the capacity, of the capacity"},
    {"overload.p99_80_ms", "ms", kLess, "", "from the planned time at 80 % of the capacity"},
    {"overload.drain_ms", "ms", kLess, "burst.drain_ms",
     "until a burst of 5 times half the capacity is worked off"},
    {"overload.unexplained", "calls", kLess, "",
     "calls that ended neither ok nor refused nor out of time", kNo, 0, 0.0},

    {"recovery.detected_ms", "ms", kLess, "recover.detected_ms",
     "SIGKILL of a busy worker to its call's outcome", kReported, 0.25},
    {"recovery.ready_ms", "ms", kLess, "recover.ready_ms",
     "SIGKILL of a busy worker to its replacement ready", kGated, 0.25},
    {"recovery.first_success_ms", "ms", kLess, "recover_loaded.first_success_ms",
     "SIGKILL to the next call that succeeds, under load"},
    {"recovery.p99_ratio", "ratio", kLess, "",
     "p99 of the calls planned after the kill by that of those before"},
    {"recovery.lost", "calls", kLess, "recover_loaded.lost",
     "idempotent calls of the load that did not succeed", kNo, 0, 0.0},

    {"memory.pss_kb", "kB", kLess, "memory.pss_kb",
     "everything: supervisor, guard, zygote, 2 workers", kGated, 0.03},
    {"memory.worker_kb", "kB", kLess, "memory.worker_kb", "one worker's proportional share"},
    {"memory.supervisor_kb", "kB", kLess, "memory.supervisor_kb", "the supervisor"},
    {"memory.per_session_bytes", "bytes", kLess, "",
     "supervisor and workers, a session with one counter in it"},
    {"memory.per_queued_bytes", "bytes", kLess, "", "the supervisor, a call that waits"},
    {"memory.growth_kb", "kB", kLess, "growth.kb_per_1000_calls",
     "slope over 1000 calls (Theil and Sen)"},
    {"memory.fds", "descriptors", kLess, "memory.fds", "open in the supervisor, 2 workers",
     kCounted, 0, kNoPromise, "counters.fds"},
    {"memory.processes", "processes", kLess, "counters.processes",
     "below the supervisor, 2 workers", kCounted, 0, kNoPromise, "counters.processes", true},

    {"cleanup.stop_ms", "ms", kLess, "stop.stop_ms", "stop of an idle pool", kGated, 0.25},
    {"cleanup.loaded_stop_ms", "ms", kLess, "stop_loaded.stop_ms",
     "stop of a pool with calls waiting"},
    {"cleanup.kill_ms", "ms", kLess, "",
     "SIGKILL of the supervisor to the end of the last process"},
    {"cleanup.left_processes", "processes", kLess, "stop.left_processes", "left after stop",
     kCounted, 0, 0.0},
    {"cleanup.left_fds", "descriptors", kLess, "stop.left_fds", "left after stop", kCounted, 0,
     0.0},

    {"idle.cpu_ms", "ms/s", kLess, "idle.cpu_ms_per_s", "processor time with nothing to do"},
    {"idle.wakeups", "per second", kLess, "idle.wakeups_per_s",
     "how often anything wakes with nothing to do"},
    {"idle.sessions_cpu_ms", "ms/s", kLess, "idle_sessions.cpu_ms_per_s",
     "the same with 1000 sessions open"},

    {"http.p50_us", "µs", kLess, "", "one keep-alive connection"},
    {"http.p99_us", "µs", kLess, "", "one keep-alive connection"},
    {"http.overhead_us", "µs", kLess, "", "median over HTTP minus median in process, same block"},
    {"http.16_per_second", "calls/s", kMore, "", "16 connections"},
    {"http.connect_p50_us", "µs", kLess, "", "a new connection for each call"},
    {"http.open_p99_us", "µs", kLess, "",
     "Poisson arrivals at 30 % of what one connection gets, from the planned time"},
    {"http.errors", "calls", kLess, "", "answers other than 200", kNo, 0, 0.0},

    {"scaling.lambda", "calls/s", kMore, "", "one worker, function that waits 2 ms"},
    {"scaling.4_efficiency", "share", kMore, "",
     "4 workers by 4 times one, function that waits 2 ms"},
    {"scaling.sessions_ratio", "ratio", kLess, "",
     "core: a call among 10^6 sessions by one among 10^2"},
    {"scaling.workers_ratio", "ratio", kLess, "", "core: a call with 64 workers by one with 1"},
    {"scaling.queued_ratio", "ratio", kLess, "", "core: a call with 10^5 waiting by one with 1"},
    {"scaling.pool_workers_ratio", "ratio", kLess, "",
     "a call of a pool of 64 fake workers by one of 1"},
    {"scaling.pool_queued_ratio", "ratio", kLess, "",
     "fake workers: draining 10^5 waiting calls, each, by 10^2"},

    {"soak.p99_us", "µs", kLess, "", "open load at half of what one caller gets, whole length"},
    {"soak.p99_drift", "ratio", kLess, "", "p99 of the last third by that of the first"},
    {"soak.growth_kb", "kB/min", kLess, "",
     "memory of everything, slope (Theil and Sen) after the first third"},
    {"soak.failed", "calls", kLess, "", "calls that did not succeed", kNo, 0, 0.0},

    // What bounds a row is measured and explained in docs/performance.md.
    held("call.floor.pinned", "µs", kLess, "one caller, trivial function, p50, one CPU", 1.0,
         "socketpair + Python loop",
         "one send, one receive and one switch each way, which the floor has too; ours are the "
         "record, the core's step and the frame"),
    held("call.*.pinned", "µs", kLess, "one caller, trivial function, p50, one CPU"),
    held("throughput.*.pinned", "calls/s", kMore, "2 workers, 16 callers, one CPU"),
    held("call.floor.free", "µs", kLess, "one caller, trivial function, p50, all CPUs", 1.2,
         "socketpair + Python loop",
         "as call.floor.pinned; for both sides the kernel chooses on which processor a sleeper "
         "wakes"),
    held("call.*.free", "µs", kLess, "one caller, trivial function, p50, all CPUs"),
    held("throughput.process_pool.free", "calls/s", kMore, "2 workers, 16 callers, all CPUs", 5.0,
         {},
         "a call wakes its worker once and its caller twice; fewer wake-ups take a second call in "
         "a worker's socket, which would wait behind a slow one while another worker is free"),
    held("throughput.*.free", "calls/s", kMore, "2 workers, 16 callers, all CPUs"),

    held("host.floor.pinned", "µs", kLess,
         "a function that the program provides, called by Python, p50, one CPU", 1.5,
         "socketpair + Python loop",
         "the floor's own steps; ours are JSON of the arguments and the result, the frames, and "
         "the engine's lock"),
    held("host.floor.free", "µs", kLess, "the same, all CPUs", 1.5, "socketpair + Python loop",
         "as host.floor.pinned; for both sides the kernel chooses where a sleeper wakes"),

    held("http.throughput", "calls/s", kMore, "HTTP, 2 workers, 16 connections", 3.0, {},
         kOneThread),
    held("http.p99", "µs", kLess, "HTTP, 2 workers, 16 connections, p99", 1.0, {}, kOneThread),
    held("http.p50", "µs", kLess, "HTTP, one connection, p50"),

    held("shared.wait.call", "ms", kLess,
         "64 calls at once that await 200 ms, 2 workers, until all are answered", 240, {}, kWaves),
    held("shared.wait.http", "ms", kLess, "the same over HTTP", 240, {}, kWaves),
    held("shared.wait.uvicorn.http", "ms", kLess, "the same over HTTP", 1.0, {}, kWaves),
    held("shared.wait.litserve.http", "ms", kLess, "the same over HTTP", 1.0, {}, kWaves),
    held("shared.wait.ray_serve.http", "ms", kLess, "the same over HTTP", 1.0, {}, kWaves),
    held("shared.rate.exclusive", "calls/s", kMore,
         "trivial async function, 64 callers that block, 2 workers", 1.5,
         "exclusive calls of a trivial function",
         "a task of the worker's loop costs more Python than a call of a function"),
    held("shared.rate.exclusive.submitted", "calls/s", kMore,
         "the same, 64 calls in flight, submitted by the outcomes of others", 0,
         "exclusive calls of a trivial function"),
    held("shared.rate.uvicorn.http", "calls/s", kMore,
         "trivial async function over HTTP, 64 connections, 2 workers", 4.0, {}, kOneThread),
    held("shared.rate.*.http", "calls/s", kMore, "the same"),
    held("batches.rate.alone", "calls/s", kMore,
         "trivial function in batches, 64 calls in flight, 2 workers", 0,
         "the same function one by one"),
    held("batches.model.alone", "calls/s", kMore,
         "two layers of 512 x 512 in NumPy, in batches, 64 calls in flight, 2 workers", 0,
         "the same function one by one"),
    held("batches.rate.*.http", "calls/s", kMore,
         "trivial function in batches of 32 over HTTP, 64 connections, 2 workers", 2.0, {},
         kOneThread),
    held("batches.model.*.http", "calls/s", kMore,
         "two layers of 512 x 512 in NumPy, in batches of 32, over HTTP, 64 connections", 1.0, {},
         kBatched),
    held("batches.open.*.http", "ms", kLess,
         "the same, 400 Poisson arrivals a second, p99 from the planned time", 1.0, {}, kBatched),
    held("dspy.sessions", "ms", kLess,
         "a DSPy program in 64 sessions at once, its model answers after 500 ms, pool of 4", 750,
         {}, "the model's answer, and the Python that DSPy runs around it in 4 workers"),

    held("start.fork", "ms", kLess, "worker start to ready, application of 100 MB imported, p50",
         1.5, "os.fork() to the first byte",
         "the kernel copies the page tables of the imported application, for both sides; then each "
         "page that the worker touches first is a fault of about 4 us"),
    held("ready.import", "ms", kLess, "pool of 4, start to all ready; target 1.15 T + 50 ms", 1.2,
         "T: the application's import alone", "one import and the forks that follow it"),
    held("grow.wave", "ms", kLess,
         "32 calls at once that wait 1 s, pool of 2 to 32, until all are answered", 1150, {},
         "calls that nobody knows wait for pool.scale_up_delay; then the zygote forks one worker "
         "after another"),
    held("zero.first", "ms", kLess,
         "8 calls at once, pool of 0 to 4, application of 100 MB imported, first answer", 1.5,
         "the start of a worker and a call", "the fork, and the worker's own start after it"),
    held("recovery.p99", "ms", kLess, "SIGKILL of a busy worker to its replacement ready, p99", 50,
         {}, "the end of the dead worker's group and one fork"),
    held("recovery.p50", "ms", kLess, "the same, p50"),
    held("stop.idle", "ms", kLess, "end of an idle pool of 4", 100, {},
         "each worker runs its exit functions before it leaves"),
    held("cold.ok", "ok", kMore, "20 simultaneous calls on a cold pool of 4 whose start takes 2 s",
         20, {}, "every call waits in the queue until the first worker is ready"),
    held("kills.ok", "share", kMore, "calls that succeed after every worker was killed under load",
         1, {}, "every call waits in the queue until a worker is back"),
    held("kills.p99", "µs", kLess, "p99 of 16 callers after the kills", 1.2, "the same pool before",
         "the new workers' caches and pages are cold"),

    held("attachment.there.pinned", "µs", kLess,
         "1 MiB beside a call, copied to bytes, p50, both ends on one CPU", 1.5, kSharedMemory,
         "the function's bytes are memory that is allocated for this call; beside them the call"),
    held("attachment.back.pinned", "µs", kLess,
         "1 MiB beside a call and back with its result, p50, both ends on one CPU", 1.5,
         kSharedMemory,
         "two of the four copies go into memory that is allocated for this call: the function's "
         "bytes and the reply's buffer; beside them the call"),
    held("attachment.there.apart", "µs", kLess, "1 MiB beside a call, copied to bytes, p50, on two",
         1.5, kSharedMemory,
         "the slab's lines cross from one processor's cache to the other's, for both sides"),
    held("attachment.back.apart", "µs", kLess,
         "1 MiB beside a call and back with its result, p50, on two", 1.5, kSharedMemory,
         "as attachment.back.pinned; and the lines cross between caches, for both sides"),

    held("ways.there.zero_copy", "µs", kLess,
         "1 MiB beside a call, as a view of shared memory, p50", 0, kSharedMemory),
    held("ways.there.slab", "µs", kLess, "1 MiB beside a call in a slab, copied to bytes, p50", 0,
         kSharedMemory),
    held("ways.there.frames", "µs", kLess, "1 MiB beside a call, as frames of the socket, p50", 0,
         kSharedMemory),
    held("ways.there.inline", "µs", kLess, "1 MiB as base64 in a call's JSON, p50", 0,
         kSharedMemory),
    held("ways.back.slab", "µs", kLess, "the same in a slab, and back, p50", 0, kSharedMemory),
    held("ways.back.frames", "µs", kLess, "the same as frames, and back, p50", 0, kSharedMemory),
    held("ways.back.inline", "µs", kLess, "the same as base64, and back, p50", 0, kSharedMemory),

    held("sessions.touch", "ns", kLess, "lookup, verdict and touch of a session among a million",
         1.5, "two dependent cache misses",
         "two cache lines that are not in the cache, one after the other, and the session's two "
         "neighbours in the list of idle ones"),
    held("sessions.bytes", "bytes", kLess, "memory of a session, its id beyond 15 bytes apart", 200,
         {}, "the session's record and its slot in the table"),
    held("simulator.events", "1/s", kMore, "events of the core a second, one thread", kEvents,
         "a bare priority queue and hash map", "one thread, a trace line hashed for each event"),
};

}  // namespace

std::span<const Metric> metrics() { return kMetrics; }

const Metric* find_metric(std::string_view name) {
  const auto at = std::ranges::find_if(
      kMetrics, [&](const Metric& one) { return one.id == name || one.compare_id() == name; });
  return at == std::end(kMetrics) ? nullptr : at;
}

}  // namespace keelback::bench
