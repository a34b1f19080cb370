#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "bench/agent_process.h"
#include "bench/machine.h"
#include "bench/metrics.h"
#include "bench/sequential.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

struct ProfilePlan {
  GatePlan gate;                   // alpha is of the whole family; each metric gets its share
  std::size_t control_blocks = 0;  // 0: none (and the report says so)
  std::size_t canary_blocks = 0;
  double canary_slowdown = 0.10;
};

ProfilePlan plan_of(Profile profile) {
  switch (profile) {
    case Profile::kQuick:
      return {.gate = {.looks = {12}, .shares = {1.0}}};
    case Profile::kPr:
      return {.gate = GatePlan::pr(), .control_blocks = 12, .canary_blocks = 12};
    case Profile::kNightly:
      return {.gate = GatePlan::nightly(),
              .control_blocks = 24,
              .canary_blocks = 18,
              .canary_slowdown = 0.05};
  }
  return {};
}

struct MetricResult {
  std::string id;
  Judgement judgement;
  std::vector<double> scores;
  double base_median = 0, head_median = 0;
  GatePlan gate;
};

struct CounterResult {
  std::string id, doc;
  double base = 0, head = 0;  // medians over the blocks
  bool worse = false;         // head is above base by more than the slack
};

struct Comparison {
  std::vector<MetricResult> metrics;
  std::vector<CounterResult> counters;
  std::vector<Pair> blocks;
  std::vector<std::string> void_reasons;  // empty: the run counts
  std::vector<MetricResult> control;      // of call.p10_us and call.p50_us
  double canary_slowdown = 0;             // what was injected, as a share of the median call
  std::vector<MetricResult> canary;
  bool canary_caught = false;
  double took_s = 0;
};

int exit_code(const Comparison& comparison, bool strict) {
  if (!comparison.void_reasons.empty()) return 3;
  if (std::ranges::any_of(comparison.counters, &CounterResult::worse)) return 1;
  bool inconclusive = false;
  for (const MetricResult& metric : comparison.metrics) {
    const Metric* row = find_metric(metric.id);
    if (!row || !row->gated()) continue;
    if (metric.judgement.verdict == Verdict::kRegressed) return 1;
    inconclusive |= metric.judgement.verdict == Verdict::kInconclusive;
  }
  return strict && inconclusive ? 4 : 0;
}

std::size_t gated_metrics() {
  return static_cast<std::size_t>(
      std::ranges::count_if(metrics(), [](const Metric& m) { return m.gated(); }));
}

std::vector<double> values_of(const std::vector<Pair>& blocks, bool head, const std::string& id) {
  std::vector<double> values;
  for (const Pair& block : blocks) {
    const auto& side = head ? block.head : block.base;
    if (const auto it = side.find(id); it != side.end()) values.push_back(it->second);
  }
  return values;
}

std::vector<double> scores_of(const std::vector<Pair>& blocks, const std::string& id) {
  std::vector<double> scores;
  for (const Pair& block : blocks) {
    if (const auto it = block.score.find(id); it != block.score.end()) scores.push_back(it->second);
  }
  return scores;
}

// One metric through the looks: the first final judgement stands.
MetricResult follow(const std::string& id, GatePlan gate, const std::vector<Pair>& blocks) {
  MetricResult result{.id = id, .scores = scores_of(blocks, id), .gate = gate};
  const std::vector<double> base = values_of(blocks, false, id), head = values_of(blocks, true, id);
  if (!base.empty()) result.base_median = median(base);
  if (!head.empty()) result.head_median = median(head);
  for (const std::size_t look : gate.looks) {
    if (result.scores.size() < look) break;
    result.judgement = judge(gate, std::span(result.scores).first(look));
    if (result.judgement.final) break;
  }
  return result;
}

// Control and canary answer one question each, at one look, on the two steadiest metrics.
constexpr const char* kSteady[] = {"call.p10_us", "call.p50_us"};

constexpr double kTypicalS = 2.5;     // of a block
constexpr double kShortBlock = 0.35;  // a block of calls only takes of a whole one

// A start order with a noop that computes for so long.
Json slowed_by(double microseconds) {
  const auto spin_ns = static_cast<long>(1e3 * microseconds);
  return {{"env", {{"KEELBACK_BENCH_SPIN_NS", std::to_string(spin_ns)}}}};
}

GatePlan one_look(const GatePlan& gate, std::size_t blocks, double alpha) {
  GatePlan plan = gate;
  plan.looks = {blocks};
  plan.shares = {1.0};
  plan.alpha = alpha;
  return plan;
}

class Run {
 public:
  Run(const CompareOptions& options)
      : options_(options), plan_(plan_of(options.profile)), prng_(options.seed) {
    const auto behind = static_cast<double>(plan_.control_blocks + plan_.canary_blocks);
    pace_.emplace(options_.progress, kTypicalS * (static_cast<double>(plan_.gate.looks.back()) +
                                                  kShortBlock * behind));
  }

  std::expected<Comparison, std::string> run() {
    if (auto error = check_builds(); !error.empty()) return std::unexpected(error);
    if (auto error = inject(); !error.empty()) return std::unexpected(error);
    if (auto error = take_blocks(); !error.empty()) return std::unexpected(error);
    judge_all();
    if (auto error = control(); !error.empty()) return std::unexpected(error);
    if (auto error = canary(); !error.empty()) return std::unexpected(error);
    result_.took_s = pace_->spent_s();
    return std::move(result_);
  }

 private:
  // Between builds of different kinds the comparison would be one of compilers.
  std::string check_builds() {
    const auto base = build_of(block_.base_program), head = build_of(block_.head_program);
    if (!base) return base.error();
    if (!head) return head.error();
    if (*base != *head)
      result_.void_reasons.push_back(
          fmt::format("the builds differ in more than their source: {} and {}", *base, *head));
    return {};
  }

  std::string inject() {
    if (options_.inject <= 0) return {};
    PairOptions block = block_;
    block.calls_only = true;
    const auto one = run_pair(block, prng_);
    if (!one) return one.error();
    injected_us_ = options_.inject * one->head.at("call.p50_us");
    block_.head_start.merge_patch(slowed_by(injected_us_));
    return {};
  }

  std::string take_blocks() {
    const std::size_t most = plan_.gate.looks.back();
    for (std::size_t look : plan_.gate.looks) {
      while (result_.blocks.size() < look) {
        pace_->say("base against head, at most");
        // It takes a pool more, and is the same number each time.
        block_.count_allocations = result_.blocks.size() < 3;
        auto block = run_pair(block_, prng_);
        if (!block) return block.error();
        result_.blocks.push_back(std::move(*block));
        pace_->did(kTypicalS);
      }
      judge_all();
      if (std::ranges::all_of(result_.metrics, [](const MetricResult& m) {
            return m.judgement.final || !find_metric(m.id)->gated();
          })) {
        pace_->drop(kTypicalS * static_cast<double>(most - result_.blocks.size()));
        break;
      }
    }
    return {};
  }

  void judge_all() {
    result_.metrics.clear();
    for (const Metric& metric : metrics()) {
      const std::string id(metric.compare_id());
      if (!metric.judged() || scores_of(result_.blocks, id).empty()) continue;
      GatePlan gate = plan_.gate;
      gate.alpha = 0.05 / static_cast<double>(gated_metrics());  // Bonferroni over the family
      gate.delta_tol = metric.tolerance;
      result_.metrics.push_back(follow(id, gate, result_.blocks));
    }
    result_.counters.clear();
    for (const Metric& metric : metrics()) {
      if (!metric.counted()) continue;
      if (metric.compared == Compared::kCountedOnOneCpu && block_.cpu < 0) continue;
      const std::string id(metric.compare_id());
      const auto base = values_of(result_.blocks, false, id),
                 head = values_of(result_.blocks, true, id);
      if (base.empty() || head.empty()) continue;
      CounterResult row{
          .id = id, .doc = std::string(metric.doc), .base = median(base), .head = median(head)};
      row.worse = row.head > row.base + metric.tolerance;
      result_.counters.push_back(row);
    }
  }

  // Calls only: what control and canary need.
  std::string side_run(const char* stage, std::size_t count, const Json& head_start,
                       std::vector<Pair>& out) {
    PairOptions block = block_;
    block.base_program = block.head_program;
    block.base_start = block.head_start;
    block.head_start.merge_patch(head_start);
    block.calls_only = true;
    for (std::size_t i = 0; i < count; ++i) {
      pace_->say(stage);
      auto one = run_pair(block, prng_);
      if (!one) return one.error();
      out.push_back(std::move(*one));
      pace_->did(kShortBlock * kTypicalS);
    }
    return {};
  }

  std::string control() {
    if (plan_.control_blocks == 0) return {};
    std::vector<Pair> blocks;
    if (auto error =
            side_run("control: head against itself", plan_.control_blocks, Json::object(), blocks);
        !error.empty())
      return error;
    for (const char* id : kSteady) {
      result_.control.push_back(
          follow(id, one_look(plan_.gate, plan_.control_blocks, 0.0025), blocks));
      const Verdict verdict = result_.control.back().judgement.verdict;
      if (verdict == Verdict::kRegressed || verdict == Verdict::kImproved ||
          verdict == Verdict::kSlowerWithinTolerance) {
        result_.void_reasons.push_back(
            fmt::format("control: {} of the same program against itself came out as {}", id,
                        to_string(verdict)));
      }
    }
    return {};
  }

  std::string canary() {
    if (plan_.canary_blocks == 0) return {};
    const double typical_us = median(values_of(result_.blocks, true, "call.p50_us"));
    result_.canary_slowdown = plan_.canary_slowdown;
    std::vector<Pair> blocks;
    if (auto error = side_run("canary: head against itself, slowed", plan_.canary_blocks,
                              // On top of what the head burns already, which one setting says.
                              slowed_by(injected_us_ + plan_.canary_slowdown * typical_us), blocks);
        !error.empty())
      return error;
    for (const char* id : kSteady) {
      result_.canary.push_back(follow(id, one_look(plan_.gate, plan_.canary_blocks, 0.01), blocks));
      const Verdict verdict = result_.canary.back().judgement.verdict;
      result_.canary_caught |=
          verdict == Verdict::kRegressed || verdict == Verdict::kSlowerWithinTolerance;
    }
    if (!result_.canary_caught) {
      result_.void_reasons.push_back(fmt::format(
          "canary: an injected slowdown of {:.0f} % was not caught", 100 * plan_.canary_slowdown));
    }
    return {};
  }

  const CompareOptions& options_;
  PairOptions block_ = options_.block;
  ProfilePlan plan_;
  Prng prng_;
  double injected_us_ = 0;  // what every call of the head burns more
  Comparison result_;
  std::optional<Pace> pace_;
};

Json to_json(const MetricResult& metric) {
  const Judgement& j = metric.judgement;
  const auto percent = [](double log_ratio) { return 100 * std::expm1(log_ratio); };
  Json out = {{"id", metric.id},
              {"verdict", to_string(j.verdict)},
              {"base", metric.base_median},
              {"head", metric.head_median},
              {"change_percent", percent(j.effect.value)},
              {"interval_percent", {percent(j.effect.low), percent(j.effect.high)}},
              {"confidence", j.effect.confidence},
              {"p_slower", j.p_slower},
              {"p_fine", j.p_fine},
              {"blocks", j.blocks},
              {"delta_min", metric.gate.delta_min},
              {"delta_tol", metric.gate.delta_tol},
              {"scores", metric.scores}};
  if (const Metric* row = find_metric(metric.id)) {
    out["unit"] = row->unit;
    out["gated"] = row->gated();
    out["doc"] = row->doc;
  }
  if (j.blocks_needed) out["blocks_needed"] = j.blocks_needed;
  if (!metric.scores.empty())
    out["resolves_percent"] =
        100 *
        smallest_detectable(metric.gate, robust_deviation(metric.scores), metric.scores.size());
  return out;
}

Json series_of(const std::vector<Pair>& blocks, const char* curve, const std::string& suffix) {
  Json series = Json::array();
  for (const bool head : {false, true}) {
    Buckets sum;
    for (const Pair& block : blocks) {
      const auto& curves = head ? block.head_curves : block.base_curves;
      const auto at = curves.find(curve);
      if (at == curves.end()) continue;
      add(sum, at->second);
    }
    if (!sum.empty())
      series.push_back(
          {{"name", (head ? "head" : "base") + suffix}, {"buckets", bench::to_json(sum)}});
  }
  return series;
}

Json to_json(const Comparison& comparison, const CompareOptions& options) {
  Json out = {
      {"schema", "keelback-bench/1"},
      {"profile", to_string(options.profile)},
      {"strict", options.strict},
      {"exit", exit_code(comparison, options.strict)},
      {"machine", describe_machine()},
      {"build", build_text()},
      {"topology", options.block.cpu >= 0 ? "one-cpu" : "free"},
      {"seed", options.seed},
      {"base", options.block.base_program},
      {"head", options.block.head_program},
      {"cpu", options.block.cpu},
      {"took_s", comparison.took_s},
      {"void", comparison.void_reasons},
      {"canary", {{"slowdown", comparison.canary_slowdown}, {"caught", comparison.canary_caught}}}};
  out["metrics"] = Json::array();
  for (const MetricResult& metric : comparison.metrics) out["metrics"].push_back(to_json(metric));
  for (const MetricResult& metric : comparison.control) out["control"].push_back(to_json(metric));
  for (const MetricResult& metric : comparison.canary)
    out["canary"]["metrics"].push_back(to_json(metric));
  out["counters"] = Json::array();
  for (const CounterResult& row : comparison.counters) {
    out["counters"].push_back({{"id", row.id},
                               {"base", row.base},
                               {"head", row.head},
                               {"worse", row.worse},
                               {"doc", row.doc}});
  }
  out["curves"] = {{"One caller, closed loop", series_of(comparison.blocks, "closed", "")}};
  Json open = series_of(comparison.blocks, "open", ", from the planned time");
  for (const auto& one : series_of(comparison.blocks, "service", ", service alone"))
    open.push_back(one);
  out["curves"]["Open loop at 15 % of the base's lone caller"] = std::move(open);
  out["blocks"] = Json::array();
  for (const Pair& block : comparison.blocks) {
    out["blocks"].push_back({{"head_first", block.head_first},
                             {"base", block.base},
                             {"head", block.head},
                             {"score", block.score}});
  }
  return out;
}

}  // namespace

std::expected<Json, std::string> compare(const CompareOptions& options) {
  const auto comparison = Run(options).run();
  if (!comparison) return std::unexpected(comparison.error());
  return to_json(*comparison, options);
}

int exit_code_of_compare(const Json& document) { return document.value("exit", 0); }

}  // namespace keelback::bench
