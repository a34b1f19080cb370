#include "bench/peers.h"

#include <algorithm>
#include <cmath>

#include "bench/machine.h"
#include "bench/metrics.h"
#include "bench/peer_stages.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr PeerStage kStages[] = {
    // Calls and throughput take the same processes.
    {"call", measure_pinned_calls, "throughput"},
    {"call", measure_free_calls, "throughput"},
    {"host", measure_pinned_host},
    {"host", measure_free_host},
    {"http", measure_http},
    {"shared", measure_shared},
    {"batches", measure_batches},
    {"dspy", measure_dspy},
    {"start", measure_start},
    {"ready", measure_ready},
    {"recovery", measure_recovery},
    {"stop", measure_stop},
    {"cold", measure_cold},
    {"kills", measure_kills},
    {"grow", measure_grow},
    {"zero", measure_zero},
    {"attachment", measure_attachment},
    {"ways", measure_ways},
    {"sessions", measure_sessions},
    {"simulator", measure_simulator},
};

}  // namespace

bool PeerRow::met() const {
  return target == 0 || (at_most ? figure() <= target : figure() >= target);
}

bool PeerRow::sure() const {
  const double low = std::exp(log_ratio.low), high = std::exp(log_ratio.high);
  return target == 0 || high <= target || low >= target;
}

double PeerRow::missed_by() const { return met() ? 0 : std::abs(figure() / target - 1); }

const std::vector<std::string>& peer_groups() {
  static const std::vector<std::string> groups = [] {
    std::vector<std::string> names;
    const auto add = [&](const char* name) {
      if (std::ranges::find(names, name) == names.end()) names.emplace_back(name);
    };
    for (const PeerStage& stage : kStages) {
      add(stage.group);
      if (stage.with != nullptr) add(stage.with);
    }
    return names;
  }();
  return groups;
}

namespace {

// JSON has no infinity: a bound that the samples do not give is null.
Json bound(double log) {
  const double value = std::exp(log);
  return std::isfinite(value) ? Json(value) : Json();
}

}  // namespace

std::expected<PeersResult, std::string> run_peers(const PeersOptions& options) {
  return PeersRun(options).run(kStages);
}

Json to_json(const PeersResult& result) {
  Json rows = Json::array();
  for (const PeerRow& row : result.rows) {
    Json one = {{"id", row.id},
                {"what", row.what},
                {"unit", row.unit},
                {"ours", row.ours},
                {"interval", {bound(row.log_ratio.low), bound(row.log_ratio.high)}},
                {"blocks", row.blocks}};
    if (!row.peer.empty()) {
      one["peer"] = row.peer;
      one["theirs"] = row.theirs;
      one["ratio"] = std::exp(row.log_ratio.value);
    }
    if (row.target > 0) {
      one["target"] = row.target;
      one["at_most"] = row.at_most;
      one["met"] = row.met();
      one["sure"] = row.sure();
      if (!row.met()) {
        one["missed_by"] = row.missed_by();
        const Metric* metric = find_metric(row.id);
        one["limit"] = metric ? metric->limit : std::string_view();
      }
    }
    rows.push_back(std::move(one));
  }
  return {{"schema", "keelback-peers/1"},
          {"machine", describe_machine()},
          {"build", build_text()},
          {"rows", rows},
          {"not_measured", result.not_measured}};
}

}  // namespace keelback::bench
