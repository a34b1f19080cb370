// keelback chaos: what runs nothing.
#include <fmt/format.h>

#include <algorithm>

#include "base/settings_text.h"
#include "chaos/cleanup.h"
#include "chaos/report.h"
#include "cli/chaos_commands.h"
#include "cli/chaos_output.h"
#include "cli/config_options.h"
#include "cli/doctor.h"
#include "host/install.h"

namespace keelback::cli {

using chaos::Verdict;

// ---- list, check, plan

int chaos_list(const Invocation& invocation, ChaosOptions& options) {
  const auto names = chaos::library_names();
  if (invocation.json) {
    print_json({{"scenarios", scenarios_json(names, options.tag)}, {"classes", classes_json()}});
  } else {
    print(options.classes ? classes_text() : scenarios_text(names, options.tag));
  }
  return kExitOk;
}

int chaos_check(const Invocation& invocation, ChaosOptions& options) {
  Json files = Json::array();
  bool wrong = false;
  for (const std::string& name : options.scenarios) {
    const auto loaded = chaos::load_scenario(name);
    std::vector<chaos::Finding> findings;
    std::string backends;
    if (!loaded) {
      findings.push_back({true, "file", loaded.error()});
    } else {
      // Each level, since each may change what another one leaves alone.
      for (const auto level : {chaos::Level::kLight, chaos::Level::kMedium, chaos::Level::kHeavy}) {
        auto parsed = chaos::parse_scenario(loaded->text, level, chaos::scenario_lookup(), name);
        for (chaos::Finding& finding : parsed.findings) {
          const bool known = std::ranges::any_of(findings, [&](const chaos::Finding& other) {
            return chaos::describe(other) == chaos::describe(finding);
          });
          if (!known) findings.push_back(std::move(finding));
        }
        if (!parsed.scenario || !backends.empty()) continue;
        for (const Backend backend : parsed.scenario->backends) {
          backends += fmt::format("{}{}", backends.empty() ? "" : " ", setting_name(backend));
        }
      }
    }
    const bool bad = std::ranges::any_of(findings, &chaos::Finding::error);
    wrong = wrong || bad;
    Json each = {{"file", name}, {"ok", !bad}, {"findings", Json::array()}};
    if (!invocation.json) {
      print(fmt::format("{}  {}{}\n",
                        toned(bad ? Tone::kBad : Tone::kGood, bad ? "wrong" : "ok   "), name,
                        backends.empty() ? "" : "  runs on " + backends));
    }
    for (const chaos::Finding& finding : findings) {
      each["findings"].push_back(
          {{"error", finding.error}, {"where", finding.where}, {"text", finding.text}});
      if (!invocation.json) print(fmt::format("       {}\n", chaos::describe(finding)));
    }
    files.push_back(std::move(each));
  }
  if (invocation.json) print_json({{"ok", !wrong}, {"files", std::move(files)}});
  return wrong ? kExitLabUsage : kExitOk;
}

int chaos_plan(const Invocation& invocation, ChaosOptions& options) {
  const auto wanted = asked(options);
  if (!wanted) return chaos_usage(invocation, wanted.error());
  const auto scenario = read_scenario(options.scenarios.front(), *wanted, options.seed);
  if (!scenario) return fail(invocation, kExitLabUsage, "scenario", scenario.error());
  const chaos::Plan made = chaos::make_plan(*scenario, {.seed = options.seed,
                                                        .level = wanted->level,
                                                        .backend = wanted->backend,
                                                        .app = options.app,
                                                        .arguments = wanted->arguments});
  const std::string text = chaos::to_json_text(made);
  if (!options.out.empty()) {
    if (const auto kept = chaos::write_file(options.out, text); !kept) {
      return chaos_usage(invocation, kept.error());
    }
  }
  if (invocation.json) {
    print(text);
    return kExitOk;
  }
  const auto s = chaos::seconds;
  print(fmt::format("{}: {}\n  plan {:016x}, {} calls in {:.1f} s, then {} to verify\n", made.name,
                    scenario->why, chaos::hash(made), made.load.size(), s(made.phases.end),
                    made.verify.size()));
  print(fmt::format("  baseline from {:.2f} s, faults from {:.2f} s, recovery from {:.2f} s\n",
                    s(made.phases.baseline), s(made.phases.faults), s(made.phases.recovery)));
  for (const chaos::Firing& firing : made.firings) {
    const chaos::FaultSpec* spec = scenario->fault(firing.fault);
    const bool timed = spec->trigger.kind == chaos::Trigger::Kind::kAt;
    const std::string when =
        timed ? fmt::format("at {:.2f} s", s(made.phases.faults + firing.at))
        : spec->trigger.kind == chaos::Trigger::Kind::kCalls
            ? fmt::format("after {} calls", spec->trigger.calls)
            : fmt::format("when {} reaches {}", spec->trigger.fault, spec->trigger.rung);
    print(fmt::format(
        "  {} {}: {}{}{}\n", firing.fault, spec->fault_class, when,
        firing.calls.empty() ? "" : fmt::format(", {} calls", firing.calls.size()),
        spec->lasts > Duration{0} ? fmt::format(", for {:.2f} s", s(spec->lasts)) : ""));
  }
  return kExitOk;
}

// ---- what was recorded

namespace {

int judge(const Invocation& invocation, ChaosOptions& options, bool rewrite) {
  const std::string directory = options.scenarios.front();
  const auto result = chaos::judge_directory(directory);
  if (!result) return chaos_usage(invocation, result.error());
  if (rewrite) {
    const std::string out = options.out.empty() ? directory : options.out;
    if (const auto written = chaos::write_report(out, *result); !written) {
      return chaos_usage(invocation, written.error());
    }
    if (!invocation.json) {
      for (const char* name : {"report.html", "report.json", "junit.xml", "summary.md"}) {
        print(fmt::format("{}/{}\n", out, name));
      }
      return kExitOk;
    }
  }
  print(invocation.json ? chaos::report_json(*result) : run_text(*result));
  return rewrite ? static_cast<int>(kExitOk) : chaos::exit_code(result->judgement.verdict);
}

}  // namespace

int chaos_judge(const Invocation& invocation, ChaosOptions& options) {
  return judge(invocation, options, false);
}
int chaos_report(const Invocation& invocation, ChaosOptions& options) {
  return judge(invocation, options, true);
}

int chaos_cleanup(const Invocation& invocation, ChaosOptions& options) {
  Json journals = Json::array();
  bool failed = false;
  for (const chaos::Cleaned& each : chaos::clean_up(options.scenarios)) {
    const bool bad = each.text.find("failed:") != std::string::npos;
    failed = failed || bad;
    journals.push_back({{"journal", each.journal}, {"busy", each.busy}, {"undone", each.text}});
    if (invocation.json) continue;
    print(fmt::format("{}: {}\n", each.journal,
                      each.busy           ? "its run is still going on; nothing was touched"
                      : each.text.empty() ? "nothing was in force"
                                          : "undone:"));
    if (!each.text.empty()) print(indented(each.text, "  "));
  }
  if (invocation.json) {
    print_json({{"ok", !failed}, {"journals", std::move(journals)}});
  } else if (journals.empty()) {
    print("No fault is left over.\n");
  }
  return failed ? chaos::exit_code(Verdict::kResidue) : static_cast<int>(kExitOk);
}

int chaos_doctor(const Invocation& invocation, ChaosOptions& options) {
  ConfigOptions config;
  config.assignments = options.settings;
  const auto store = config.load();
  if (!store) return fail(invocation, kExitLabUsage, "config", store.error());
  std::vector<Check> checks = examine_machine(store->settings(), "");
  for (const char* name : {"keelback-warden", "keelback-fakeworker"}) {
    std::erase_if(checks, [&](const Check& check) { return check.name == name; });
    const std::string path = host::find_program(name);
    checks.push_back({name, path.empty() ? Finding::kFail : Finding::kOk,
                      path.empty() ? "not found" : path,
                      path.empty() ? "without it only --backend sim can be used" : ""});
  }
  const bool failed = std::ranges::any_of(
      checks, [](const Check& check) { return check.finding == Finding::kFail; });
  Json list = Json::array(), untested = Json::object();
  for (const Check& check : checks) {
    list.push_back({{"name", check.name},
                    {"finding", to_string(check.finding)},
                    {"found", check.found},
                    {"advice", check.advice}});
    if (invocation.json) continue;
    const Tone tone = check.finding == Finding::kOk     ? Tone::kGood
                      : check.finding == Finding::kWarn ? Tone::kWarn
                                                        : Tone::kBad;
    print(fmt::format("{}  {:<19}  {}\n",
                      toned(tone, fmt::format("{:<4}", to_string(check.finding))), check.name,
                      check.found));
    if (!check.advice.empty()) print(indented(check.advice, std::string(27, ' ')));
  }
  for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
    Json rows = Json::array();
    if (!invocation.json) print(fmt::format("\nNot tested on {}:\n", setting_name(backend)));
    for (const chaos::NotTested& each : chaos::not_tested(backend)) {
      rows.push_back({{"what", each.what}, {"why", each.why}});
      if (!invocation.json) print(fmt::format("  {}: {}\n", each.what, each.why));
    }
    untested[std::string(setting_name(backend))] = std::move(rows);
  }
  if (invocation.json) {
    print_json({{"ok", !failed}, {"checks", std::move(list)}, {"not_tested", std::move(untested)}});
  }
  return failed ? static_cast<int>(kExitLabFailed) : static_cast<int>(kExitOk);
}

}  // namespace keelback::cli
