// keelback chaos: the chaos laboratory.
#include "chaos/cleanup.h"

#include <fmt/format.h>
#include <signal.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "base/settings_text.h"
#include "chaos/lab.h"
#include "chaos/report.h"
#include "cli/arguments.h"
#include "cli/chaos_output.h"
#include "cli/doctor.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

using chaos::Verdict;

const char* const kChaosExitCodes =
    "Exit codes: 0 ok (PASS); 1 SAFETY (an invariant is broken); 2 LIVENESS (it did not come "
    "back);\n"
    "3 BUDGET (too little success during the faults); 4 INVALID (a fault did not bite, or there "
    "is\n"
    "no baseline: nothing was tested); 5 ABORTED; 6 RESIDUE (a fault is still in place);\n"
    "7 INCONCLUSIVE; 77 SKIPPED (this backend cannot inject it); 64 usage; 70 the laboratory "
    "failed.";

// Refuses every run on this machine, whatever asks for it.
constexpr const char* kSafetyLever = "KEELBACK_CHAOS_DISABLED";

std::atomic<bool> g_interrupted{false};
void on_interrupt(int) { g_interrupted = true; }

// The first Ctrl-C undoes the faults and ends the run as ABORTED; the second kills, and the warden
// undoes.
class Interruptible {
 public:
  Interruptible() {
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESETHAND;
    for (const int signal : {SIGINT, SIGTERM})
      ::sigaction(signal, &action, &before_[signal == SIGTERM]);
  }
  ~Interruptible() {
    for (const int signal : {SIGINT, SIGTERM}) {
      ::sigaction(signal, &before_[signal == SIGTERM], nullptr);
    }
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  struct sigaction before_[2]{};
};

struct Options {
  std::vector<std::string> scenarios;  // or files, or directories
  std::string app, backend, level, out, tag;
  std::vector<std::string> settings, calls, session_calls;
  std::uint64_t seed = 1, seeds = 1;
  bool all = false, placebo = false, classes = false;
};

// What a run is asked for, with everything that can be wrong with it found out.
struct Asked {
  chaos::Level level = chaos::Level::kMedium;
  Backend backend = Backend::kSim;
  chaos::Overrides overrides;
  std::string arguments;
};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::optional<Backend> backend_from(const std::string& name) {
  for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
    if (setting_name(backend) == name) return backend;
  }
  return std::nullopt;
}

// "chat" or "chat={…}".
std::expected<chaos::LoadCall, std::string> call_from(const std::string& text, bool session) {
  const std::size_t equals = text.find('=');
  chaos::LoadCall call{
      .function = text.substr(0, equals), .payload = "[]", .session = session, .own = true};
  if (equals != text.npos) call.payload = text.substr(equals + 1);
  if (call.function.empty()) return std::unexpected("--call: the function's name is missing");
  if (Json::parse(call.payload, nullptr, false).is_discarded()) {
    return std::unexpected(fmt::format("--call: the arguments of {} are not JSON", call.function));
  }
  return call;
}

std::expected<Asked, std::string> asked(const Options& options) {
  Asked out;
  const std::string level = !options.level.empty() ? options.level : environment("KEELBACK_LEVEL");
  if (!level.empty()) {
    const auto known = chaos::level_from(level);
    if (!known) {
      return std::unexpected(fmt::format("--level is light, medium or heavy, not '{}'", level));
    }
    out.level = *known;
  }
  std::string backend =
      !options.backend.empty() ? options.backend : environment("KEELBACK_BACKEND");
  if (backend.empty()) backend = options.app.empty() ? "sim" : "python";
  const auto known = backend_from(backend);
  if (!known)
    return std::unexpected(fmt::format("--backend is sim, fake or python, not '{}'", backend));
  out.backend = *known;
  if (!options.app.empty() && out.backend != Backend::kPython) {
    return std::unexpected("--app needs --backend python: the others run no Python");
  }
  const auto argument = [&](const std::string& word) {
    out.arguments += (out.arguments.empty() ? "" : " ") + word;
  };
  for (const std::string& text : options.settings) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos) return std::unexpected("--set: write KEY=VALUE, not " + text);
    out.overrides.settings.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    argument("--set " + shell_quoted(text));
  }
  for (const bool session : {false, true}) {
    for (const std::string& text : session ? options.session_calls : options.calls) {
      auto call = call_from(text, session);
      if (!call) return std::unexpected(call.error());
      out.overrides.calls.push_back(std::move(*call));
      argument((session ? "--session-call " : "--call ") + shell_quoted(text));
    }
  }
  if (!out.overrides.calls.empty() && options.app.empty()) {
    return std::unexpected("--call needs --app: which application's function is it?");
  }
  out.overrides.placebo = options.placebo;
  if (options.placebo) argument("--placebo");
  return out;
}

int usage(const Invocation& invocation, std::string_view message) {
  return fail(invocation, kExitLabUsage, "usage", message);
}

// Reads and checks; what is wrong is said, a line each.
std::expected<chaos::Scenario, std::vector<std::string>> read_scenario(const std::string& name,
                                                                       const Asked& asked) {
  const auto loaded = chaos::load_scenario(name);
  if (!loaded) return std::unexpected(std::vector{loaded.error()});
  auto parsed = chaos::parse_scenario(loaded->text, asked.level, chaos::scenario_lookup(),
                                      loaded->source, asked.overrides);
  if (parsed.ok()) return std::move(*parsed.scenario);
  std::vector<std::string> lines;
  for (const chaos::Finding& finding : parsed.findings) {
    if (finding.error) lines.push_back(fmt::format("{}: {}", name, chaos::describe(finding)));
  }
  return std::unexpected(std::move(lines));
}

// ---- list, check, plan

int list(const Invocation& invocation, const Options& options) {
  const auto names = chaos::library_names();
  if (invocation.json) {
    print_json({{"scenarios", scenarios_json(names, options.tag)}, {"classes", classes_json()}});
  } else {
    print(options.classes ? classes_text() : scenarios_text(names, options.tag));
  }
  return kExitOk;
}

int check(const Invocation& invocation, const Options& options) {
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

int plan(const Invocation& invocation, const Options& options) {
  const auto wanted = asked(options);
  if (!wanted) return usage(invocation, wanted.error());
  const auto scenario = read_scenario(options.scenarios.front(), *wanted);
  if (!scenario) return fail(invocation, kExitLabUsage, "scenario", scenario.error());
  const chaos::Plan made = chaos::make_plan(*scenario, {.seed = options.seed,
                                                        .level = wanted->level,
                                                        .backend = wanted->backend,
                                                        .app = options.app,
                                                        .arguments = wanted->arguments});
  const std::string text = chaos::to_json_text(made);
  if (!options.out.empty()) {
    if (const auto kept = chaos::write_file(options.out, text); !kept) {
      return usage(invocation, kept.error());
    }
  }
  if (invocation.json) {
    print(text);
    return kExitOk;
  }
  const auto s = [](Duration at) { return std::chrono::duration<double>(at).count(); };
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

// ---- run and replay

std::optional<int> refused(const Invocation& invocation) {
  const std::string lever = environment(kSafetyLever);
  if (lever.empty() || lever == "0") return std::nullopt;
  return usage(invocation, fmt::format("{} is set: no chaos on this machine", kSafetyLever));
}

int run(const Invocation& invocation, const Options& options) {
  if (const auto no = refused(invocation)) return *no;
  const auto wanted = asked(options);
  if (!wanted) return usage(invocation, wanted.error());
  std::vector<std::string> names = options.scenarios;
  if (options.all) names = chaos::library_names();
  if (names.empty()) return usage(invocation, "which scenario? (keelback chaos list; or --all)");
  std::vector<chaos::Scenario> scenarios;
  for (const std::string& name : names) {
    auto scenario = read_scenario(name, *wanted);
    if (!scenario) return fail(invocation, kExitLabUsage, "scenario", scenario.error());
    scenarios.push_back(std::move(*scenario));
  }
  const std::uint64_t count = std::max<std::uint64_t>(options.seeds, 1);
  const bool several = scenarios.size() * count > 1;
  const Interruptible interruptible;
  std::vector<RunRow> rows;
  std::vector<Verdict> verdicts;
  for (const chaos::Scenario& scenario : scenarios) {
    for (std::uint64_t seed = options.seed; seed < options.seed + count; ++seed) {
      chaos::RunRequest request{.app = options.app,
                                .backend = wanted->backend,
                                .level = wanted->level,
                                .seed = seed,
                                .out = options.out,
                                .arguments = wanted->arguments,
                                .conduct = {}};
      if (several && !options.out.empty()) {
        request.out += fmt::format("/{}-{}", scenario.name, seed);
      }
      const std::string title = several ? fmt::format("{}/{} {}", rows.size() + 1,
                                                      scenarios.size() * count, scenario.name)
                                        : scenario.name;
      request.conduct.on_progress = chaos_progress(title);
      request.conduct.interrupted = &g_interrupted;
      const auto result = chaos::run_scenario(scenario, request);
      end_chaos_progress();
      if (!result) return fail(invocation, kExitLabFailed, "laboratory", result.error());
      if (!several) {
        print(invocation.json ? chaos::report_json(*result) : run_text(*result));
        return chaos::exit_code(result->judgement.verdict);
      }
      rows.push_back({scenario.name, seed, result->judgement.verdict, result->judgement.why,
                      invocation.json ? chaos::report_json(*result) : std::string(),
                      chaos::repro(*result)});
      if (!invocation.json) print(rows_text({rows.back()}));
      verdicts.push_back(result->judgement.verdict);
      if (g_interrupted) break;
    }
    if (g_interrupted) break;
  }
  const Verdict worst = chaos::worst(verdicts);
  if (invocation.json) {
    print_json(rows_json(rows, worst));
  } else {
    const auto n = [&](Verdict verdict) { return std::ranges::count(verdicts, verdict); };
    print(fmt::format("{}: {} runs, {} passed, {} skipped\n", chaos::to_string(worst), rows.size(),
                      n(Verdict::kPass), n(Verdict::kSkipped)));
  }
  return chaos::exit_code(worst);
}

int replay(const Invocation& invocation, const Options& options) {
  if (const auto no = refused(invocation)) return *no;
  const std::string directory = options.scenarios.front();
  const auto text = chaos::read_file(directory + "/plan.json");
  if (!text) return usage(invocation, text.error());
  auto stored = chaos::plan_from_json(*text);
  if (!stored) return usage(invocation, stored.error());
  const Interruptible interruptible;
  chaos::RunRequest request{.app = stored->app,
                            .backend = stored->backend,
                            .level = stored->level,
                            .seed = stored->seed,
                            .out = options.out,
                            .arguments = stored->arguments,
                            .conduct = {}};
  request.conduct.on_progress = chaos_progress("replay " + stored->name);
  request.conduct.interrupted = &g_interrupted;
  const auto result = chaos::replay_plan(std::move(*stored), request);
  end_chaos_progress();
  if (!result) return fail(invocation, kExitLabFailed, "laboratory", result.error());
  print(invocation.json ? chaos::report_json(*result) : run_text(*result));
  const auto before = chaos::judge_directory(directory);
  if (before && !invocation.json) {
    const bool same = before->judgement.verdict == result->judgement.verdict;
    const bool exact = before->history.facts.trace_hash != 0 &&
                       before->history.facts.trace_hash == result->history.facts.trace_hash;
    print(fmt::format(
        "  {} the run in {}{}\n", same ? "reproduces" : "DIFFERS from", directory,
        same ? exact ? ", event for event" : ""
             : fmt::format(", which was {}", chaos::to_string(before->judgement.verdict))));
  }
  return chaos::exit_code(result->judgement.verdict);
}

// ---- what was recorded

int judge(const Invocation& invocation, const Options& options, bool rewrite) {
  const std::string directory = options.scenarios.front();
  const auto result = chaos::judge_directory(directory);
  if (!result) return usage(invocation, result.error());
  if (rewrite) {
    const std::string out = options.out.empty() ? directory : options.out;
    if (const auto written = chaos::write_report(out, *result); !written) {
      return usage(invocation, written.error());
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

int cleanup(const Invocation& invocation, const Options& options) {
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

int doctor(const Invocation& invocation, const Options& options) {
  ConfigOptions config;
  config.assignments = options.settings;
  const auto store = config.load();
  if (!store) return fail(invocation, kExitLabUsage, "config", store.error());
  std::vector<Check> checks = examine_machine(store->settings());
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

// ---- the command line

struct Adder {
  CLI::App& group;
  Invocation& invocation;
  std::shared_ptr<Options> chosen;

  CLI::App* add(const char* name, const char* description, const std::string& example,
                int (*act)(const Invocation&, const Options&)) const {
    CLI::App* command = add_command(group, invocation, name, description, example);
    command->footer(fmt::format("Example:\n  {}\n\n{}", example, kChaosExitCodes));
    command->callback([this_invocation = &invocation, options = chosen, act] {
      this_invocation->run = [this_invocation, options, act] {
        return act(*this_invocation, *options);
      };
    });
    return command;
  }
  void directory(CLI::App* command) const {
    command->add_option("DIR", chosen->scenarios, "What `run --out DIR` left")
        ->required()
        ->expected(1);
  }
  void what_to_run(CLI::App* command) const {
    command->add_option("--app", chosen->app, "The application to test: app.py or package.module");
    command->add_option("--backend", chosen->backend,
                        "sim (virtual time), fake (real processes, no Python) or python; default: "
                        "KEELBACK_BACKEND, else python with --app and sim without");
    command->add_option("--level", chosen->level,
                        "light, medium or heavy; default: KEELBACK_LEVEL, else medium");
    command->add_option("--seed", chosen->seed, "All chance comes from it")->capture_default_str();
    command
        ->add_option("--set", chosen->settings,
                     "A setting of the pool, as KEY=VALUE; may be repeated")
        ->allow_extra_args(false);
    command
        ->add_option("--call", chosen->calls,
                     "FUNCTION or FUNCTION=JSON of the application, added to the load; may be "
                     "repeated")
        ->allow_extra_args(false);
    command
        ->add_option("--session-call", chosen->session_calls,
                     "The same, with each call in one of the load's sessions")
        ->allow_extra_args(false);
    command->add_flag("--placebo", chosen->placebo,
                      "Everything but the faults' effects: the verdict must be INVALID");
  }
};

void add_running(const Adder& to) {
  CLI::App* runs = to.add("run", "Runs scenarios and judges them",
                          "keelback chaos run worker-kill --app examples/counter.py --backend "
                          "python --seed 42 --out out/",
                          run);
  runs->add_option("SCENARIO", to.chosen->scenarios, "Names of the library (`list`), or files");
  runs->add_flag("--all", to.chosen->all,
                 "The whole library; what the backend cannot do is skipped");
  to.what_to_run(runs);
  runs->add_option("--seeds", to.chosen->seeds, "So many seeds, from --seed on")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  runs->add_option("--out", to.chosen->out,
                   "A directory for report.html, report.json, junit.xml, summary.md, plan.json and "
                   "events.jsonl; of several runs: one directory each in it");

  CLI::App* plans = to.add("plan", "Shows what a run would do, and does nothing",
                           "keelback chaos plan worker-kill --seed 42 --out plan.json", plan);
  plans->add_option("SCENARIO", to.chosen->scenarios, "A name of the library, or a file")
      ->required()
      ->expected(1);
  to.what_to_run(plans);
  plans->add_option("--out", to.chosen->out, "A file for the whole plan");

  CLI::App* replays = to.add("replay", "Plays a stored plan again, and compares",
                             "keelback chaos replay out/ --out again/", replay);
  to.directory(replays);
  replays->add_option("--out", to.chosen->out, "A directory for this run's report");
}

}  // namespace

void add_chaos(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand(
      "chaos", "The chaos laboratory: faults that are proved, losses that are explained");
  group->require_subcommand(1);
  group->footer(fmt::format(
      "Example:\n  keelback chaos run worker-kill\n  keelback chaos run worker-kill --app app.py "
      "--backend python --out out/\n\n{}",
      kChaosExitCodes));
  const Adder to{*group, invocation, std::make_shared<Options>()};

  CLI::App* lists =
      to.add("list", "The scenarios that come with the program, and the fault classes",
             "keelback chaos list --tag ancestor", list);
  lists->add_option("--tag", to.chosen->tag, "Only scenarios with this tag");
  lists->add_flag("--classes", to.chosen->classes, "The fault classes instead");

  CLI::App* checks =
      to.add("check", "Finds what is wrong with scenario files, without running them",
             "keelback chaos check my-scenario.toml", check);
  checks->add_option("FILE", to.chosen->scenarios, "Scenario files, or names of the library")
      ->required();

  add_running(to);

  CLI::App* judges = to.add("judge", "Judges a stored run by today's checkers, without running it",
                            "keelback chaos judge out/", [](const Invocation& i, const Options& o) {
                              return judge(i, o, false);
                            });
  to.directory(judges);
  CLI::App* reports =
      to.add("report", "Writes a stored run's reports anew", "keelback chaos report out/",
             [](const Invocation& i, const Options& o) { return judge(i, o, true); });
  to.directory(reports);
  reports->add_option("--out", to.chosen->out, "Another directory for them");

  CLI::App* cleans =
      to.add("cleanup", "Undoes what a killed laboratory and a killed warden left in place",
             "keelback chaos cleanup", cleanup);
  cleans->add_option("DIR", to.chosen->scenarios,
                     "Run directories; default: those in the temporary directory");

  CLI::App* doctors = to.add("doctor", "What can be tested on this machine, and what not",
                             "keelback chaos doctor", doctor);
  doctors->add_option("--set", to.chosen->settings, "A setting, as KEY=VALUE; may be repeated")
      ->allow_extra_args(false);
}

}  // namespace keelback::cli
