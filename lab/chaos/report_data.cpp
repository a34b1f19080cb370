// report.json, junit.xml, summary.md and the lines for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/loop_lag.h"
#include "base/settings_text.h"
#include "chaos/deaths.h"
#include "chaos/json.h"
#include "chaos/report.h"
#include "report/page.h"

namespace keelback::chaos {
namespace {

constexpr std::size_t kUnexplainedMax = 50;  // listed in full

Json phase_json(const PhaseStats& stats) {
  Json outcomes = Json::object();
  for (const auto& [name, n] : stats.outcomes) outcomes[name] = n;
  return {{"offered", stats.offered},
          {"ok", stats.ok},
          {"success", stats.success()},
          {"unsent", stats.unsent},
          {"told_late", stats.told},
          {"p50_ms", milliseconds(stats.p50)},
          {"p99_ms", milliseconds(stats.p99)},
          {"lateness_p99_ms", milliseconds(stats.lateness)},
          {"p999_ms", milliseconds(stats.p999)},
          {"outcomes", outcomes}};
}

Json faults_json(const RunResult& result) {
  Json out = Json::array();
  for (std::size_t i = 0; i < result.history.faults.size(); ++i) {
    const FaultEvent& fault = result.history.faults[i];
    Json ladder = Json::object();
    for (const auto& [rung, at] : result.judgement.ladders[i].rungs) {
      ladder[rung + "_ms"] = at ? Json(milliseconds(*at)) : Json(nullptr);
    }
    Json targets = Json::array();
    for (const WorkerRef& worker : fault.targets) {
      targets.push_back(to_string(worker));
    }
    const auto account = result.judgement.losses.by_fault.find(fault.id);
    const bool known = account != result.judgement.losses.by_fault.end();
    out.push_back({{"id", fault.id},
                   {"class", fault.fault_class},
                   {"round", fault.round},
                   {"target", targets},
                   {"fired_ms", milliseconds(fault.fired)},
                   {"bit", fault.bit},
                   {"bite_ms", fault.bit ? Json(milliseconds(fault.bite)) : Json(nullptr)},
                   {"undo_ms", fault.undone ? Json(milliseconds(fault.undo)) : Json(nullptr)},
                   {"proof", fault.proof},
                   {"harm", fault.harm},
                   {"placebo", fault.placebo},
                   {"undone", fault.undone},
                   {"ladder", ladder},
                   {"losses", known ? account->second.observed : 0},
                   {"losses_bound", known ? account->second.bound : 0}});
  }
  return out;
}

Json invariants_json(const Judgement& judgement) {
  Json out = Json::array();
  for (const CheckResult& result : judgement.invariants) {
    Json each = {
        {"id", result.id}, {"status", to_string(result.status)}, {"looked_at", result.looked_at}};
    if (const Invariant* known = find_invariant(result.id)) each["name"] = known->name;
    if (result.status != Status::kHolds) each["witness"] = result.witness;
    if (result.broken > 0) each["broken"] = result.broken;
    out.push_back(std::move(each));
  }
  return out;
}

Json functions_json(const History& history) {
  Json functions = Json::array();
  for (const AppFunction& each : history.functions) {
    functions.push_back({{"name", each.name},
                         {"called", each.called},
                         {"why_not", each.why_not},
                         {"usual_ms", milliseconds(each.usual)},
                         {"isolation", each.isolation},
                         {"stops", each.stops},
                         {"bytes_per_call", each.bytes_per_call},
                         {"descriptors_per_call", each.descriptors_per_call},
                         {"threads_per_call", each.threads_per_call}});
  }
  return functions;
}

Json residue_json(const History& history) {
  Json residue = Json::array();
  for (const FaultEvent& fault : history.faults) {
    const FaultClass* kind = find_fault_class(fault.fault_class);
    if (kind != nullptr && kind->lasts && fault.bit && !fault.undone) residue.push_back(fault.id);
  }
  return residue;
}

Json losses_json(const RunResult& result) {
  Json out = Json::array();
  for (const Loss& loss : result.judgement.losses.all) {
    if (loss.how != Explanation::kUnexplained || out.size() >= kUnexplainedMax) continue;
    const CallEvent& call = result.history.calls.at(loss.call);
    out.push_back({{"at_ms", milliseconds(call.planned)},
                   {"call", describe(call)},
                   {"message", call.message}});
  }
  return out;
}

Json metrics_json(const Metrics& metrics) {
  Json errors = Json::object();
  for (const auto& [fault, phases] : metrics.errors) {
    errors[fault.empty() ? "unexplained" : fault] = phases;
  }
  const Collateral& groups = metrics.collateral;
  const auto ratio = groups.ratio();
  return {{"errors", errors},
          {"control", {{"offered", groups.control_offered}, {"lost", groups.control_lost}}},
          {"exposed", {{"offered", groups.exposed_offered}, {"lost", groups.exposed_lost}}},
          {"collateral_ratio", ratio ? Json(*ratio) : Json(nullptr)},
          {"attempts_per_call", metrics.attempts_per_call},
          {"wasted_effects", metrics.wasted_effects},
          {"false_detections", metrics.false_detections},
          {"flaps", metrics.flaps},
          {"widest_window_ms", milliseconds(metrics.widest_window)}};
}

// Calls at once in each worker.
Json crowds_json(const std::vector<Crowd>& crowds) {
  Json workers = Json::array();
  for (const Crowd& each : crowds) {
    workers.push_back(
        {{"worker", to_string(each.worker)}, {"most", each.most}, {"mean", each.mean}});
  }
  return {{"most", most_at_once(crowds)}, {"workers", workers}};
}

// How late event loops were: of all looks at them, 99 of 100 saw no more than this; nullopt: they
// saw more than all bounds, or there were none.
std::optional<double> loop_lag_p99(const RunFacts& facts) {
  const std::uint64_t looks = std::accumulate(facts.loop_lag.begin(), facts.loop_lag.end(), 0UL);
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i < std::min(facts.loop_lag.size(), LoopLag::kBounds.size()); ++i) {
    so_far += facts.loop_lag[i];
    if (looks > 0 && so_far * 100 >= looks * 99) return LoopLag::kBounds[i] * 1e3;
  }
  return std::nullopt;
}

Json loops_json(const RunFacts& facts) {
  const auto p99 = loop_lag_p99(facts);
  return {{"blocks", facts.loop_blocks},
          {"looks", std::accumulate(facts.loop_lag.begin(), facts.loop_lag.end(), 0UL)},
          {"p99_at_most_ms", p99 ? Json(*p99) : Json(nullptr)}};
}

// How workers ended, and what their calls were to it.
Json deaths_json(const History& history) {
  Json out = Json::array();
  for (const WorkerDeath& death : deaths_of(history)) {
    const CallEvent* culprit = culprit_of(death, history);
    out.push_back({{"worker", to_string(death.worker)},
                   {"at_ms", milliseconds(death.at)},
                   {"cause", death.cause},
                   {"culprit", culprit != nullptr ? Json(describe(*culprit)) : Json(nullptr)},
                   {"bystanders", death.bystanders.size()},
                   {"suspects", death.suspects.size()},
                   {"without_role", death.alone.size()}});
  }
  return out;
}

Json machine_json(const History& history) {
  const MachineFacts& what = history.facts.machine;
  if (what.cpus == 0) return nullptr;  // simulated
  Json json = {{"keelback", what.version},
               {"cpu", what.cpu},
               {"cpus", what.cpus},
               {"kernel", what.kernel},
               {"generator_lag_p99_ms", milliseconds(history.facts.generator_lag)}};
  if (history.machine.empty()) return json;
  const auto& seen = history.machine;
  json["memory_bytes"] = seen.front().memory_total;
  json["memory_available_min_bytes"] =
      std::ranges::min(seen, {}, &MachineSample::memory_available).memory_available;
  json["disk_available_min_bytes"] =
      std::ranges::min(seen, {}, &MachineSample::disk_available).disk_available;
  json["load_max"] = std::ranges::max(seen, {}, &MachineSample::load).load;
  return json;
}

// Thresholds that were lowered stand in every report.
std::string loosened_text(const Scenario& scenario, const char* margin) {
  std::string out;
  for (const std::string& each : scenario.loosened) {
    out += fmt::format("{}promises less: {} ({})\n", margin, each, scenario.reason);
  }
  return out;
}

// Of runs in which workers ran many calls at once.
std::string crowds_text(const RunResult& result) {
  const std::uint32_t most = most_at_once(result.judgement.metrics.crowds);
  if (most < 2) return "";
  std::size_t bystanders = 0, suspects = 0;
  for (const WorkerDeath& death : deaths_of(result.history)) {
    bystanders += death.bystanders.size();
    suspects += death.suspects.size();
  }
  const auto p99 = loop_lag_p99(result.history.facts);
  return fmt::format(
      "  at most {} calls at once in a worker; calls that died with others: {} bystanders, {} "
      "suspects\n  event loops were blocked {} times; 99 of 100 looks saw {}\n",
      most, bystanders, suspects, result.history.facts.loop_blocks,
      p99 ? fmt::format("at most {:g} ms", *p99) : std::string("more, or there were none"));
}

std::string ladder_text(const Ladder& ladder) {
  std::string out;
  for (const auto& [rung, at] : ladder.rungs) {
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", rung,
                       at ? fmt::format("{:.1f} ms", milliseconds(*at)) : "never");
  }
  return out;
}

}  // namespace

std::array<std::pair<const char*, const PhaseStats*>, 3> phases_of(const Judgement& judgement) {
  return {{{"baseline", &judgement.baseline},
           {"during", &judgement.during},
           {"after", &judgement.after}}};
}

std::string repro(const RunResult& result) {
  const Plan& plan = result.plan;
  const std::string scenario =
      result.scenario.source == "library" || result.scenario.source == "plan.json"
          ? plan.name
          : result.scenario.source;
  return fmt::format("keelback chaos run {}{} --backend {} --level {} --seed {}{}{}", scenario,
                     plan.app.empty() ? "" : " --app " + plan.app, setting_name(plan.backend),
                     to_string(plan.level), plan.seed, plan.arguments.empty() ? "" : " ",
                     plan.arguments);
}

std::string report_json(const RunResult& result) {
  const Judgement& judgement = result.judgement;
  Json reasons = Json::array();
  for (const Reason& reason : judgement.reasons) {
    reasons.push_back({{"verdict", to_string(reason.verdict)}, {"text", reason.text}});
  }
  Json untested = Json::array();
  for (const NotTested& each : judgement.not_tested) {
    untested.push_back({{"what", each.what}, {"why", each.why}});
  }
  const Json json = {
      {"schema", 1},
      {"verdict", to_string(judgement.verdict)},
      {"why", judgement.why},
      {"exit", exit_code(judgement.verdict)},
      {"reasons", reasons},
      {"advice", judgement.advice},
      {"seed", result.plan.seed},
      {"scenario", result.plan.name},
      {"backend", setting_name(result.plan.backend)},
      {"level", to_string(result.plan.level)},
      {"app", result.plan.app},
      {"plan_hash", fmt::format("{:016x}", hash(result.plan))},
      {"trace_hash", fmt::format("{:016x}", result.history.facts.trace_hash)},
      {"phases",
       {{"baseline", phase_json(judgement.baseline)},
        {"during", phase_json(judgement.during)},
        {"after", phase_json(judgement.after)}}},
      {"service_back_ms",
       judgement.service ? Json(milliseconds(*judgement.service)) : Json(nullptr)},
      {"latch", to_string(judgement.latch)},
      {"depth", judgement.shape.depth},
      {"metrics", metrics_json(judgement.metrics)},
      {"calls_at_once", crowds_json(judgement.metrics.crowds)},
      {"event_loops", loops_json(result.history.facts)},
      {"deaths", deaths_json(result.history)},
      {"outage_seconds",
       {{"during", judgement.shape.area_during}, {"after", judgement.shape.area_after}}},
      {"verification", {{"ok", judgement.verified}, {"offered", judgement.verify_offered}}},
      {"faults", faults_json(result)},
      {"invariants", invariants_json(judgement)},
      {"explained",
       {{"primary", judgement.losses.primary}, {"secondary", judgement.losses.secondary}}},
      {"unexplained", judgement.losses.unexplained},
      {"unexplained_calls", losses_json(result)},
      {"app_functions", functions_json(result.history)},
      {"start",
       {{"mode", result.history.facts.start_mode},
        {"reason", result.history.facts.start_reason},
        {"import_s", result.history.facts.import_s}}},
      {"machine", machine_json(result.history)},
      {"thresholds", {{"loosened", result.scenario.loosened}, {"reason", result.scenario.reason}}},
      {"residue", residue_json(result.history)},
      {"not_tested", untested},
      {"repro", repro(result)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string report_junit(const RunResult& result) {
  using report::escape;
  const Judgement& judgement = result.judgement;
  std::string cases;
  std::size_t failures = 0, skipped = 0;
  const auto add = [&](std::string_view name, std::string_view failure, std::string_view skip) {
    cases += fmt::format("  <testcase classname=\"chaos.{}\" name=\"{}\"", escape(result.plan.name),
                         escape(name));
    if (!failure.empty()) {
      ++failures;
      cases += fmt::format("><failure message=\"{}\"/></testcase>\n", escape(failure));
    } else if (!skip.empty()) {
      ++skipped;
      cases += fmt::format("><skipped message=\"{}\"/></testcase>\n", escape(skip));
    } else {
      cases += "/>\n";
    }
  };
  add("verdict",
      judgement.verdict == Verdict::kPass || judgement.verdict == Verdict::kSkipped
          ? ""
          : fmt::format("{}: {}", to_string(judgement.verdict), judgement.why),
      judgement.verdict == Verdict::kSkipped ? judgement.why : "");
  for (const FaultEvent& fault : result.history.faults) {
    add(fmt::format("bite of {} #{}", fault.id, fault.round + 1),
        fault.bit ? "" : "it did not bite: " + fault.proof, "");
  }
  for (const CheckResult& check : judgement.invariants) {
    const bool failed = check.status == Status::kBroken || check.status == Status::kUnknown;
    add(check.id, failed ? check.witness : "",
        check.status == Status::kVacuous ? check.witness + " " : "");
  }
  std::string properties;
  for (const Ladder& ladder : judgement.ladders) {
    for (const auto& [rung, at] : ladder.rungs) {
      if (!at) continue;
      properties += fmt::format("  <property name=\"{}.{}.{}_ms\" value=\"{:.3f}\"/>\n",
                                escape(ladder.fault), ladder.round, rung, milliseconds(*at));
    }
  }
  const std::size_t tests = 1 + result.history.faults.size() + judgement.invariants.size();
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"chaos {} {} seed {}\" "
      "tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n <properties>\n{} </properties>\n{}"
      "</testsuite>\n",
      escape(result.plan.name), setting_name(result.plan.backend), result.plan.seed, tests,
      failures, skipped, properties, cases);
}

std::string report_markdown(const RunResult& result) {
  const Judgement& judgement = result.judgement;
  std::string out = fmt::format("### chaos {}: {}\n\n{}\n\n", result.plan.name,
                                to_string(judgement.verdict), judgement.why);
  out += "| phase | offered | ok | p50 | p99 |\n|---|---|---|---|---|\n";
  for (const auto& [name, stats] : phases_of(judgement)) {
    out += fmt::format("| {} | {} | {:.1f} % | {:.1f} ms | {:.1f} ms |\n", name, stats->offered,
                       100 * stats->success(), milliseconds(stats->p50), milliseconds(stats->p99));
  }
  out += "\n| fault | bit | proof | ladder |\n|---|---|---|---|\n";
  for (std::size_t i = 0; i < result.history.faults.size(); ++i) {
    const FaultEvent& fault = result.history.faults[i];
    out +=
        fmt::format("| {} {} | {} | {} | {} |\n", fault.id, fault.fault_class,
                    fault.bit ? "yes" : "**no**", fault.proof, ladder_text(judgement.ladders[i]));
  }
  out += "\n" + loosened_text(result.scenario, "");
  out += fmt::format("\nLost and explained: {}; unexplained: **{}**.\n\n`{}`\n",
                     judgement.losses.primary + judgement.losses.secondary,
                     judgement.losses.unexplained, repro(result));
  return out;
}

std::string report_text(const RunResult& result) {
  const Judgement& judgement = result.judgement;
  std::string out =
      fmt::format("{}  {} on {}, level {}, seed {}\n  {}\n", to_string(judgement.verdict),
                  result.plan.name, setting_name(result.plan.backend), to_string(result.plan.level),
                  result.plan.seed, judgement.why);
  for (std::size_t i = 1; i < std::min<std::size_t>(judgement.reasons.size(), 6); ++i) {
    out += fmt::format("  also {}: {}\n", to_string(judgement.reasons[i].verdict),
                       judgement.reasons[i].text);
  }
  for (const std::string& advice : judgement.advice) out += "  → " + advice + "\n";
  out += loosened_text(result.scenario, "  ");
  for (const auto& [name, stats] : phases_of(judgement)) {
    out += fmt::format("  {:<9} {:>6} calls  {:>5.1f} % ok  p50 {:.1f} ms  p99 {:.1f} ms\n", name,
                       stats->offered, 100 * stats->success(), milliseconds(stats->p50),
                       milliseconds(stats->p99));
  }
  for (std::size_t i = 0; i < result.history.faults.size(); ++i) {
    const FaultEvent& fault = result.history.faults[i];
    out += fmt::format("  {} {}: {} ({})\n", fault.id, fault.fault_class,
                       fault.bit ? "bit" : "DID NOT BITE", fault.proof);
    const std::string ladder = ladder_text(judgement.ladders[i]);
    if (!ladder.empty()) out += "    " + ladder + "\n";
  }
  out += fmt::format(
      "  lost: {} explained, {} for want of capacity, unexplained: {};  "
      "verification {}/{}\n",
      judgement.losses.primary, judgement.losses.secondary, judgement.losses.unexplained,
      judgement.verified, judgement.verify_offered);
  out += crowds_text(result);
  std::string holds, others;
  for (const CheckResult& check : judgement.invariants) {
    if (check.status == Status::kHolds) {
      holds += " " + check.id;
    } else {
      others += fmt::format(" {} {}", check.id, to_string(check.status));
    }
  }
  out += fmt::format("  holds:{}{}{}\n  {}\n", holds, others.empty() ? "" : "; ", others,
                     repro(result));
  return out;
}

std::expected<void, std::string> write_report(const std::string& directory,
                                              const RunResult& result) {
  const std::pair<const char*, std::string> files[] = {{"events.jsonl", to_jsonl(result.history)},
                                                       {"report.json", report_json(result)},
                                                       {"junit.xml", report_junit(result)},
                                                       {"summary.md", report_markdown(result)},
                                                       {"report.html", report_html(result)}};
  for (const auto& [name, text] : files) {
    if (auto written = write_file(directory + "/" + name, text); !written) return written;
  }
  return {};
}

}  // namespace keelback::chaos
