// History: accepted runs, one JSON object a line, appended and never rewritten. What is kept of a
// metric is its logarithm as a ratio to the reference arm of the same run (times divided by it,
// rates multiplied), so that another machine or a slow day divides out; sizes and counts are kept
// as they are. Runs are held against the last accepted one only where schema, suite, topology and
// machine agree.
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace keelback::bench {

// The record of a run's document; refuses a run that is void or broke a promise.
std::expected<nlohmann::json, std::string> make_record(const nlohmann::json& document,
                                                       const std::string& reason);
// In the order of acceptance. A file that is not there is an empty history.
std::expected<std::vector<nlohmann::json>, std::string> read_history(const std::string& path);
// Refuses a record that does not continue the history (see mismatch()).
std::expected<void, std::string> append_record(const std::string& path,
                                               const nlohmann::json& record);
// What keeps two records (or documents) from being compared, as a sentence; empty: nothing.
// other_machine_too: only ratios will be looked at, so the machine may differ.
std::string mismatch(const nlohmann::json& a, const nlohmann::json& b, bool other_machine_too);

// A run against the last accepted one: per metric the change with its interval, and whether it
// stands out among all metrics (false discovery rate 10 %). `record`: of the run.
nlohmann::json against_baseline(const nlohmann::json& record, const nlohmann::json& baseline);
// Per metric the series of the history and its change points, corrected for the number of metrics.
nlohmann::json describe_history(const std::vector<nlohmann::json>& history);

}  // namespace keelback::bench
