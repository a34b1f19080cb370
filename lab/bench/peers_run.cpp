#include "bench/peers_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/agent_process.h"
#include "bench/quantile_interval.h"
#include "load/application.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

// What the alternatives write to stderr is for people. Their errors come in their answers.
constexpr auto kQuiet = LineProcess::Stderr::kNowhere;
constexpr double kLeast = 1e-9;   // used instead of zero in logarithms
constexpr double kTypicalS = 10;  // of a stage

double log_of(double value) { return std::log(std::max(value, kLeast)); }

PeerRow row_for(const Metric& metric) {
  return {.id = std::string(metric.id),
          .what = std::string(metric.doc),
          .unit = std::string(metric.unit),
          .target = metric.target,
          .at_most = metric.better == Better::kLess};
}

// A figure that is held against a number: the median of its samples or, as the row's name says, its
// p99; of what must be at least so much, the least.
PeerRow row_alone(const Metric& metric, const std::vector<double>& samples) {
  PeerRow row = row_for(metric);
  QuantileEstimate figure;
  if (metric.id.ends_with(".p99")) {
    figure = quantile_interval(samples, 0.99, 0.95);
  } else {
    std::vector<double> logs;
    for (const double sample : samples) logs.push_back(log_of(sample));
    const Estimate centre = hodges_lehmann(logs, 0.95);
    const double value = row.at_most ? median(samples) : *std::ranges::min_element(samples);
    figure = {value, std::min(value, std::exp(centre.low)), std::exp(centre.high)};
  }
  row.ours = figure.value;
  row.log_ratio = {log_of(figure.value), log_of(figure.low), log_of(figure.high)};
  row.blocks = samples.size();
  return row;
}

}  // namespace

std::expected<PeersResult, std::string> PeersRun::run(std::span<const PeerStage> stages) {
  std::vector<const PeerStage*> chosen;
  for (const PeerStage& stage : stages) {
    const bool with = stage.with != nullptr && wanted(stage.with);
    if (wanted(stage.group) || with) chosen.push_back(&stage);
  }
  pace_.emplace(options_.progress, kTypicalS * static_cast<double>(chosen.size()));
  for (const PeerStage* stage : chosen) {
    if (auto error = stage->measure(*this); !error.empty()) return std::unexpected(error);
  }
  return std::move(result_);
}

bool PeersRun::wanted(std::string_view group) const {
  return options_.groups.empty() ||
         std::ranges::find(options_.groups, group) != options_.groups.end();
}

std::string PeersRun::measure(const std::string& stage, const std::vector<Arm>& arms, int count,
                              const std::function<void(Block&)>& one) {
  std::vector<Block> blocks;
  for (int i = 0; i < count; ++i) {
    pace_->say(stage);
    blocks.emplace_back(arms, prng_);
    one(blocks.back());
    if (!blocks.back().error().empty()) return blocks.back().error();
    pace_->did(kTypicalS / count);
  }
  for (const Metric& metric : metrics()) {
    if (metric.held) add_rows(metric, arms, blocks);
  }
  return {};
}

void PeersRun::add_rows(const Metric& metric, const std::vector<Arm>& arms,
                        std::vector<Block>& blocks) {
  bool alone = true;
  for (std::size_t arm = kOurs + 1; arm < arms.size(); ++arm) {
    std::vector<double> ours, theirs, logs;
    for (Block& block : blocks) {
      const Sample &own = block.sample(kOurs), &other = block.sample(arm);
      const auto ratio = log_ratio(metric, own, other);
      if (!ratio) continue;
      logs.push_back(*ratio);
      ours.push_back(*own.value(metric));
      theirs.push_back(*other.value(metric));
    }
    if (logs.empty()) continue;
    alone = false;
    PeerRow row = row_for(metric);
    if (const auto star = row.id.find('*'); star != std::string::npos)
      row.id.replace(star, 1, arms[arm].name);
    row.peer = metric.against.empty() ? arms[arm].name : std::string(metric.against);
    row.ours = median(ours);
    row.theirs = median(theirs);
    row.log_ratio = hodges_lehmann(logs, 0.95);
    row.blocks = logs.size();
    result_.rows.push_back(std::move(row));
  }
  std::vector<double> samples;
  for (Block& block : blocks) {
    const auto at = block.sample(kOurs).windows.find(metric.id);
    if (at != block.sample(kOurs).windows.end())
      samples.insert(samples.end(), at->second.begin(), at->second.end());
  }
  if (alone && !samples.empty()) result_.rows.push_back(row_alone(metric, samples));
}

Arm PeersRun::our_pool(unsigned workers, double ballast_mb, double import_s) const {
  Arm arm{.name = "ours", .program = options_.program};
  arm.start = {{"workers", workers},
               // Workers are killed on purpose.
               {"settings", {{"workers.python", options_.python}, {"breaker.failures", "0"}}},
               {"env",
                {{"KEELBACK_BENCH_IMPORT_S", fmt::format("{}", import_s)},
                 {"KEELBACK_BENCH_BALLAST_MB", fmt::format("{:.0f}", ballast_mb)}}}};
  return arm;
}

std::expected<LineProcess, std::string> PeersRun::lasting_pool(unsigned workers,
                                                               const Json& more) const {
  auto agent = start_agent(options_.program);
  if (!agent) return agent;
  Json order = our_pool(workers, 0).start;
  order["op"] = "start";
  order.merge_patch(more);
  if (auto up = agent->ask(order); !up) return std::unexpected(up.error());
  return agent;
}

std::expected<LineProcess, std::string> PeersRun::peer(const std::string& name,
                                                       const std::string& environment) const {
  std::vector<std::string> argv{"/usr/bin/env", "PYTHONPATH=" + options_.python_directory + ":" +
                                                    load::lab_python_directory()};
  if (!environment.empty()) argv.push_back(environment);
  argv.insert(argv.end(), {options_.python, "-m", "peers", name});
  return LineProcess::start(argv, kQuiet);
}

double PeersRun::asked(Block& block, std::size_t arm, LineProcess& process, const Json& order,
                       const char* field) {
  const auto answer = process.ask(order);
  if (answer) return answer->value(field, NAN);
  block.fail(arm, answer.error());
  return NAN;
}

void PeersRun::note_pair(Block& block, const std::string& metric, std::size_t arm, double ours,
                         double theirs) {
  if (!std::isfinite(ours) || !std::isfinite(theirs)) return;
  block.sample(kOurs).windows[metric] = {ours};
  block.note(metric, theirs, arm);
}

std::string PeersRun::row_of(const std::string& what, const std::string& peer,
                             const std::string& place) {
  const std::string own = fmt::format("{}.{}.{}", what, peer, place);
  return find_metric(own) ? own : fmt::format("{}.*.{}", what, place);
}

}  // namespace keelback::bench
