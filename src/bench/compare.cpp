#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "bench/metrics.h"
#include "bench/signed_rank.h"

namespace keelback::bench {
namespace {

std::size_t gated_metrics() {
  return static_cast<std::size_t>(
      std::ranges::count_if(metrics(), [](const Metric& m) { return m.gated; }));
}

std::vector<double> values_of(const std::vector<Block>& blocks, bool head, const std::string& id) {
  std::vector<double> values;
  for (const Block& block : blocks) {
    const auto& side = head ? block.head : block.base;
    if (const auto it = side.find(id); it != side.end()) values.push_back(it->second);
  }
  return values;
}

std::vector<double> scores_of(const std::vector<Block>& blocks, const std::string& id) {
  std::vector<double> scores;
  for (const Block& block : blocks) {
    if (const auto it = block.score.find(id); it != block.score.end()) scores.push_back(it->second);
  }
  return scores;
}

// One metric through the looks: the first final judgement stands.
MetricResult follow(const std::string& id, GatePlan gate, const std::vector<Block>& blocks) {
  MetricResult result{.id = id, .judgement = {}, .scores = scores_of(blocks, id), .gate = gate};
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
      : options_(options), plan_(plan_of(options.profile)), prng_(options.seed) {}

  std::expected<Comparison, std::string> run() {
    const auto began = std::chrono::steady_clock::now();
    result_.seed = options_.seed;
    if (auto error = take_blocks(); !error.empty()) return std::unexpected(error);
    judge_all();
    if (auto error = control(); !error.empty()) return std::unexpected(error);
    if (auto error = canary(); !error.empty()) return std::unexpected(error);
    result_.took = std::chrono::steady_clock::now() - began;
    return std::move(result_);
  }

 private:
  void say(const std::string& stage, double share) {
    if (options_.progress) options_.progress(stage, share);
  }

  std::string take_blocks() {
    const std::size_t most = plan_.gate.looks.back();
    for (std::size_t look : plan_.gate.looks) {
      while (result_.blocks.size() < look) {
        say("base against head",
            static_cast<double>(result_.blocks.size()) / static_cast<double>(most));
        auto block = run_block(options_.block, prng_);
        if (!block) return block.error();
        result_.blocks.push_back(std::move(*block));
      }
      judge_all();
      if (std::ranges::all_of(result_.metrics, [](const MetricResult& m) {
            return m.judgement.final || !find_metric(m.id)->gated;
          })) {
        break;
      }
    }
    return {};
  }

  void judge_all() {
    result_.metrics.clear();
    for (const Metric& metric : metrics()) {
      const std::string id(metric.id);
      if (scores_of(result_.blocks, id).empty()) continue;
      GatePlan gate = plan_.gate;
      gate.alpha = 0.05 / static_cast<double>(gated_metrics());  // Bonferroni over the family
      gate.delta_tol = metric.tolerance;
      result_.metrics.push_back(follow(id, gate, result_.blocks));
    }
    result_.counters.clear();
    for (const Counter& counter : counters()) {
      const std::string id(counter.id);
      const auto base = values_of(result_.blocks, false, id),
                 head = values_of(result_.blocks, true, id);
      if (base.empty() || head.empty()) continue;
      CounterResult row{.id = id, .base = median(base), .head = median(head)};
      row.worse = row.head > row.base + counter.slack;
      result_.counters.push_back(row);
    }
  }

  // Calls only: what control and canary need.
  std::string side_run(const char* stage, std::size_t count, const nlohmann::json& head_start,
                       std::vector<Block>& out) {
    BlockOptions block = options_.block;
    block.base_program = block.head_program;
    block.base_start = block.head_start;
    block.head_start.update(head_start);
    block.calls_only = true;
    for (std::size_t i = 0; i < count; ++i) {
      say(stage, static_cast<double>(i) / static_cast<double>(count));
      auto one = run_block(block, prng_);
      if (!one) return one.error();
      out.push_back(std::move(*one));
    }
    return {};
  }

  std::string control() {
    if (plan_.control_blocks == 0) return {};
    std::vector<Block> blocks;
    if (auto error = side_run("control: head against itself", plan_.control_blocks,
                              nlohmann::json::object(), blocks);
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
    if (plan_.canary_blocks == 0 || !options_.block.own_app) return {};
    const double typical_us = median(values_of(result_.blocks, true, "call.p50_us"));
    result_.canary_slowdown = plan_.canary_slowdown;
    const auto spin_ns = static_cast<long>(1e3 * typical_us * plan_.canary_slowdown);
    std::vector<Block> blocks;
    const nlohmann::json slowed = {{"env", {{"KEELBACK_BENCH_SPIN_NS", std::to_string(spin_ns)}}}};
    if (auto error =
            side_run("canary: head against itself, slowed", plan_.canary_blocks, slowed, blocks);
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
  ProfilePlan plan_;
  Prng prng_;
  Comparison result_;
};

nlohmann::json to_json(const MetricResult& metric) {
  const Judgement& j = metric.judgement;
  const auto percent = [](double log_ratio) { return 100 * std::expm1(log_ratio); };
  nlohmann::json out = {{"id", metric.id},
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
    out["gated"] = row->gated;
    out["doc"] = row->doc;
  }
  if (j.blocks_needed) out["blocks_needed"] = j.blocks_needed;
  return out;
}

}  // namespace

ProfilePlan plan_of(Profile profile) {
  switch (profile) {
    case Profile::kQuick: {
      ProfilePlan plan;
      plan.gate.looks = {12};
      plan.gate.shares = {1.0};
      return plan;
    }
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

std::expected<Comparison, std::string> compare(const CompareOptions& options) {
  return Run(options).run();
}

Comparison::Exit Comparison::exit_code(bool strict) const {
  if (!void_reasons.empty()) return Exit::kVoid;
  bool inconclusive = false;
  for (const CounterResult& counter : counters) {
    if (counter.worse) return Exit::kRegressed;
  }
  for (const MetricResult& metric : metrics) {
    const Metric* row = find_metric(metric.id);
    if (!row || !row->gated) continue;
    if (metric.judgement.verdict == Verdict::kRegressed) return Exit::kRegressed;
    inconclusive |= metric.judgement.verdict == Verdict::kInconclusive;
  }
  return strict && inconclusive ? Exit::kInconclusive : Exit::kOk;
}

nlohmann::json to_json(const Comparison& comparison, const CompareOptions& options) {
  nlohmann::json out = {
      {"schema", "keelback-bench/1"},
      {"seed", comparison.seed},
      {"base", options.block.base_program},
      {"head", options.block.head_program},
      {"cpu", options.block.cpu},
      {"took_s", std::chrono::duration<double>(comparison.took).count()},
      {"void", comparison.void_reasons},
      {"canary", {{"slowdown", comparison.canary_slowdown}, {"caught", comparison.canary_caught}}}};
  out["metrics"] = nlohmann::json::array();
  for (const MetricResult& metric : comparison.metrics) out["metrics"].push_back(to_json(metric));
  for (const MetricResult& metric : comparison.control) out["control"].push_back(to_json(metric));
  for (const MetricResult& metric : comparison.canary)
    out["canary"]["metrics"].push_back(to_json(metric));
  out["counters"] = nlohmann::json::array();
  for (const CounterResult& row : comparison.counters) {
    out["counters"].push_back(
        {{"id", row.id}, {"base", row.base}, {"head", row.head}, {"worse", row.worse}});
  }
  out["blocks"] = nlohmann::json::array();
  for (const Block& block : comparison.blocks) {
    out["blocks"].push_back({{"head_first", block.head_first},
                             {"base", block.base},
                             {"head", block.head},
                             {"score", block.score}});
  }
  return out;
}

}  // namespace keelback::bench
