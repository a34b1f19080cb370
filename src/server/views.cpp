#include "server/views.h"

#include <fmt/format.h>

#include "server/json.h"

namespace keelback::server {
namespace {

Json leaving_json(const PoolStats& stats) {
  return {{"workers", stats.leaving.workers},
          {"sessions", stats.leaving.sessions},
          {"until_s", seconds(stats.leaving.until)}};
}

Json use_json(const host::OwnUse& use) {
  return {{"open_fds", use.open_fds}, {"rss_bytes", use.resident_bytes}};
}

std::string with(std::string what, const std::string& why) {
  return why.empty() ? what : fmt::format("{}: {}", what, why);
}

void add_cluster_reasons(const host::ClusterInfo& cluster, std::vector<std::string>& reasons) {
  if (cluster.phase == "joining" || cluster.phase == "displaced") {
    reasons.push_back(
        with("this node is not a member of the cluster; it serves only calls without "
             "a session and without an idempotency key",
             cluster.trouble));
  } else if (cluster.phase == "member" && !cluster.database_up) {
    reasons.push_back(with(cluster.serves_sessions
                               ? "the database of the cluster does not answer; sessions go on only "
                                 "until the lease ends"
                               : "the database of the cluster does not answer; calls of sessions "
                                 "wait",
                           cluster.trouble));
  } else if (cluster.phase == "member" && !cluster.serves_sessions) {
    reasons.emplace_back("calls of sessions wait until the database has this node's next beat");
  }
  for (const std::string& weakness : cluster.weaknesses) {
    reasons.push_back("the database of the cluster may lose what it acknowledged: " + weakness);
  }
}

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

// How many calls went together, on average; null: none has gone yet, or never will.
Json mean_batch(const PoolStats& stats, const std::string& function) {
  for (const FunctionBatches& each : stats.batches) {
    if (each.function == function && each.sizes.batches > 0) return each.sizes.mean();
  }
  return nullptr;
}

}  // namespace

std::string reloaded_json(const PoolStats& stats) {
  return dump({{"reloaded", true}, {"draining", leaving_json(stats)}});
}

std::vector<std::string> degraded_reasons(const host::PoolInfo& info,
                                          const std::optional<host::ClusterInfo>& cluster) {
  std::vector<std::string> reasons;
  if (!info.stats.failing.empty()) reasons.push_back(info.stats.failing);
  if (!info.store.up) {
    reasons.push_back(fmt::format("snapshots of sessions cannot be stored in {}: {}",
                                  info.store.name, info.store.error));
  }
  if (cluster) add_cluster_reasons(*cluster, reasons);
  return reasons;
}

std::string pool_json(const host::PoolInfo& info, const std::vector<std::string>& degraded,
                      std::uint64_t http_rejected) {
  const PoolStats& stats = info.stats;
  Json calls = {{"accepted", stats.accepted}, {"in_flight", stats.in_flight}, {"late", stats.late}};
  for (int i = 0; i < kOutcomeKinds; ++i) {
    calls[std::string(to_string(static_cast<OutcomeKind>(i)))] = stats.outcomes[i];
  }
  Json json = {
      {"ready", stats.ready},
      {"reasons", stats.reasons},
      {"degraded", degraded},
      {"draining", stats.draining},
      {"workers",
       {{"starting", stats.workers.starting},
        {"ready", stats.workers.ready},
        {"busy", stats.workers.busy},
        {"suspect", stats.workers.suspect},
        {"draining", stats.workers.draining}}},
      {"capacity", {{"total", stats.capacity.total}, {"used", stats.capacity.used}}},
      {"scaling", {{"wanted", stats.scaling.wanted}, {"why", stats.scaling.why}}},
      {"leaving", leaving_json(stats)},
      {"queue", {{"depth", stats.queue_depth}, {"delay_ms", milliseconds(stats.queue_delay)}}},
      {"calls", std::move(calls)},
      {"sessions",
       {{"active", stats.sessions.active},
        {"opened", stats.sessions.opened},
        {"expired", stats.sessions.expired},
        {"lost", stats.sessions.lost},
        {"restored", stats.sessions.restored},
        {"ended", stats.sessions.ended},
        {"moved", stats.sessions.moved},
        {"evicted", stats.sessions.evicted}}},
      {"snapshots",
       {{"kept", stats.snapshots.kept},
        {"failed", stats.snapshots.failed},
        {"stored", info.store.sessions},
        {"bytes", info.store.bytes},
        {"set_aside", info.store.set_aside},
        {"store", info.store.name},
        {"up", info.store.up},
        {"error", info.store.error}}},
      {"attachments",
       {{"carried_bytes", stats.attachments.carried_bytes},
        {"slab_bytes", info.stats.attachments.slab_bytes}}},
      {"health", {{"failed", stats.health.failed}, {"retired", stats.health.retired}}},
      {"restarts", stats.restarts},
      {"retries", stats.retries},
      {"quarantined", stats.quarantined},
      {"abandoned", stats.abandoned},
      {"loop_blocks", stats.loop_blocks},
      {"http_rejected", http_rejected},
      {"start",
       {{"mode", info.start.mode},
        {"state", info.start.state},
        {"reason", info.start.reason},
        {"import_s", info.start.import_s},
        {"zygote_pid", info.start.zygote_pid}}},
      {"processes", {{"supervisor", use_json(info.supervisor)}, {"guard", use_json(info.guard)}}}};
  return dump(json);
}

std::string cluster_json(const host::ClusterInfo& info) {
  Json nodes = Json::array();
  for (const host::ClusterNode& node : info.nodes) {
    nodes.push_back({{"name", node.name},
                     {"url", node.url},
                     {"incarnation", hex(node.incarnation)},
                     {"self", node.name == info.node && node.incarnation == info.incarnation},
                     {"draining", node.draining},
                     {"retired", node.retired},
                     {"digest", node.digest},
                     {"schema", node.schema}});
  }
  const host::ClusterCounters& counters = info.counters;
  return dump({{"node", info.node},
               {"incarnation", hex(info.incarnation)},
               {"phase", info.phase},
               {"draining", info.draining},
               {"trouble", info.trouble},
               {"serves_sessions", info.serves_sessions},
               {"sessions", info.sessions},
               {"database", {{"up", info.database_up}, {"weaknesses", info.weaknesses}}},
               {"nodes", std::move(nodes)},
               {"counters",
                {{"claims", counters.claims},
                 {"taken_over", counters.taken_over},
                 {"forwarded", counters.forwarded},
                 {"misdirected", counters.misdirected},
                 {"commits_kept", counters.commits_kept},
                 {"commits_lost", counters.commits_lost},
                 {"commits_unknown", counters.commits_unknown},
                 {"sessions_lost", counters.sessions_lost},
                 {"sessions_expired", counters.sessions_expired},
                 {"forgotten", counters.forgotten},
                 {"retired_others", counters.retired_others},
                 {"retired", counters.retired},
                 {"went_back", counters.went_back}}}});
}

std::string workers_json(const std::vector<host::WorkerInfo>& workers) {
  Json list = Json::array();
  for (const host::WorkerInfo& worker : workers) {
    Json item = {{"slot", worker.worker.slot},
                 {"generation", worker.worker.generation},
                 {"pid", worker.pid},
                 {"state", core::to_string(worker.state)},
                 {"calls", worker.calls},
                 {"sessions", worker.sessions},
                 {"rss_bytes", worker.rss_bytes},
                 {"age_s", seconds(worker.age)},
                 {"log_dropped_lines", worker.log_dropped_lines}};
    item["capacity"] = worker.capacity;
    item["running"] = worker.running.size();
    Json running = Json::array();
    for (const auto& call : worker.running) {
      running.push_back(
          {{"call", call.call.value}, {"function", call.function}, {"age_s", seconds(call.age)}});
      if (!call.session.empty()) running.back()["session"] = call.session;
      if (call.parent) running.back()["parent"] = call.parent.value;
    }
    item["running_calls"] = std::move(running);
    if (!worker.function.empty()) item["function"] = worker.function;
    if (!worker.sick.empty()) item["sick"] = worker.sick;
    list.push_back(std::move(item));
  }
  return dump(list);
}

std::string sessions_json(const SessionList& page, std::string_view node) {
  Json items = Json::array();
  for (const SessionStatus& session : page.items) {
    items.push_back({{"id", session.id},
                     {"slot", session.worker.slot},
                     {"generation", session.worker.generation},
                     {"birth", hex(session.birth)},
                     {"epoch", session.epoch},
                     {"idle_s", seconds(session.idle)},
                     {"age_s", seconds(session.age)},
                     {"state", session.state}});
  }
  Json json = {{"total", page.total}, {"items", std::move(items)}};
  if (page.next) json["next"] = *page.next;
  if (!node.empty()) json["node"] = node;
  return dump(json);
}

std::string quarantine_json(const std::vector<QuarantinedRequest>& entries, std::uint64_t total) {
  Json items = Json::array();
  for (const QuarantinedRequest& entry : entries) {
    items.push_back({{"fingerprint", hex(entry.fingerprint)},
                     {"function", entry.function},
                     {"session", entry.session},
                     {"deaths", entry.deaths},
                     {"remaining_s", seconds(entry.remaining)}});
  }
  return dump({{"total", total}, {"items", std::move(items)}});
}

std::string functions_json(const Application& application, const PoolStats& stats) {
  Json functions = Json::array();
  for (const FunctionInfo& function : application.functions) {
    Json parameters = Json::array();
    for (const FunctionInfo::Parameter& each : function.parameters) {
      parameters.push_back({{"name", each.name},
                            {"kind", each.kind},
                            {"required", each.required},
                            {"type", each.type.empty() ? Json() : Json(each.type)}});
      if (!each.schema.empty()) parameters.back()["schema"] = parsed(each.schema);
    }
    functions.push_back({{"name", function.name},
                         {"doc", function.doc},
                         {"idempotent", function.idempotent},
                         {"stream", function.stream},
                         {"async", function.async},
                         {"timeout", function.timeout ? Json(seconds(*function.timeout)) : Json()},
                         {"max_workers", function.max_workers},
                         {"concurrency", function.concurrency},
                         {"batch", function.batch},
                         {"batch_wait", seconds(function.batch_wait)},
                         {"interruptible", function.interruptible},
                         {"params", std::move(parameters)}});
    if (function.batch > 0) functions.back()["batch_mean"] = mean_batch(stats, function.name);
    if (!function.result_schema.empty()) {
      functions.back()["result"] = parsed(function.result_schema);
    }
  }
  Json json = {{"app", application.name},
               {"runtime", application.runtime},
               {"functions", std::move(functions)}};
  if (!application.definitions.empty()) json["$defs"] = parsed(application.definitions);
  return dump(json);
}

}  // namespace keelback::server
