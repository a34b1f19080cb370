// What `bench run` measures: families of metrics, each measured in blocks of fresh processes
// (bench/block.h) with one arm. A block also adds to the family's figures.
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

#include "bench/block.h"
#include "bench/scaling_law.h"
#include "load/application.h"

namespace keelback::bench {

enum class Profile { kQuick, kPr, kNightly };
std::optional<Profile> profile_named(std::string_view name);
std::string_view to_string(Profile profile);

// Curves, percentile plots and the like, as data that bench/report_kinds.h draws.
struct Figure {
  std::string kind;  // "curve", "percentiles", "heat", "waterfall", "scaling"
  std::string title, x, y;
  bool log_x = false, log_y = false;
  std::map<std::string, std::map<double, std::vector<double>>> curves;  // series, x, one a block
  std::map<std::string, Buckets> buckets;                               // by series
  std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::vector<double>>>>>
      rows;                                         // of a waterfall: row, stage, one a block
  nlohmann::json points = nlohmann::json::array();  // of a heat map: [s, ms, ok]
  nlohmann::json marks = nlohmann::json::array();   // [s, label]
  std::vector<std::vector<ScalingPoint>> scaling;   // one vector a block
  void add(const std::string& series, double at, double value) {
    curves[series][at].push_back(value);
  }
  nlohmann::json to_json(std::uint64_t seed) const;
};

struct FamilyResult {
  std::vector<Sample> samples;  // one a block
  std::vector<std::string> figure_order;
  std::map<std::string, Figure> figures;
  std::vector<std::string> void_reasons;
  std::vector<double> reference_us;  // p50 of the reference loop, one a block
};

struct FamilyOptions {
  std::string program;  // keelback: the agent, and the server of the http family
  std::string app = load::lab_application("bench_probe");
  std::string python = "python3";
  int cpu = -1;  // pin the agents there; -1: nowhere
  Profile profile = Profile::kPr;
};

class FamilyBlock : public Block {
 public:
  FamilyBlock(const FamilyOptions& options, FamilyResult& result, Prng& prng);

  const FamilyOptions& options() const { return options_; }
  bool first() const { return result_.samples.empty(); }  // of the run: where one picture is enough
  // Longer where the profile has the time: quick 1, pr 1, nightly 3.
  double stretch() const { return options_.profile == Profile::kNightly ? 3 : 1; }
  bool quick() const { return options_.profile == Profile::kQuick; }

  Subject start(const nlohmann::json& more = nlohmann::json::object()) {
    return Block::start(0, more);
  }
  void fail(const std::string& why) { Block::fail(0, why); }
  Figure& figure(const std::string& title, const std::string& kind, const std::string& x = {},
                 const std::string& y = {});
  // Adds an answer's histograms to a percentile figure.
  void percentiles(const std::string& title, const std::string& series,
                   const nlohmann::json& buckets);
  void doubt(const nlohmann::json& answer);  // its "void" reasons become the run's

 private:
  const FamilyOptions& options_;
  FamilyResult& result_;
};

// families_calls.cpp: what a call costs and how many there can be
void call_block(FamilyBlock& block);
void throughput_block(FamilyBlock& block);
void affinity_block(FamilyBlock& block);
void overload_block(FamilyBlock& block);
void http_block(FamilyBlock& block);
// families_life.cpp: how a pool lives and dies
void startup_block(FamilyBlock& block);
void recovery_block(FamilyBlock& block);
void memory_block(FamilyBlock& block);
void cleanup_block(FamilyBlock& block);
void idle_block(FamilyBlock& block);
void soak_block(FamilyBlock& block);
// families_growth.cpp: what grows with what
void scaling_block(FamilyBlock& block);

struct Family {
  std::string_view name;
  std::string_view doc;
  void (*block)(FamilyBlock&);
  double typical_seconds;  // of one block, for the first guess at the time left
};
std::span<const Family> families();
const Family* find_family(std::string_view name);

}  // namespace keelback::bench
