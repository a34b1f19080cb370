#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <locale>
#include <sstream>
#include <utility>
#include <vector>

#include "base/check.h"
#include "os/fd.h"
#include "os/process.h"
#include "server/json.h"

namespace keelback::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Collects families in the order in which they are written.
class Scrape {
 public:
  void open(std::string name, std::string help, MetricType type) {
    families_.push_back({std::move(name), std::move(help), type, {}});
  }
  void value(double number, std::vector<ClientMetric::Label> labels = {}) {
    ClientMetric& metric = add(std::move(labels));
    (families_.back().type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        number;
  }
  // `series` has counts, one more than `bounds`, and a sum.
  void histogram(const auto& series, const auto& bounds,
                 std::vector<ClientMetric::Label> labels = {}) {
    auto& out = add(std::move(labels)).histogram;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      total += series.counts[i];
      out.bucket.push_back({total, bounds[i]});
    }
    out.sample_count = total + series.counts.back();
    out.sample_sum = series.sum;
  }
  void histogram(const BatchSizes& sizes, std::vector<ClientMetric::Label> labels) {
    auto& out = add(std::move(labels)).histogram;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < BatchSizes::kBounds; ++i) {
      total += sizes.counts[i];
      out.bucket.push_back({total, static_cast<double>(1U << i)});
    }
    out.sample_count = sizes.batches;
    out.sample_sum = static_cast<double>(sizes.calls);
  }
  void counter(std::string name, std::string help, double number) {
    open(std::move(name), std::move(help), MetricType::Counter);
    value(number);
  }
  void gauge(std::string name, std::string help, double number) {
    open(std::move(name), std::move(help), MetricType::Gauge);
    value(number);
  }
  std::string text() const {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    prometheus::TextSerializer().Serialize(out, families_);
    return std::move(out).str();
  }

 private:
  ClientMetric& add(std::vector<ClientMetric::Label> labels) {
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }
  std::vector<MetricFamily> families_;
};

void add_calls(Scrape& scrape, const PoolStats& stats) {
  scrape.open("keelback_calls_total", "Calls that ended, by outcome.", MetricType::Counter);
  for (int i = 0; i < kOutcomeKinds; ++i) {
    scrape.value(static_cast<double>(stats.outcomes[i]),
                 {{"outcome", std::string(to_string(static_cast<OutcomeKind>(i)))}});
  }
  scrape.counter("keelback_calls_accepted_total",
                 "Calls that the pool has seen, refusals included.",
                 static_cast<double>(stats.accepted));
  scrape.gauge("keelback_calls_in_flight", "Calls queued, running or backing off.",
               static_cast<double>(stats.in_flight));
  scrape.gauge("keelback_calls_late", "Calls that run on after their caller heard of the deadline.",
               static_cast<double>(stats.late));
  scrape.counter("keelback_call_retries_total", "Attempts beyond the first of a call.",
                 static_cast<double>(stats.retries));
  scrape.gauge("keelback_queue_depth", "Calls waiting for a worker.", stats.queue_depth);
  scrape.gauge("keelback_queue_delay_seconds", "How long the oldest waiting call has waited.",
               seconds(stats.queue_delay));
}

void add_workers(Scrape& scrape, const PoolStats& stats) {
  scrape.open("keelback_workers", "Workers, by state.", MetricType::Gauge);
  const std::pair<const char*, std::uint32_t> states[] = {{"starting", stats.workers.starting},
                                                          {"ready", stats.workers.ready},
                                                          {"busy", stats.workers.busy},
                                                          {"suspect", stats.workers.suspect},
                                                          {"draining", stats.workers.draining}};
  for (const auto& [state, count] : states) scrape.value(count, {{"state", state}});
  scrape.gauge("keelback_workers_wanted", "Workers that the load asks for, or pool.workers.",
               stats.scaling.wanted);
  scrape.counter("keelback_health_failures_total", "Health checks that failed.",
                 static_cast<double>(stats.health.failed));
  scrape.counter("keelback_workers_retired_total", "Workers that a function has given up.",
                 static_cast<double>(stats.health.retired));
  scrape.counter("keelback_worker_restarts_total", "Workers started to replace one that died.",
                 static_cast<double>(stats.restarts));
  scrape.counter("keelback_workers_abandoned_total", "Processes that would not die.",
                 static_cast<double>(stats.abandoned));
  scrape.counter("keelback_worker_loop_blocks_total",
                 "Turns of event loops that took 100 ms, or workers.loop_lag_warn if that is less.",
                 static_cast<double>(stats.loop_blocks));
  scrape.gauge("keelback_ready", "1 if the pool is ready to serve.", stats.ready ? 1 : 0);
  scrape.gauge("keelback_draining", "1 if the pool refuses new calls.", stats.draining ? 1 : 0);
  scrape.gauge("keelback_quarantined", "Requests held in quarantine.",
               static_cast<double>(stats.quarantined));
}

void add_sessions(Scrape& scrape, const PoolStats& stats) {
  scrape.gauge("keelback_sessions_active", "Live sessions.",
               static_cast<double>(stats.sessions.active));
  scrape.open("keelback_sessions_total", "What happened to sessions.", MetricType::Counter);
  const std::pair<const char*, std::uint64_t> events[] = {
      {"opened", stats.sessions.opened},  {"expired", stats.sessions.expired},
      {"lost", stats.sessions.lost},      {"restored", stats.sessions.restored},
      {"ended", stats.sessions.ended},    {"moved", stats.sessions.moved},
      {"evicted", stats.sessions.evicted}};
  for (const auto& [event, count] : events) {
    scrape.value(static_cast<double>(count), {{"event", event}});
  }
}

void add_snapshots(Scrape& scrape, const PoolStats& stats, const store::Status& store) {
  scrape.open("keelback_snapshots_total", "Snapshots of sessions, stored or not.",
              MetricType::Counter);
  scrape.value(static_cast<double>(stats.snapshots.kept), {{"result", "kept"}});
  scrape.value(static_cast<double>(stats.snapshots.failed), {{"result", "failed"}});
  scrape.counter("keelback_snapshots_set_aside_total",
                 "Damaged snapshots, and damaged files, that the store put aside.",
                 static_cast<double>(store.set_aside));
  scrape.gauge("keelback_snapshots_stored", "Sessions that the store has a snapshot of.",
               static_cast<double>(store.sessions));
  scrape.gauge("keelback_snapshot_bytes", "What the stored snapshots take.",
               static_cast<double>(store.bytes));
  scrape.gauge("keelback_snapshot_store_up", "1 if the store of snapshots works.",
               store.up ? 1 : 0);
}

void add_log(Scrape& scrape, const host::PoolInfo& info, const ServerCounts& server) {
  scrape.open(
      "keelback_log_dropped_lines_total",
      "Lines that are not in the log: workers or zygotes wrote too many, or nobody read the "
      "log of the daemon.",
      MetricType::Counter);
  scrape.value(static_cast<double>(info.log_dropped_workers), {{"from", "workers"}});
  scrape.value(static_cast<double>(info.log_dropped_zygotes), {{"from", "zygotes"}});
  scrape.value(static_cast<double>(server.log_lost), {{"from", "daemon"}});
}

void add_provided(Scrape& scrape, const ProvidedCounts& provided) {
  scrape.gauge("keelback_providers",
               "Names of functions that clients provide to Python code over HTTP.",
               static_cast<double>(provided.names));
  scrape.open("keelback_host_requests_total",
              "Requests of Python code that these clients were asked, by how they ended.",
              MetricType::Counter);
  const std::pair<const char*, std::uint64_t> outcomes[] = {{"ok", provided.answered},
                                                            {"error", provided.failed},
                                                            {"cancelled", provided.cancelled},
                                                            {"host_gone", provided.gone}};
  for (const auto& [outcome, count] : outcomes) {
    scrape.value(static_cast<double>(count), {{"outcome", outcome}});
  }
}

void add_durations(Scrape& scrape, const CallDurations& durations) {
  scrape.open("keelback_call_seconds", "Durations of calls over HTTP, by function and stage.",
              MetricType::Histogram);
  for (const auto& [name, function] : durations.functions()) {
    const auto& bounds = CallDurations::kBounds;
    scrape.histogram(function.queue, bounds, {{"function", name}, {"stage", "queue"}});
    scrape.histogram(function.run, bounds, {{"function", name}, {"stage", "run"}});
  }
}

void add_loop_lag(Scrape& scrape, const LoopLag& lag) {
  scrape.open("keelback_worker_loop_lag_seconds",
              "How long event loops had not turned, as seen at regular looks while shared calls "
              "ran there.",
              MetricType::Histogram);
  scrape.histogram(lag, LoopLag::kBounds);
}

void add_batches(Scrape& scrape, const PoolStats& stats) {
  scrape.open("keelback_batch_size", "Calls that a function took at once, by function.",
              MetricType::Histogram);
  for (const FunctionBatches& each : stats.batches) {
    scrape.histogram(each.sizes, {{"function", each.function}});
  }
}

// A counter with a label, each of its values a pair.
void add_counts(Scrape& scrape, const char* name, const char* help, const char* label,
                std::initializer_list<std::pair<const char*, std::uint64_t>> counts) {
  scrape.open(name, help, MetricType::Counter);
  for (const auto& [value, count] : counts) {
    scrape.value(static_cast<double>(count), {{label, value}});
  }
}

void add_cluster_nodes(Scrape& scrape, const host::ClusterInfo& cluster) {
  std::uint64_t living = 0;
  std::uint64_t draining = 0;
  std::uint64_t retired = 0;
  for (const host::ClusterNode& node : cluster.nodes) {
    ++(node.retired ? retired : node.draining ? draining : living);
  }
  scrape.open("keelback_cluster_nodes", "Nodes, by state, as the database said last.",
              MetricType::Gauge);
  scrape.value(static_cast<double>(living), {{"state", "serving"}});
  scrape.value(static_cast<double>(draining), {{"state", "draining"}});
  scrape.value(static_cast<double>(retired), {{"state", "retired"}});
}

void add_cluster(Scrape& scrape, const host::ClusterInfo& cluster) {
  const host::ClusterCounters& counters = cluster.counters;
  scrape.gauge("keelback_cluster_member", "1 if this node is a member of the cluster.",
               cluster.phase == "member" ? 1 : 0);
  scrape.gauge("keelback_cluster_database_up", "1 if the cluster's database answers.",
               cluster.database_up ? 1 : 0);
  scrape.gauge("keelback_cluster_database_weaknesses",
               "Reasons why the cluster's database may lose what it acknowledged.",
               static_cast<double>(cluster.weaknesses.size()));
  scrape.counter("keelback_cluster_database_went_back_total",
                 "Times that the cluster's database had lost what it had acknowledged.",
                 static_cast<double>(counters.went_back));
  scrape.gauge("keelback_cluster_serves_sessions",
               "1 if calls of sessions that this node owns start now.",
               cluster.serves_sessions ? 1 : 0);
  scrape.gauge("keelback_cluster_sessions_owned", "Sessions that this node owns.",
               static_cast<double>(cluster.sessions));
  add_cluster_nodes(scrape, cluster);
  add_counts(scrape, "keelback_cluster_sessions_total",
             "What happened to sessions between the nodes.", "event",
             {{"claimed", counters.claims},
              {"taken_over", counters.taken_over},
              {"forgotten", counters.forgotten},
              {"lost", counters.sessions_lost},
              {"expired", counters.sessions_expired}});
  add_counts(scrape, "keelback_cluster_commits_total", "Commits of sessions' states, by result.",
             "result",
             {{"kept", counters.commits_kept},
              {"lost", counters.commits_lost},
              {"unknown", counters.commits_unknown}});
  add_counts(scrape, "keelback_cluster_hops_total",
             "Calls that this node sent to the owner, and calls sent here whose session it does "
             "not own.",
             "event", {{"forwarded", counters.forwarded}, {"misdirected", counters.misdirected}});
  add_counts(scrape, "keelback_cluster_retired_total",
             "Nodes that this one found dead, and times that it was found dead itself.", "which",
             {{"other", counters.retired_others}, {"self", counters.retired}});
}

void add_process(Scrape& scrape) {
  rusage usage{};
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  const auto as_seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  scrape.counter("keelback_process_cpu_seconds_total", "User and system time of the supervisor.",
                 as_seconds(usage.ru_utime) + as_seconds(usage.ru_stime));
  scrape.gauge("keelback_process_resident_memory_bytes", "Resident memory of the supervisor.",
               static_cast<double>(os::read_resident_bytes(::getpid()).value_or(0)));
  scrape.gauge("keelback_process_open_fds", "Open descriptors of the supervisor.",
               static_cast<double>(os::count_open_fds().value_or(0)));
  scrape.gauge("keelback_process_threads", "Threads of the supervisor.",
               static_cast<double>(os::threads_of(::getpid()).size()));
  scrape.counter("keelback_unexpected_total", "Conditions believed impossible that were met.",
                 static_cast<double>(unexpected_count()));
}

void observe(CallDurations::Series& series, std::chrono::nanoseconds duration) {
  const double value = seconds(duration);
  const auto bound = std::ranges::lower_bound(CallDurations::kBounds, value);
  ++series.counts[static_cast<std::size_t>(bound - CallDurations::kBounds.begin())];
  series.sum += value;
}

}  // namespace

void CallDurations::observe(std::string_view function, const Outcome& outcome) {
  // A caller may invent a function's name. A name that no worker knows gets no series.
  if (outcome.attempts == 0 || outcome.kind == OutcomeKind::kUnknownFunction) return;
  auto found = functions_.find(function);
  if (found == functions_.end()) {
    found = functions_.size() < kFunctionsMax ? functions_.try_emplace(std::string(function)).first
                                              : functions_.try_emplace("_other").first;
  }
  server::observe(found->second.queue, outcome.queued);
  server::observe(found->second.run, outcome.ran);
}

std::string metrics_text(const host::PoolInfo& info, const ServerCounts& server,
                         const CallDurations& durations,
                         const std::optional<host::ClusterInfo>& cluster) {
  const PoolStats& stats = info.stats;
  Scrape scrape;
  add_calls(scrape, stats);
  add_workers(scrape, stats);
  add_sessions(scrape, stats);
  add_snapshots(scrape, stats, info.store);
  add_log(scrape, info, server);
  scrape.gauge("keelback_attachment_carried_bytes", "Attachments of unfinished calls.",
               static_cast<double>(stats.attachments.carried_bytes));
  scrape.gauge("keelback_attachment_slab_bytes", "Shared memory of all workers, for attachments.",
               static_cast<double>(info.stats.attachments.slab_bytes));
  scrape.counter("keelback_http_rejected_total",
                 "Requests refused before the pool saw them (syntax, authentication, limits).",
                 static_cast<double>(server.http_rejected));
  scrape.gauge("keelback_http_connections", "Open HTTP connections.",
               static_cast<double>(server.connections));
  add_provided(scrape, server.provided);
  add_durations(scrape, durations);
  add_loop_lag(scrape, info.loop_lag);
  add_batches(scrape, stats);
  if (cluster) add_cluster(scrape, *cluster);
  add_process(scrape);
  scrape.gauge("keelback_guard_resident_memory_bytes", "Resident memory of the guard.",
               static_cast<double>(info.guard.resident_bytes));
  scrape.gauge("keelback_guard_open_fds", "Open descriptors of the guard.",
               static_cast<double>(info.guard.open_fds));
  return scrape.text();
}

}  // namespace keelback::server
