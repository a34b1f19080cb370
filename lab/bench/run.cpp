#include "bench/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "bench/machine.h"
#include "bench/pinned.h"
#include "bench/pool_under_test.h"
#include "bench/reference.h"
#include "bench/signed_rank.h"
#include "load/generator.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

Json row_json(const Metric& metric, const std::vector<double>& values,
              const std::vector<double>& reference) {
  const Estimate estimate = hodges_lehmann(values, 0.95);
  Json row = {{"id", metric.id},
              {"unit", metric.unit},
              {"doc", metric.doc},
              {"higher_is_better", metric.better == Better::kMore},
              {"values", values},
              {"median", median(values)},
              {"interval", {estimate.low, estimate.high}},
              {"confidence", estimate.confidence}};
  if (metric.promised()) {
    row["required"] = metric.required;
    row["broken"] = std::ranges::any_of(values, [&](double v) { return v != metric.required; });
  }
  if (!reference.empty()) row["reference_us"] = median(reference);
  return row;
}

class Runner {
 public:
  explicit Runner(const RunPlan& plan) : plan_(plan), prng_(plan.seed) {}

  std::expected<Json, std::string> run() {
    for (const std::string& name : plan_.families) {
      const Family* family = find_family(name);
      if (!family) return std::unexpected(fmt::format("there is no family '{}'", name));
      chosen_.push_back(family);
    }
    if (chosen_.empty()) {
      for (const Family& family : families()) chosen_.push_back(&family);
    }
    blocks_ = plan_.blocks > 0 ? plan_.blocks : bench::blocks_of(plan_.family.profile);
    double planned = 0;
    for (const Family* family : chosen_) planned += blocks_of(*family) * family->typical_seconds;
    pace_.emplace(plan_.progress, planned);
    Json document = head();
    const load::Histogram timer = load::timer_overshoot(std::chrono::milliseconds(200));
    document["timer_p99_us"] = us(timer.quantile(0.99).value);
    {
      const Pinned pin(plan_.family.cpu);
      auto reference = ReferenceEcho::start(plan_.family.python);
      if (!reference) return std::unexpected(reference.error());
      reference_.emplace(std::move(*reference));
    }
    for (const Family* family : chosen_) document["families"].push_back(measure(*family));
    document["void"] = void_;
    document["broken"] = broken_;
    document["took_s"] = pace_->spent_s();
    return document;
  }

 private:
  Json head() const {
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    ::gmtime_r(&now, &utc);
    Json document = {{"schema", "keelback-bench-run/1"},
                     {"suite", suite_hash()},
                     {"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", utc)},
                     {"profile", to_string(plan_.family.profile)},
                     {"topology", plan_.family.cpu >= 0 ? "one-cpu" : "free"},
                     {"seed", plan_.seed},
                     {"blocks", blocks_},
                     {"program", plan_.family.program},
                     {"build", build_text()},
                     {"machine", describe_machine()},
                     {"families", Json::array()}};
    return document;
  }

  // The slow families repeat less: their blocks hold their own repetitions.
  int blocks_of(const Family& family) const {
    return family.typical_seconds > 8 ? std::max(2, blocks_ / 2) : blocks_;
  }

  Json measure(const Family& family) {
    FamilyResult result;
    std::string error;
    const int blocks = blocks_of(family);
    for (int i = 0; i < blocks && error.empty(); ++i) {
      pace_->say(std::string(family.name));
      if (const auto times = reference_->run(std::chrono::milliseconds(40)); !times.empty())
        result.reference_us.push_back(us(times[times.size() / 2]));
      FamilyBlock block(plan_.family, result, prng_);
      family.block(block);
      error = block.error();
      result.samples.push_back(std::move(block.sample()));
      pace_->did(family.typical_seconds);
    }
    if (!error.empty()) broken_.push_back(fmt::format("{}: {}", family.name, error));
    for (const std::string& reason : result.void_reasons)
      void_.push_back(fmt::format("{}: {}", family.name, reason));
    Json json = {{"name", family.name},
                 {"doc", family.doc},
                 {"blocks", result.samples.size()},
                 {"reference_us", result.reference_us},
                 {"void", result.void_reasons},
                 {"rows", rows(result)},
                 {"figures", Json::array()}};
    if (!error.empty()) json["error"] = error;
    for (const std::string& title : result.figure_order)
      json["figures"].push_back(result.figures.at(title).to_json(plan_.seed));
    return json;
  }

  Json rows(const FamilyResult& result) {
    Json rows = Json::array();
    for (const Metric& metric : metrics()) {
      std::vector<double> values;
      for (const Sample& sample : result.samples) {
        if (const auto value = sample.value(metric)) values.push_back(*value);
      }
      if (values.empty() || !metric.in_run()) continue;
      rows.push_back(row_json(metric, values, result.reference_us));
      if (rows.back().value("broken", false))
        broken_.push_back(fmt::format("{} is not {:g} in every block", metric.id, metric.required));
    }
    return rows;
  }

  const RunPlan& plan_;
  Prng prng_;
  int blocks_ = 0;
  std::optional<ReferenceEcho> reference_;
  std::vector<const Family*> chosen_;
  std::optional<Pace> pace_;
  std::vector<std::string> void_, broken_;
};

}  // namespace

int blocks_of(Profile profile) {
  switch (profile) {
    case Profile::kQuick:
      return 3;
    case Profile::kPr:
      return 6;
    case Profile::kNightly:
      return 15;
  }
  return 3;
}

std::string suite_hash() {
  std::string text = "3";  // raise when a metric keeps its name but not its meaning
  for (const Metric& metric : metrics()) {
    if (metric.in_run()) text += fmt::format("|{} {}", metric.id, metric.unit);
  }
  return fnv_text(text);
}

std::expected<Json, std::string> run_families(const RunPlan& plan) { return Runner(plan).run(); }

int exit_code_of_run(const Json& document) {
  if (!document.value("broken", Json::array()).empty()) return 1;
  return document.value("void", Json::array()).empty() ? 0 : 3;
}

}  // namespace keelback::bench
