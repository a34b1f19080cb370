// keelback bench: the performance laboratory.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>

#include "bench/agent.h"
#include "bench/app.h"
#include "bench/baseline.h"
#include "bench/compare.h"
#include "bench/metrics.h"
#include "bench/report.h"
#include "bench/run.h"
#include "cli/bench_commands.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

struct BenchOptions {
  std::string base, head, profile = "pr", out, python = "python3", directory;
  std::string app, function, payload = "[]", reason, history = "bench-history.jsonl";
  std::vector<std::string> families, expose;
  std::vector<std::uint32_t> workers = {1, 2, 4};
  std::uint32_t sessions = 0;
  double objective_ms = 0, rate = 0;
  bool ratios = false;
  std::uint64_t seed = 1;
  int cpu = -1, blocks = 0;
  double inject = 0;
  bool strict = false, free = false;
};

int run(const Invocation& invocation, const BenchOptions& chosen) {
  bench::RunPlan plan;
  plan.family.program = host::find_program("keelback");
  plan.family.python = chosen.python;
  plan.family.cpu = chosen.cpu;
  plan.family.profile = *bench::profile_named(chosen.profile);
  plan.families = chosen.families;
  plan.blocks = chosen.blocks;
  plan.seed = chosen.seed;
  plan.progress = bench_progress();
  const auto document = bench::run_families(plan);
  if (!document) {
    end_bench_progress();
    return fail(invocation, kExitUsage, "usage", document.error());
  }
  return deliver(invocation, chosen.out, *document, bench::exit_code_of_run(*document));
}

int compare(const Invocation& invocation, const BenchOptions& chosen) {
  bench::CompareOptions options;
  options.block.base_program = chosen.base;
  options.block.head_program = chosen.head;
  options.block.cpu = chosen.free ? -1 : std::max(0, chosen.cpu);
  options.profile = *bench::profile_named(chosen.profile);
  options.seed = chosen.seed;
  options.strict = chosen.strict;
  options.inject = chosen.inject / 100;
  options.progress = bench_progress();
  const auto result = bench::compare(options);
  if (!result) {
    end_bench_progress();
    return fail(invocation, kExitUsage, "usage", result.error());
  }
  return deliver(invocation, chosen.out, bench::to_json(*result, options),
                 static_cast<int>(result->exit_code(chosen.strict)));
}

int app(const Invocation& invocation, const BenchOptions& chosen) {
  bench::AppPlan plan;
  plan.program = host::find_program("keelback");
  plan.python = chosen.python;
  plan.app = chosen.app;
  plan.function = chosen.function;
  plan.payload = chosen.payload;
  plan.expose = chosen.expose;
  plan.workers = chosen.workers;
  plan.sessions = chosen.sessions;
  plan.objective_ms = chosen.objective_ms;
  plan.rate = chosen.rate;
  plan.profile = *bench::profile_named(chosen.profile);
  plan.seed = chosen.seed;
  plan.progress = bench_progress();
  const auto document = bench::measure_app(plan);
  if (!document) {
    end_bench_progress();
    return fail(invocation, kExitUsage, "usage", document.error());
  }
  return deliver(invocation, chosen.out, *document, bench::exit_code_of_app(*document));
}

int accept_baseline(const Invocation& invocation, const BenchOptions& chosen) {
  const auto document = bench::read_report(chosen.directory);
  if (!document) return fail(invocation, kExitUsage, "usage", document.error());
  const auto record = bench::make_record(*document, chosen.reason);
  if (!record) return fail(invocation, kExitUsage, "refused", record.error());
  if (auto kept = bench::append_record(chosen.history, *record); !kept)
    return fail(invocation, kExitUsage, "refused", kept.error());
  if (invocation.json) {
    print(record->dump() + "\n");
  } else {
    print(fmt::format("accepted: {} metrics in {}\n", (*record)["metrics"].size(), chosen.history));
  }
  return kExitOk;
}

int show_baseline(const Invocation& invocation, const BenchOptions& chosen) {
  const auto history = bench::read_history(chosen.history);
  if (!history) return fail(invocation, kExitUsage, "usage", history.error());
  if (history->empty())
    return fail(invocation, kExitUsage, "usage",
                fmt::format("{} has no accepted run: keelback bench baseline accept DIR --reason …",
                            chosen.history));
  nlohmann::json document = {{"schema", "keelback-bench-baseline/1"},
                             {"history", bench::describe_history(*history)},
                             {"records", *history}};
  if (!chosen.directory.empty()) {
    const auto run = bench::read_report(chosen.directory);
    if (!run) return fail(invocation, kExitUsage, "usage", run.error());
    const auto record = bench::make_record(*run, "not accepted");
    if (!record) return fail(invocation, kExitUsage, "refused", record.error());
    if (const auto why = bench::mismatch(history->back(), *record, chosen.ratios); !why.empty())
      return fail(invocation, kExitUsage, "refused", "this run cannot be compared: " + why);
    document["against"] = bench::against_baseline(*record, history->back());
  }
  return deliver(invocation, chosen.out, document, kExitOk);
}

int report(const Invocation& invocation, const BenchOptions& chosen) {
  const auto document = bench::read_report(chosen.directory);
  if (!document) return fail(invocation, kExitUsage, "usage", document.error());
  return deliver(invocation, chosen.directory, *document, kExitOk);
}

int list(const Invocation& invocation) {
  Json families = Json::array(), gate = Json::array();
  Table table({"metric", "unit", "what"});
  for (const bench::Family& family : bench::families()) {
    Json rows = Json::array();
    for (const bench::Metric& metric : bench::metrics()) {
      if (metric.family() != family.name || !metric.in_run()) continue;
      rows.push_back({{"id", metric.id}, {"unit", metric.unit}, {"doc", metric.doc}});
      table.add({std::string(metric.id), std::string(metric.unit), std::string(metric.doc)});
    }
    families.push_back({{"name", family.name}, {"doc", family.doc}, {"metrics", rows}});
  }
  Table gated({"metric", "unit", "gated", "tolerance", "what"});
  for (const bench::Metric& metric : bench::metrics()) {
    if (!metric.judged()) continue;
    gate.push_back({{"id", metric.compare_id()},
                    {"family", metric.family()},
                    {"unit", metric.unit},
                    {"gated", metric.gated()},
                    {"tolerance", metric.tolerance},
                    {"doc", metric.doc}});
    gated.add({std::string(metric.compare_id()), std::string(metric.unit),
               metric.gated() ? "yes" : "no", fmt::format("{:.0f} %", 100 * metric.tolerance),
               std::string(metric.doc)});
  }
  if (invocation.json) {
    print_json({{"families", families}, {"gate", gate}});
  } else {
    print("keelback bench run [FAMILY...]\n\n" + table.text() + "\nkeelback bench compare\n\n" +
          gated.text());
  }
  return kExitOk;
}

void add_profile(CLI::App& command, BenchOptions& chosen) {
  command.add_option("--profile", chosen.profile, "quick (a first look), pr, nightly")
      ->capture_default_str()
      ->check(CLI::IsMember({"quick", "pr", "nightly"}));
}

void add_capacity(CLI::App& group, Invocation& invocation,
                  const std::shared_ptr<BenchOptions>& chosen) {
  CLI::App* apps = add_command(
      group, invocation, "app",
      "How much your own function carries: calls a second, at which p99, with how many workers",
      "keelback bench app examples/hello.py greet --payload '{\"name\": \"Ada\"}' --out out/");
  apps->add_option("APP", chosen->app, "app.py, or a module: package.module")->required();
  apps->add_option("FUNCTION", chosen->function, "Which of its functions")->required();
  apps->add_option("--payload", chosen->payload, "Its arguments, JSON")->capture_default_str();
  apps->add_option("--expose", chosen->expose, "Functions of a plain module, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  apps->add_option("--workers", chosen->workers, "Numbers of workers to try, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 64));
  apps->add_option("--p99", chosen->objective_ms,
                   "What p99 may be, in ms (default: five times what a call takes alone)")
      ->check(CLI::PositiveNumber);
  apps->add_option("--rate", chosen->rate, "Calls a second that are wanted (default: the most)")
      ->check(CLI::PositiveNumber);
  apps->add_option("--sessions", chosen->sessions, "Spread the calls over so many sessions (Zipf)");
  add_profile(*apps, *chosen);
  add_bench_out(*apps, chosen->out);
  apps->add_option("--seed", chosen->seed, "Of every plan")->capture_default_str();
  apps->add_option("--python", chosen->python, "The workers' interpreter")->capture_default_str();
  apps->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return app(invocation, *chosen); };
  });
}

void add_baseline(CLI::App& group, Invocation& invocation,
                  const std::shared_ptr<BenchOptions>& chosen) {
  CLI::App* baseline =
      group.add_subcommand("baseline", "The history of accepted runs, as ratios to the reference");
  baseline->require_subcommand(1);
  CLI::App* accepts = add_command(
      *baseline, invocation, "accept", "Append a run to the history, by decision and for a reason",
      "keelback bench baseline accept out/ --reason \"zygote forks faster\"");
  accepts->add_option("DIR", chosen->directory, "The --out of `bench run`")->required();
  accepts->add_option("--reason", chosen->reason, "Why these numbers are right")->required();
  CLI::App* shows =
      add_command(*baseline, invocation, "show",
                  "The history with its change points; with DIR that run against the last accepted",
                  "keelback bench baseline show out/");
  shows->add_option("DIR", chosen->directory, "A run to hold against the last accepted one");
  shows->add_flag("--ratios", chosen->ratios, "Also where the machine differs: ratios travel");
  add_bench_out(*shows, chosen->out);
  for (CLI::App* command : {accepts, shows})
    command->add_option("--file", chosen->history, "The history, JSON lines")
        ->capture_default_str();
  accepts->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return accept_baseline(invocation, *chosen); };
  });
  shows->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return show_baseline(invocation, *chosen); };
  });
}

void add_run(CLI::App& group, Invocation& invocation, const std::shared_ptr<BenchOptions>& chosen) {
  CLI::App* runs =
      add_command(group, invocation, "run",
                  "Measure this build: families of metrics, each in blocks of fresh processes",
                  "keelback bench run startup call recovery --profile quick --out out/");
  runs->add_option("FAMILY", chosen->families, "Which (default: all); `bench list` has them");
  add_profile(*runs, *chosen);
  add_bench_out(*runs, chosen->out);
  runs->add_option("--blocks", chosen->blocks, "How many, instead of what the profile takes")
      ->check(CLI::Range(1, 1000));
  runs->add_option("--seed", chosen->seed, "Of every plan and coin")->capture_default_str();
  runs->add_option("--cpu", chosen->cpu, "Pin the pools to that processor; for history");
  runs->add_option("--python", chosen->python, "The workers' interpreter")->capture_default_str();
  runs->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return run(invocation, *chosen); };
  });

  CLI::App* reports = add_command(group, invocation, "report",
                                  "Make report.html, report.md and junit.xml of a directory anew",
                                  "keelback bench report out/");
  reports->add_option("DIR", chosen->directory, "Where report.json is")->required();
  reports->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return report(invocation, *chosen); };
  });
}

void add_compare(CLI::App& group, Invocation& invocation,
                 const std::shared_ptr<BenchOptions>& chosen) {
  CLI::App* compares = add_command(
      group, invocation, "compare",
      "Is the head slower than the base? Paired fresh pools, an exact test, its own proofs",
      "keelback bench compare --base ./old/keelback --head ./new/keelback --profile pr --out out/");
  compares->add_option("--base", chosen->base, "The keelback program to compare with")
      ->required()
      ->check(CLI::ExistingFile);
  compares->add_option("--head", chosen->head, "The keelback program in question")
      ->required()
      ->check(CLI::ExistingFile);
  add_profile(*compares, *chosen);
  add_bench_out(*compares, chosen->out);
  compares->add_option("--seed", chosen->seed, "Of every coin that is thrown")
      ->capture_default_str();
  compares->add_option("--cpu", chosen->cpu, "The processor that both sides run on (default: 0)");
  compares
      ->add_option("--inject", chosen->inject,
                   "Slow the head's function by so many percent of a call: watch the gate at work")
      ->check(CLI::Range(0.0, 1000.0));
  compares->add_flag("--free", chosen->free, "Pin nothing: nearer to production, much noisier");
  compares->add_flag("--strict", chosen->strict, "Inconclusive is exit 4");
  compares->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return compare(invocation, *chosen); };
  });
}

}  // namespace

bench::Progress bench_progress() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [](const std::string& stage, double share, Duration left) {
    const auto full = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * 30);
    fmt::print(stderr, "\r\x1b[K{:<36} [{:<30}] {:3.0f} %, {} left", stage, std::string(full, '#'),
               100 * share, human_seconds(std::chrono::duration<double>(left).count()));
    std::fflush(stderr);
  };
}

void end_bench_progress() {
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K");
}

int deliver(const Invocation& invocation, const std::string& out, const nlohmann::json& document,
            int code) {
  end_bench_progress();
  if (!out.empty()) {
    if (auto written = bench::write_report(out, document); !written)
      return fail(invocation, kExitUsage, "usage", written.error());
  }
  print(invocation.json ? document.dump() + "\n" : bench::to_text(document));
  if (!out.empty() && !invocation.json) print(fmt::format("{}/report.html\n", out));
  return code;
}

void add_bench_out(CLI::App& command, std::string& out) {
  command.add_option("--out", out,
                     "A directory for report.html, report.json, report.md and junit.xml");
}

const PassedOn kBenchPeers = {
    {"bench", "peers"},
    kPeersDescription,
    "keelback-peers",
    "it measures Keelback itself and is never installed; build Keelback, then run "
    "build/release/keelback bench peers"};

CLI::App& add_bench_group(CLI::App& app) {
  CLI::App* group = app.add_subcommand("bench", kBenchDescription);
  group->require_subcommand(1);
  group->footer(
      "Example:\n  keelback bench compare --base ./old/keelback --head ./new/keelback\n\n"
      "Exit codes: 0 ok, 1 regressed, 2 usage, 3 void (the run's own checks failed), "
      "4 inconclusive (with --strict).");
  return *group;
}

void add_bench(CLI::App& app, Invocation& invocation) {
  CLI::App* group = &add_bench_group(app);
  auto chosen = std::make_shared<BenchOptions>();

  add_run(*group, invocation, chosen);
  add_capacity(*group, invocation, chosen);
  add_baseline(*group, invocation, chosen);
  CLI::App* lists =
      add_command(*group, invocation, "list", "What is measured, and what the gate tolerates",
                  "keelback bench list");
  lists->callback([&invocation] { invocation.run = [&invocation] { return list(invocation); }; });

  add_compare(*group, invocation, chosen);
  add_passed_on(*group, kBenchPeers);

  // One side of a comparison; not for people.
  CLI::App* agent = group->add_subcommand("agent", "")->group("");
  agent->callback([&invocation] {
    invocation.run = [] { return bench::serve_agent(STDIN_FILENO, STDOUT_FILENO); };
  });
}

}  // namespace keelback::cli
