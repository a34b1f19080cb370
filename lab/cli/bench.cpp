// keelback bench: the performance laboratory.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>

#include "bench/agent.h"
#include "bench/app.h"
#include "bench/baseline.h"
#include "bench/compare.h"
#include "bench/metrics.h"
#include "bench/report.h"
#include "bench/run.h"
#include "cli/adder.h"
#include "cli/bench_commands.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

struct BenchOptions {
  bench::RunPlan run;
  bench::CompareOptions compare;
  bench::AppPlan app;
  std::string out, directory, reason, history = "bench-history.jsonl";
  bool ratios = false, free = false;
  double inject_percent = 0;
};

int run(const Invocation& invocation, BenchOptions& chosen) {
  chosen.run.family.program = host::find_program("keelback");
  chosen.run.progress = bench_progress();
  return deliver(invocation, chosen.out, bench::run_families(chosen.run), bench::exit_code_of_run);
}

int compare(const Invocation& invocation, BenchOptions& chosen) {
  bench::CompareOptions& options = chosen.compare;
  options.block.cpu = chosen.free ? -1 : std::max(0, options.block.cpu);
  options.inject = chosen.inject_percent / 100;
  options.progress = bench_progress();
  return deliver(invocation, chosen.out, bench::compare(options), bench::exit_code_of_compare);
}

int app(const Invocation& invocation, BenchOptions& chosen) {
  chosen.app.program = host::find_program("keelback");
  chosen.app.progress = bench_progress();
  return deliver(invocation, chosen.out, bench::measure_app(chosen.app), bench::exit_code_of_app);
}

int accept_baseline(const Invocation& invocation, BenchOptions& chosen) {
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

int show_baseline(const Invocation& invocation, BenchOptions& chosen) {
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
  return deliver(invocation, chosen.out, document);
}

int report(const Invocation& invocation, BenchOptions& chosen) {
  return deliver(invocation, chosen.directory, bench::read_report(chosen.directory));
}

int list(const Invocation& invocation, BenchOptions&) {
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

using BenchAdder = Adder<BenchOptions>;

void add_profile(CLI::App* command, bench::Profile& profile) {
  command
      ->add_option_function<std::string>(
          "--profile",
          [&profile](const std::string& name) { profile = *bench::profile_named(name); },
          "quick (a first look), pr, nightly")
      ->default_str("pr")
      ->check(CLI::IsMember({"quick", "pr", "nightly"}));
}

void add_capacity(CLI::App& group, const BenchAdder& to) {
  CLI::App* apps = to.add(
      group, "app",
      "How much your own function carries: calls a second, at which p99, with how many "
      "calls at once in a worker and how many workers",
      "keelback bench app examples/hello.py greet --payload '{\"name\": \"Ada\"}' --out out/", app);
  bench::AppPlan& plan = to.chosen->app;
  apps->add_option("APP", plan.app, "app.py, or a module: package.module")->required();
  apps->add_option("FUNCTION", plan.function, "Which of its functions")->required();
  apps->add_option("--payload", plan.payload, "Its arguments, JSON")->capture_default_str();
  apps->add_option("--expose", plan.expose, "Functions of a plain module, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  apps->add_option("--workers", plan.workers, "Numbers of workers to try, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 64));
  apps->add_option("--concurrency", plan.concurrency,
                   "Numbers of calls at once in a worker to try, separated by commas (default: up "
                   "to what the function declares). The function must be safe beside itself")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 1024));
  apps->add_option("--p99", plan.objective_ms,
                   "What p99 may be, in ms (default: five times what a call takes alone)")
      ->check(CLI::PositiveNumber);
  apps->add_option("--rate", plan.rate, "Calls a second that are wanted (default: the most)")
      ->check(CLI::PositiveNumber);
  apps->add_option("--sessions", plan.sessions, "Spread the calls over so many sessions (Zipf)");
  add_profile(apps, plan.profile);
  add_bench_out(*apps, to.chosen->out);
  apps->add_option("--seed", plan.seed, "Of every plan")->capture_default_str();
  apps->add_option("--python", plan.python, "The workers' interpreter")->capture_default_str();
}

void add_baseline(CLI::App& group, const BenchAdder& to) {
  CLI::App* baseline =
      group.add_subcommand("baseline", "The history of accepted runs, as ratios to the reference");
  baseline->require_subcommand(1);
  CLI::App* accepts = to.add(
      *baseline, "accept", "Append a run to the history, by decision and for a reason",
      "keelback bench baseline accept out/ --reason \"zygote forks faster\"", accept_baseline);
  accepts->add_option("DIR", to.chosen->directory, "The --out of `bench run`")->required();
  accepts->add_option("--reason", to.chosen->reason, "Why these numbers are right")->required();
  CLI::App* shows =
      to.add(*baseline, "show",
             "The history with its change points; with DIR that run against the last accepted",
             "keelback bench baseline show out/", show_baseline);
  shows->add_option("DIR", to.chosen->directory, "A run to hold against the last accepted one");
  shows->add_flag("--ratios", to.chosen->ratios, "Also where the machine differs: ratios travel");
  add_bench_out(*shows, to.chosen->out);
  for (CLI::App* command : {accepts, shows})
    command->add_option("--file", to.chosen->history, "The history, JSON lines")
        ->capture_default_str();
}

void add_run(CLI::App& group, const BenchAdder& to) {
  CLI::App* runs = to.add(
      group, "run", "Measure this build: families of metrics, each in blocks of fresh processes",
      "keelback bench run startup call recovery --profile quick --out out/", run);
  bench::RunPlan& plan = to.chosen->run;
  runs->add_option("FAMILY", plan.families, "Which (default: all); `bench list` has them");
  add_profile(runs, plan.family.profile);
  add_bench_out(*runs, to.chosen->out);
  runs->add_option("--blocks", plan.blocks, "How many, instead of what the profile takes")
      ->check(CLI::Range(1, 1000));
  runs->add_option("--seed", plan.seed, "Of every plan and coin")->capture_default_str();
  runs->add_option("--cpu", plan.family.cpu, "Pin the pools to that processor; for history");
  runs->add_option("--python", plan.family.python, "The workers' interpreter")
      ->capture_default_str();

  to.add(group, "report", "Make report.html, report.md and junit.xml of a directory anew",
         "keelback bench report out/", report)
      ->add_option("DIR", to.chosen->directory, "Where report.json is")
      ->required();
}

void add_compare(CLI::App& group, const BenchAdder& to) {
  CLI::App* compares = to.add(
      group, "compare",
      "Is the head slower than the base? Paired fresh pools, an exact test, its own proofs",
      "keelback bench compare --base ./old/keelback --head ./new/keelback --profile pr --out out/",
      compare);
  bench::CompareOptions& options = to.chosen->compare;
  compares->add_option("--base", options.block.base_program, "The keelback program to compare with")
      ->required()
      ->check(CLI::ExistingFile);
  compares->add_option("--head", options.block.head_program, "The keelback program in question")
      ->required()
      ->check(CLI::ExistingFile);
  add_profile(compares, options.profile);
  add_bench_out(*compares, to.chosen->out);
  compares->add_option("--seed", options.seed, "Of every coin that is thrown")
      ->capture_default_str();
  compares->add_option("--cpu", options.block.cpu,
                       "The processor that both sides run on (default: 0)");
  compares
      ->add_option("--inject", to.chosen->inject_percent,
                   "Slow the head's function by so many percent of a call: watch the gate at work")
      ->check(CLI::Range(0.0, 1000.0));
  compares->add_flag("--free", to.chosen->free, "Pin nothing: nearer to production, much noisier");
  compares->add_flag("--strict", options.strict, "Inconclusive is exit 4");
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

int deliver(const Invocation& invocation, const std::string& out,
            const std::expected<nlohmann::json, std::string>& document,
            int (*code)(const nlohmann::json&)) {
  end_bench_progress();
  if (!document) return fail(invocation, kExitUsage, "usage", document.error());
  if (!out.empty()) {
    if (auto written = bench::write_report(out, *document); !written)
      return fail(invocation, kExitUsage, "usage", written.error());
  }
  print(invocation.json ? document->dump() + "\n" : bench::to_text(*document));
  if (!out.empty() && !invocation.json) print(fmt::format("{}/report.html\n", out));
  return code ? code(*document) : static_cast<int>(kExitOk);
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
  CLI::App& group = add_bench_group(app);
  const BenchAdder to{invocation};
  add_run(group, to);
  add_capacity(group, to);
  add_baseline(group, to);
  to.add(group, "list", "What is measured, and what the gate tolerates", "keelback bench list",
         list);
  add_compare(group, to);
  add_passed_on(group, kBenchPeers);

  // One side of a comparison; not for people.
  CLI::App* agent = group.add_subcommand("agent", "")->group("");
  agent->callback([&invocation] { invocation.run = [] { return bench::serve_agent(); }; });
}

}  // namespace keelback::cli
