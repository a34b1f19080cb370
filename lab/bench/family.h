// What `bench run` measures: families of metrics, each measured in blocks of fresh processes. A
// block starts its own agents, notes one value of each of its metrics, and adds to the family's
// figures.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/prng.h"
#include "bench/line_process.h"
#include "bench/scaling_law.h"
#include "load/application.h"

namespace keelback::bench {

enum class Profile { kQuick, kPr, kNightly };
std::optional<Profile> profile_named(std::string_view name);
std::string_view to_string(Profile profile);

// One row of a report. A metric with `required` is no estimate but a promise: any block with
// another value makes the run fail.
struct RunMetric {
  std::string_view id;  // "call.p50_us"; what stands before the point is its family
  std::string_view unit;
  bool higher_is_better = false;
  std::string_view doc;
  std::optional<double> required;
};
std::span<const RunMetric> run_metrics();
const RunMetric* find_run_metric(std::string_view id);

// Curves, percentile plots and the like, as data that bench/figure.h draws.
struct Figure {
  std::string kind;  // "curve", "percentiles", "heat", "waterfall", "scaling"
  std::string title, x, y;
  bool log_x = false, log_y = false;
  std::map<std::string, std::map<double, std::vector<double>>> curves;  // series, x, one a block
  // series, nanoseconds, finished and censored
  std::map<std::string, std::map<std::int64_t, std::pair<std::uint64_t, std::uint64_t>>> buckets;
  std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::vector<double>>>>>
      rows;                                         // of a waterfall: row, stage, one a block
  nlohmann::json points = nlohmann::json::array();  // of a heat map: [s, ms, ok]
  nlohmann::json marks = nlohmann::json::array();   // [s, label]
  std::vector<std::vector<ScalingPoint>> scaling;   // one vector a block
  nlohmann::json to_json(std::uint64_t seed) const;
};

struct FamilyResult {
  std::map<std::string, std::vector<double>> values;  // by metric id, one a block
  std::vector<std::string> figure_order;
  std::map<std::string, Figure> figures;
  std::vector<std::string> void_reasons;
  std::vector<double> reference_us;  // p50 of the reference arm, one a block
  int blocks = 0;
};

struct FamilyOptions {
  std::string program;  // keelback: the agent, and the server of the http family
  std::string app = load::lab_application("bench_probe");
  std::string python = "python3";
  int cpu = -1;  // pin the agents there; -1: nowhere
  Profile profile = Profile::kPr;
};

class Subject;

// What one block of one family has at hand. The first error sticks and makes everything after it do
// nothing, so a family's text needs no checks.
class FamilyBlock {
 public:
  FamilyBlock(const FamilyOptions& options, FamilyResult& result, Prng& prng)
      : options_(options), result_(result), prng_(prng) {}

  const FamilyOptions& options() const { return options_; }
  Prng& prng() { return prng_; }
  bool first() const { return result_.blocks == 0; }  // of the run: where one picture is enough
  // Longer where the profile has the time: quick 1, pr 1, nightly 3.
  double stretch() const { return options_.profile == Profile::kNightly ? 3 : 1; }
  bool quick() const { return options_.profile == Profile::kQuick; }

  // A fresh agent with a running pool. `order` adds to the start order ("workers", "settings", …).
  Subject start(nlohmann::json order = nlohmann::json::object());

  void note(std::string_view metric, double value);
  // Of a pool of its own, where they can be counted; see allocations_per_call().
  void note_allocations(std::string_view metric);
  // The field of an answer; nothing is noted if it is not there.
  void note(std::string_view metric, const nlohmann::json& answer, const char* field);
  Figure& figure(const std::string& title, const std::string& kind, const std::string& x = {},
                 const std::string& y = {});
  // Adds an answer's histograms to a percentile figure.
  void percentiles(const std::string& title, const std::string& series,
                   const nlohmann::json& buckets);
  void doubt(const nlohmann::json& answer);  // its "void" reasons become the run's
  void fail(std::string why);
  const std::string& error() const { return error_; }

 private:
  nlohmann::json start_order(nlohmann::json more) const;

  const FamilyOptions& options_;
  FamilyResult& result_;
  Prng& prng_;
  std::string error_;
};

// An agent with a pool, for one block.
class Subject {
 public:
  // The agent's answer; an empty object if anything has failed so far.
  nlohmann::json ask(nlohmann::json order);
  nlohmann::json ask(const char* op) { return ask({{"op", op}}); }
  const nlohmann::json& started() const { return started_; }
  // Notes both metrics where the system lets us count; see system_calls_per_call().
  void note_system_calls(std::string_view caller_metric, std::string_view worker_metric);
  double seconds_to_vanish();  // SIGKILL of the agent, until none of its processes is left

 private:
  friend class FamilyBlock;
  explicit Subject(FamilyBlock& block) : block_(&block) {}
  FamilyBlock* block_;
  std::optional<LineProcess> agent_;
  nlohmann::json started_ = nlohmann::json::object();
};

struct Family {
  std::string_view name;
  std::string_view doc;
  void (*block)(FamilyBlock&);
  double typical_seconds;  // of one block, for the first guess at the time left
};
std::span<const Family> families();
const Family* find_family(std::string_view name);

}  // namespace keelback::bench
