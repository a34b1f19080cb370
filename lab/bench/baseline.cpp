#include "bench/baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "bench/change_points.h"
#include "bench/rank_sum.h"
#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr const char* kSchema = "keelback-bench-history/1";

// ln of the value in units of the reference arm, where that has a meaning.
double score(double value, const std::string& unit, double reference_us) {
  if (unit == "µs") return std::log(value / reference_us);
  if (unit == "ms") return std::log(1000 * value / reference_us);
  if (unit == "calls/s") return std::log(value * reference_us / 1e6);
  return std::log(value);
}

bool is_ratio(const std::string& unit) { return unit == "µs" || unit == "ms" || unit == "calls/s"; }

std::vector<double> numbers(const Json& list) {
  std::vector<double> out;
  for (const auto& one : list) out.push_back(one.get<double>());
  return out;
}

}  // namespace

std::expected<Json, std::string> make_record(const Json& document, const std::string& reason) {
  if (document.value("schema", "") != "keelback-bench-run/1")
    return std::unexpected("only a run of `keelback bench run` can be accepted");
  for (const char* field : {"broken", "void"}) {
    const Json why = document.value(field, Json::array());
    if (!why.empty())
      return std::unexpected(fmt::format("this run is {} and cannot be a baseline: {}", field,
                                         why.front().get<std::string>()));
  }
  if (reason.empty()) return std::unexpected("a baseline is accepted for a reason: --reason");
  Json record = {{"schema", kSchema}, {"reason", reason}};
  for (const char* field : {"suite", "topology", "time", "profile", "seed", "build", "machine"})
    record[field] = document.value(field, Json());
  record["metrics"] = Json::object();
  for (const auto& family : document["families"]) {
    for (const auto& row : family["rows"]) {
      if (row.contains("required")) continue;
      const double reference = row.value("reference_us", 0.0);
      const std::string unit = row.value("unit", "");
      if (is_ratio(unit) && !(reference > 0)) continue;
      Json scores = Json::array();
      for (const auto& value : row["values"]) {
        const double one = score(value.get<double>(), unit, reference);
        if (std::isfinite(one)) scores.push_back(one);
      }
      if (scores.empty()) continue;
      record["metrics"][row.value("id", "")] = {{"unit", unit},
                                                {"higher_is_better", row["higher_is_better"]},
                                                {"median", row["median"]},
                                                {"reference_us", reference},
                                                {"ratio", is_ratio(unit)},
                                                {"scores", scores}};
    }
  }
  return record;
}

std::expected<std::vector<Json>, std::string> read_history(const std::string& path) {
  std::vector<Json> history;
  std::ifstream file(path);
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.empty()) continue;
    Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || record.value("schema", "") != kSchema)
      return std::unexpected(fmt::format("{}:{}: no record of schema {}", path, number, kSchema));
    history.push_back(std::move(record));
  }
  return history;
}

std::string mismatch(const Json& a, const Json& b, bool other_machine_too) {
  for (const char* field : {"schema", "suite", "topology"}) {
    if (a.value(field, "") != b.value(field, ""))
      return fmt::format("the {} differs: '{}' and '{}'", field, a.value(field, ""),
                         b.value(field, ""));
  }
  const Json one = a.value("machine", Json::object()), other = b.value("machine", Json::object());
  if (!other_machine_too && one.value("fingerprint", "") != other.value("fingerprint", ""))
    return fmt::format(
        "the machine differs: {} with {} processors, kernel {}, and {} with {}, kernel {}",
        one.value("cpu", "?"), one.value("ncpu", 0), one.value("kernel", "?"),
        other.value("cpu", "?"), other.value("ncpu", 0), other.value("kernel", "?"));
  return {};
}

std::expected<void, std::string> append_record(const std::string& path, const Json& record) {
  const auto history = read_history(path);
  if (!history) return std::unexpected(history.error());
  if (!history->empty()) {
    if (const std::string why = mismatch(history->back(), record, false); !why.empty())
      return std::unexpected(
          fmt::format("this run does not continue {}: {}; give another --file", path, why));
  }
  std::ofstream file(path, std::ios::app);
  file << record.dump() << "\n";
  file.close();
  if (!file) return std::unexpected(fmt::format("{} cannot be written", path));
  return {};
}

Json against_baseline(const Json& record, const Json& baseline) {
  Json rows = Json::array();
  std::vector<double> p;
  for (const auto& [id, metric] : record["metrics"].items()) {
    const Json known = baseline["metrics"].value(id, Json());
    if (known.is_null()) continue;
    const auto before = numbers(known["scores"]), now = numbers(metric["scores"]);
    const RankSum change = rank_sum(before, now, 0.95);
    const auto percent = [](double log_ratio) { return 100 * std::expm1(log_ratio); };
    p.push_back(change.p);
    rows.push_back(
        {{"id", id},
         {"unit", metric["unit"]},
         {"before", known["median"]},
         {"now", metric["median"]},
         {"change_percent", percent(change.shift.value)},
         {"interval_percent", {percent(change.shift.low), percent(change.shift.high)}},
         {"p", change.p},
         {"worse", (change.shift.value > 0) != metric.value("higher_is_better", false)}});
  }
  const std::vector<bool> out = false_discovery(p, 0.10);
  for (std::size_t i = 0; i < out.size(); ++i) rows[i]["stands_out"] = static_cast<bool>(out[i]);
  return rows;
}

Json describe_history(const std::vector<Json>& history) {
  std::map<std::string, std::vector<double>> series;
  std::map<std::string, std::vector<std::string>> times;  // a metric need not be in every record
  for (const Json& record : history) {
    for (const auto& [id, metric] : record["metrics"].items()) {
      series[id].push_back(median(numbers(metric["scores"])));
      times[id].push_back(record.value("time", ""));
    }
  }
  Json rows = Json::array();
  for (const auto& [id, scores] : series) {
    Json row = {{"id", id}, {"scores", scores}, {"changes", Json::array()}};
    // Bonferroni over the metrics: a history of forty metrics would else always find something.
    const ChangeOptions options{.alpha = 0.05 / static_cast<double>(series.size()),
                                .shuffles = static_cast<int>(20 * series.size() + 999)};
    for (const ChangePoint& change : change_points(scores, options)) {
      row["changes"].push_back({{"at", change.at},
                                {"time", times[id][change.at]},
                                {"percent", 100 * std::expm1(change.after - change.before)},
                                {"p", change.p}});
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace keelback::bench
