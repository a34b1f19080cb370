#include "chaos/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "chaos/lab.h"

namespace keelback::chaos {
namespace {

constexpr double kMissed = 0.05;  // how often a candidate that fails may be taken for harmless

// The scenario of a plan with one setting changed; nullopt: it would not be one any more.
std::optional<Plan> with_workers(const Plan& plan, std::uint32_t workers) {
  const Overrides fewer{
      .settings = {{"pool.workers", std::to_string(workers)}, {"pool.min_ready", "1"}}};
  auto parsed = parse_scenario(plan.scenario, plan.level, scenario_lookup(), "plan.json", fewer);
  if (!parsed.ok()) return std::nullopt;
  Plan out = plan;
  out.scenario = parsed.scenario->text;
  return out;
}

std::uint32_t workers_of(const Plan& plan) {
  auto parsed = parse_scenario(plan.scenario, plan.level, scenario_lookup(), "plan.json");
  return parsed.ok() ? parsed.scenario->settings.pool.workers : 0;
}

class Shrinker {
 public:
  Shrinker(const Plan& plan, const ShrinkRequest& request) : request_(request) { out_.plan = plan; }

  std::expected<Shrunk, std::string> run() {
    if (auto known = learn(); !known) return std::unexpected(known.error());
    bool smaller = true;
    while (smaller && !over()) {
      smaller = firings();
      smaller = workers() || smaller;
      smaller = sessions() || smaller;
      smaller = load() || smaller;
      smaller = own_calls() || smaller;
      smaller = verification() || smaller;
    }
    out_.complete = !over();
    if (!error_.empty()) return std::unexpected(error_);
    return std::move(out_);
  }

 private:
  bool over() const { return out_.runs >= request_.runs_max || !error_.empty(); }

  std::optional<Symptom> symptom(const Plan& plan) {
    ++out_.runs;
    const auto judged = request_.run(plan);
    if (!judged) {
      error_ = judged.error();
      return std::nullopt;
    }
    return symptom_of(*judged);
  }

  // What fails, and how often.
  std::expected<void, std::string> learn() {
    std::vector<Symptom> seen;
    for (std::uint32_t i = 0; i < std::max(1U, request_.first_runs); ++i) {
      const auto found = symptom(out_.plan);
      if (!found) return std::unexpected(error_);
      ++out_.first_runs;
      if (found->verdict != Verdict::kPass) seen.push_back(*found);
    }
    if (seen.empty()) {
      return std::unexpected(
          fmt::format("the plan passed {} times of {}: there is nothing to "
                      "shrink",
                      out_.first_runs, out_.first_runs));
    }
    const auto count = [&](const Symptom& s) { return std::ranges::count(seen, s); };
    out_.symptom = *std::ranges::max_element(seen, {}, count);
    out_.first_failed = static_cast<std::uint32_t>(count(out_.symptom));
    tries_ = tries_for(static_cast<double>(out_.first_failed) / out_.first_runs);
    return {};
  }

  // Keeps the candidate if it fails as the whole did.
  bool attempt(Plan candidate, std::string what) {
    if (over()) return false;
    ShrinkStep step{.what = std::move(what)};
    while (step.runs < tries_ && !step.kept && !over()) {
      ++step.runs;
      step.kept = symptom(candidate) == out_.symptom;
    }
    if (step.kept) out_.plan = std::move(candidate);
    if (request_.on_step) request_.on_step(step);
    out_.steps.push_back(step);
    return step.kept;
  }

  // Zeller's ddmin, complements only: drops chunk after chunk, halving them when none can go.
  template <class T>
  bool minimise(const std::string& what, std::vector<T> items,
                const std::function<Plan(const std::vector<T>&)>& with) {
    const std::size_t before = items.size();
    if (items.empty()) return false;
    std::size_t chunk = items.size();
    while (!over()) {
      bool dropped = false;
      for (std::size_t at = 0; at < items.size() && !over();) {
        std::vector<T> rest(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(at));
        const std::size_t end = std::min(at + chunk, items.size());
        rest.insert(rest.end(), items.begin() + static_cast<std::ptrdiff_t>(end), items.end());
        if (attempt(with(rest), fmt::format("{} of {} {}", rest.size(), before, what))) {
          items = std::move(rest);
          dropped = true;
        } else {
          at = end;
        }
      }
      if (chunk == 1 && !dropped) break;
      if (chunk > 1) chunk = (chunk + 1) / 2;
      if (items.empty()) break;
    }
    return items.size() < before;
  }

  bool firings() {
    return minimise<Firing>("faults", out_.plan.firings, [this](const auto& rest) {
      Plan plan = out_.plan;
      plan.firings = rest;
      return plan;
    });
  }

  bool workers() {
    bool fewer = false;
    for (std::uint32_t n = workers_of(out_.plan); n > 1 && !over(); --n) {
      auto candidate = with_workers(out_.plan, n - 1);
      if (!candidate || !attempt(std::move(*candidate), fmt::format("{} workers", n - 1))) break;
      fewer = true;
    }
    return fewer;
  }

  bool sessions() {
    std::set<std::string> names;
    for (const PlannedCall& call : out_.plan.load) names.insert(call.session);
    const std::vector<std::string> all(names.begin(), names.end());
    return minimise<std::string>("sessions of the load", all, [this](const auto& rest) {
      Plan plan = out_.plan;
      const std::set<std::string> keep(rest.begin(), rest.end());
      std::erase_if(plan.load, [&](const PlannedCall& c) { return !keep.contains(c.session); });
      return plan;
    });
  }

  bool load() {
    return minimise<PlannedCall>("calls of the load", out_.plan.load, [this](const auto& rest) {
      Plan plan = out_.plan;
      plan.load = rest;
      return plan;
    });
  }

  bool own_calls() {
    bool fewer = false;
    for (std::size_t i = 0; i < out_.plan.firings.size(); ++i) {
      const auto with = [this, i](const std::vector<PlannedCall>& rest) {
        Plan plan = out_.plan;
        plan.firings[i].calls = rest;
        return plan;
      };
      const Firing& firing = out_.plan.firings[i];
      fewer = minimise<PlannedCall>("calls of fault " + firing.fault, firing.calls, with) || fewer;
    }
    return fewer;
  }

  bool verification() {
    if (out_.plan.verify.empty()) return false;
    Plan plan = out_.plan;
    plan.verify.clear();
    return attempt(std::move(plan), "no verification calls");
  }

  const ShrinkRequest& request_;
  Shrunk out_;
  std::uint32_t tries_ = 1;
  std::string error_;
};

}  // namespace

Symptom symptom_of(const Judgement& judgement) {
  Symptom out{.verdict = judgement.verdict};
  for (const CheckResult& check : judgement.invariants) {
    if (check.status != Status::kBroken) continue;
    const std::string prefix = check.id + " is broken";
    for (const Reason& reason : judgement.reasons) {
      if (reason.verdict == judgement.verdict && reason.text.starts_with(prefix)) {
        out.invariant = check.id;
        return out;
      }
    }
  }
  return out;
}

std::string describe(const Symptom& symptom) {
  return symptom.invariant.empty()
             ? std::string(to_string(symptom.verdict))
             : fmt::format("{} ({})", to_string(symptom.verdict), symptom.invariant);
}

std::uint32_t tries_for(double rate) {
  if (rate >= 1) return 1;
  if (rate <= 0) return 100;
  return static_cast<std::uint32_t>(
      std::min(100.0, std::ceil(std::log(kMissed) / std::log(1 - rate))));
}

std::expected<Shrunk, std::string> shrink(const Plan& plan, const ShrinkRequest& request) {
  return Shrinker(plan, request).run();
}

std::string size_of(const Plan& plan) {
  std::size_t own = 0;
  for (const Firing& firing : plan.firings) own += firing.calls.size();
  return fmt::format("{} fault{}, {} call{} of the load, {} of faults, {} worker{}",
                     plan.firings.size(), plan.firings.size() == 1 ? "" : "s", plan.load.size(),
                     plan.load.size() == 1 ? "" : "s", own, workers_of(plan),
                     workers_of(plan) == 1 ? "" : "s");
}

}  // namespace keelback::chaos
