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
using Clock = std::chrono::steady_clock;

Json row_json(const RunMetric& metric, const std::vector<double>& values,
              const std::vector<double>& reference) {
  const Estimate estimate = hodges_lehmann(values, 0.95);
  Json row = {{"id", metric.id},
              {"unit", metric.unit},
              {"doc", metric.doc},
              {"higher_is_better", metric.higher_is_better},
              {"values", values},
              {"median", median(values)},
              {"interval", {estimate.low, estimate.high}},
              {"confidence", estimate.confidence}};
  if (metric.required) {
    row["required"] = *metric.required;
    row["broken"] = std::ranges::any_of(values, [&](double v) { return v != *metric.required; });
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
    blocks_ = plan_.blocks > 0 ? plan_.blocks : blocks_of(plan_.family.profile);
    const auto began = Clock::now();
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
    document["took_s"] = std::chrono::duration<double>(Clock::now() - began).count();
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

  Json measure(const Family& family) {
    FamilyResult result;
    Json json = {{"name", family.name}, {"doc", family.doc}};
    // The slow families repeat less: their blocks hold their own repetitions.
    const int blocks = family.typical_seconds > 8 ? std::max(2, blocks_ / 2) : blocks_;
    std::string error;
    for (int i = 0; i < blocks && error.empty(); ++i) {
      say(family, static_cast<double>(i) / blocks);
      const auto began = Clock::now();
      if (const auto times = reference_->run(std::chrono::milliseconds(40)); !times.empty())
        result.reference_us.push_back(us(times[times.size() / 2]));
      FamilyBlock block(plan_.family, result, prng_);
      family.block(block);
      error = block.error();
      ++result.blocks;
      spent_ += std::chrono::duration<double>(Clock::now() - began).count();
      planned_ += family.typical_seconds;
    }
    ++finished_;
    json["blocks"] = result.blocks;
    json["reference_us"] = result.reference_us;
    json["void"] = result.void_reasons;
    if (!error.empty()) {
      json["error"] = error;
      broken_.push_back(fmt::format("{}: {}", family.name, error));
    }
    for (const std::string& reason : result.void_reasons)
      void_.push_back(fmt::format("{}: {}", family.name, reason));
    json["rows"] = Json::array();
    for (const RunMetric& metric : run_metrics()) {
      const auto values = result.values.find(std::string(metric.id));
      if (values == result.values.end()) continue;
      json["rows"].push_back(row_json(metric, values->second, result.reference_us));
      if (json["rows"].back().value("broken", false))
        broken_.push_back(
            fmt::format("{} is not {:g} in every block", metric.id, *metric.required));
    }
    json["figures"] = Json::array();
    for (const std::string& title : result.figure_order)
      json["figures"].push_back(result.figures.at(title).to_json(plan_.seed));
    return json;
  }

  // What is left by the typical lengths, corrected by how this machine has kept to them so far.
  void say(const Family& family, double share_of_family) const {
    if (!plan_.progress) return;
    double all = 0, done = 0;
    for (std::size_t i = 0; i < chosen_.size(); ++i) {
      const double blocks = chosen_[i]->typical_seconds > 8 ? std::max(2, blocks_ / 2) : blocks_;
      const double length = blocks * chosen_[i]->typical_seconds;
      all += length;
      done += i < finished_ ? length : i == finished_ ? share_of_family * length : 0;
    }
    const double pace = planned_ > 0 ? spent_ / planned_ : 1;
    plan_.progress(std::string(family.name), done / all,
                   Duration{static_cast<long>(1e9 * (all - done) * pace)});
  }

  const RunPlan& plan_;
  Prng prng_;
  int blocks_ = 0;
  std::optional<ReferenceEcho> reference_;
  std::vector<const Family*> chosen_;
  std::size_t finished_ = 0;
  double spent_ = 0, planned_ = 0;
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
  for (const RunMetric& metric : run_metrics())
    text += fmt::format("|{} {}", metric.id, metric.unit);
  return fnv_text(text);
}

std::expected<Json, std::string> run_families(const RunPlan& plan) { return Runner(plan).run(); }

int exit_code_of_run(const Json& document) {
  if (!document.value("broken", Json::array()).empty()) return 1;
  return document.value("void", Json::array()).empty() ? 0 : 3;
}

}  // namespace keelback::bench
