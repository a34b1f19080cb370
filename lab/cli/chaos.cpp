// keelback chaos: the chaos laboratory's command line.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/adder.h"
#include "cli/chaos_commands.h"
#include "cli/pass_on.h"

namespace keelback::cli {
namespace {

const char* const kChaosExitCodes =
    "Exit codes: 0 ok (PASS); 1 SAFETY (an invariant is broken); 2 LIVENESS (it did not come "
    "back);\n"
    "3 BUDGET (too little success during the faults); 4 INVALID (a fault did not bite, or there "
    "is\n"
    "no baseline: nothing was tested); 5 ABORTED; 6 RESIDUE (a fault is still in place);\n"
    "7 INCONCLUSIVE; 77 SKIPPED (this backend cannot inject it); 64 usage; 70 the laboratory "
    "failed.";

struct ChaosAdder : Adder<ChaosOptions> {
  CLI::App& group;

  ChaosAdder(Invocation& command_line, CLI::App& chaos) : Adder{command_line}, group(chaos) {}

  CLI::App* add(const char* name, const char* description, const char* example,
                int (*act)(const Invocation&, ChaosOptions&)) const {
    CLI::App* command = Adder::add(group, name, description, example, act);
    command->footer(fmt::format("Example:\n  {}\n\n{}", example, kChaosExitCodes));
    return command;
  }
  void directory(CLI::App* command) const {
    command
        ->add_option("DIR", chosen->scenarios,
                     "What `run --out DIR` left; of replay and shrink also a plan.json")
        ->required()
        ->expected(1);
  }
  void what_to_run(CLI::App* command) const {
    command->add_option("--app", chosen->app, "The application to test: app.py or package.module");
    command->add_option("--backend", chosen->backend,
                        "sim (virtual time), fake (real processes, no Python) or python; default: "
                        "KEELBACK_BACKEND, else python with --app or --nodes and sim without");
    command->add_option("--level", chosen->level,
                        "light, medium or heavy; default: KEELBACK_LEVEL, else medium");
    command
        ->add_option("--nodes", chosen->nodes,
                     "So many daemons that share a PostgreSQL, for scenarios of nodes; they run "
                     "Python")
        ->check(CLI::Range(2, 9));
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

void add_running(const ChaosAdder& to) {
  CLI::App* runs = to.add("run", "Runs scenarios and judges them",
                          "keelback chaos run worker-kill --app examples/counter.py --backend "
                          "python --seed 42 --out out/",
                          chaos_run);
  runs->add_option("SCENARIO", to.chosen->scenarios,
                   "Names of the library (`list`), files, or swarm: drawn from the seed");
  runs->add_flag("--all", to.chosen->all,
                 "The whole library; what the backend cannot do is skipped");
  to.what_to_run(runs);
  runs->add_option("--seeds", to.chosen->seeds, "So many seeds, from --seed on")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  runs->add_option("--out", to.chosen->out,
                   "A directory for report.html, report.json, junit.xml, summary.md, plan.json and "
                   "events.jsonl; of several runs: one directory each in it");

  runs->add_flag("--no-shrink", to.chosen->no_shrink,
                 "Do not look for the smallest plan that fails alike (on the simulator)");

  CLI::App* plans = to.add("plan", "Shows what a run would do, and does nothing",
                           "keelback chaos plan worker-kill --seed 42 --out plan.json", chaos_plan);
  plans->add_option("SCENARIO", to.chosen->scenarios, "A name of the library, or a file")
      ->required()
      ->expected(1);
  to.what_to_run(plans);
  plans->add_option("--out", to.chosen->out, "A file for the whole plan");

  CLI::App* replays = to.add("replay", "Plays a stored plan again, and compares",
                             "keelback chaos replay out/ --out again/", chaos_replay);
  to.directory(replays);
  CLI::App* shrinks =
      to.add("shrink", "The smallest plan that fails as a stored run did, and the command for it",
             "keelback chaos shrink out/", chaos_shrink);
  to.directory(shrinks);
  shrinks->add_option("--out", to.chosen->out, "A directory for it; default: DIR/minimal");
  shrinks->add_option("--runs", to.chosen->runs, "At most so many runs; default: 1000");
  replays->add_option("--out", to.chosen->out, "A directory for this run's report");
}

}  // namespace

void add_chaos(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("chaos", kChaosDescription);
  group->require_subcommand(1);
  group->footer(fmt::format(
      "Example:\n  keelback chaos run worker-kill\n  keelback chaos run worker-kill --app app.py "
      "--backend python --out out/\n\n{}",
      kChaosExitCodes));
  const ChaosAdder to(invocation, *group);

  CLI::App* lists =
      to.add("list", "The scenarios that come with the program, and the fault classes",
             "keelback chaos list --tag ancestor", chaos_list);
  lists->add_option("--tag", to.chosen->tag, "Only scenarios with this tag");
  lists->add_flag("--classes", to.chosen->classes, "The fault classes instead");

  CLI::App* checks =
      to.add("check", "Finds what is wrong with scenario files, without running them",
             "keelback chaos check my-scenario.toml", chaos_check);
  checks->add_option("FILE", to.chosen->scenarios, "Scenario files, or names of the library")
      ->required();

  add_running(to);

  CLI::App* judges = to.add("judge", "Judges a stored run by today's checkers, without running it",
                            "keelback chaos judge out/", chaos_judge);
  to.directory(judges);
  CLI::App* reports = to.add("report", "Writes a stored run's reports anew",
                             "keelback chaos report out/", chaos_report);
  to.directory(reports);
  reports->add_option("--out", to.chosen->out, "Another directory for them");

  CLI::App* cleans =
      to.add("cleanup", "Undoes what a killed laboratory and a killed warden left in place",
             "keelback chaos cleanup", chaos_cleanup);
  cleans->add_option("DIR", to.chosen->scenarios,
                     "Run directories; default: those in the temporary directory");

  CLI::App* doctors = to.add("doctor", "What can be tested on this machine, and what not",
                             "keelback chaos doctor", chaos_doctor);
  doctors->add_option("--set", to.chosen->settings, "A setting, as KEY=VALUE; may be repeated")
      ->allow_extra_args(false);
}

}  // namespace keelback::cli
