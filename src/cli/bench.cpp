// keelback bench: the performance laboratory.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <filesystem>
#include <memory>

#include "bench/agent.h"
#include "bench/compare.h"
#include "bench/metrics.h"
#include "bench/peers.h"
#include "bench/report.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

std::string this_program() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "keelback" : path.string();
}

// One line on a terminal that is drawn over; silent elsewhere.
std::function<void(const std::string&, double)> progress_line() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [](const std::string& stage, double share) {
    const int full = static_cast<int>(share * 30);
    fmt::print(stderr, "\r\x1b[K{:<36} [{:<30}] {:3.0f} %", stage,
               std::string(static_cast<std::size_t>(full), '#'), 100 * share);
    std::fflush(stderr);
  };
}

void end_progress() {
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K");
}

struct BenchOptions {
  std::string base, head, profile = "pr", out, python = "python3";
  std::uint64_t seed = 1;
  int cpu = 0, blocks = 30;
  bool strict = false, free = false;
};

std::optional<bench::Profile> profile_named(const std::string& name) {
  if (name == "quick") return bench::Profile::kQuick;
  if (name == "pr") return bench::Profile::kPr;
  if (name == "nightly") return bench::Profile::kNightly;
  return std::nullopt;
}

int write_all(const Invocation& invocation, const std::string& out,
              const std::vector<std::pair<std::string, std::string>>& files) {
  for (const auto& [name, text] : files) {
    if (auto written = bench::write_file(out, name, text); !written)
      return fail(invocation, kExitUsage, "usage", written.error());
  }
  return kExitOk;
}

int compare(const Invocation& invocation, const BenchOptions& chosen) {
  const auto profile = profile_named(chosen.profile);
  if (!profile)
    return fail(invocation, kExitUsage, "usage",
                fmt::format("--profile is quick, pr or nightly, not '{}'", chosen.profile));
  bench::CompareOptions options;
  options.block.base_program = chosen.base;
  options.block.head_program = chosen.head;
  options.block.cpu = chosen.free ? -1 : chosen.cpu;
  options.profile = *profile;
  options.seed = chosen.seed;
  options.progress = progress_line();
  const auto result = bench::compare(options);
  end_progress();
  if (!result) return fail(invocation, kExitUsage, "usage", result.error());
  const nlohmann::json json = bench::to_json(*result, options);
  if (!chosen.out.empty()) {
    const int code = write_all(invocation, chosen.out,
                               {{"report.json", json.dump(1)},
                                {"report.html", bench::to_html(*result, options, chosen.strict)},
                                {"junit.xml", bench::to_junit(*result)}});
    if (code != kExitOk) return code;
  }
  print(invocation.json ? json.dump() + "\n" : bench::to_text(*result, chosen.strict));
  return static_cast<int>(result->exit_code(chosen.strict));
}

int peers(const Invocation& invocation, const BenchOptions& chosen) {
  bench::PeersOptions options;
  options.program = this_program();
  options.python = chosen.python;
  options.python_directory = host::find_python_directory();
  if (options.python_directory.empty())
    return fail(invocation, kExitUsage, "usage",
                "the Python package keelback was not found: set KEELBACK_PYTHON_DIR");
  options.blocks = chosen.blocks;
  options.seed = chosen.seed;
  options.progress = progress_line();
  const auto result = bench::run_peers(options);
  end_progress();
  if (!result) return fail(invocation, kExitUsage, "usage", result.error());
  const nlohmann::json json = bench::to_json(*result);
  if (!chosen.out.empty()) {
    const int code =
        write_all(invocation, chosen.out,
                  {{"report.json", json.dump(1)}, {"report.html", bench::to_html(*result)}});
    if (code != kExitOk) return code;
  }
  print(invocation.json ? json.dump() + "\n" : bench::to_text(*result));
  return kExitOk;
}

int list(const Invocation& invocation) {
  Json rows = Json::array();
  Table table({"metric", "unit", "gated", "tolerance", "what"});
  for (const bench::Metric& metric : bench::metrics()) {
    rows.push_back({{"id", metric.id},
                    {"family", metric.family},
                    {"unit", metric.unit},
                    {"gated", metric.gated},
                    {"tolerance", metric.tolerance},
                    {"doc", metric.doc}});
    table.add({std::string(metric.id), std::string(metric.unit), metric.gated ? "yes" : "no",
               fmt::format("{:.0f} %", 100 * metric.tolerance), std::string(metric.doc)});
  }
  if (invocation.json) {
    print_json(rows);
  } else {
    print(table.text());
  }
  return kExitOk;
}

}  // namespace

void add_bench(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand(
      "bench", "The performance laboratory: compare two builds, measure against alternatives");
  group->require_subcommand(1);
  group->footer(
      "Example:\n  keelback bench compare --base ./old/keelback --head ./new/keelback\n\n"
      "Exit codes: 0 ok, 1 regressed, 2 usage, 3 void (the run's own checks failed), "
      "4 inconclusive (with --strict).");
  auto chosen = std::make_shared<BenchOptions>();

  CLI::App* lists =
      add_command(*group, invocation, "list", "What is measured, and what the gate tolerates",
                  "keelback bench list");
  lists->callback([&invocation] { invocation.run = [&invocation] { return list(invocation); }; });

  CLI::App* compares = add_command(
      *group, invocation, "compare",
      "Is the head slower than the base? Paired fresh pools, an exact test, its own proofs",
      "keelback bench compare --base ./old/keelback --head ./new/keelback --profile pr --out out/");
  compares->add_option("--base", chosen->base, "The keelback program to compare with")
      ->required()
      ->check(CLI::ExistingFile);
  compares->add_option("--head", chosen->head, "The keelback program in question")
      ->required()
      ->check(CLI::ExistingFile);
  compares
      ->add_option("--profile", chosen->profile,
                   "quick (a first look), pr (up to 5 minutes), nightly")
      ->capture_default_str();
  compares->add_option("--out", chosen->out,
                       "A directory for report.html, report.json and junit.xml");
  compares->add_option("--seed", chosen->seed, "Of every coin that is thrown")
      ->capture_default_str();
  compares->add_option("--cpu", chosen->cpu, "The processor that both sides run on")
      ->capture_default_str();
  compares->add_flag("--free", chosen->free, "Pin nothing: nearer to production, much noisier");
  compares->add_flag("--strict", chosen->strict, "Inconclusive is exit 4");
  compares->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return compare(invocation, *chosen); };
  });

  CLI::App* peering =
      add_command(*group, invocation, "peers",
                  "The same function on the alternatives a user would pick, in the same run",
                  "keelback bench peers --python .venv/bin/python --json");
  peering
      ->add_option("--python", chosen->python,
                   "The interpreter that has the alternatives installed")
      ->capture_default_str();
  peering->add_option("--blocks", chosen->blocks, "How often everybody is measured")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  peering->add_option("--seed", chosen->seed, "Of the order in each block")->capture_default_str();
  peering->add_option("--out", chosen->out, "A directory for report.html and report.json");
  peering->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return peers(invocation, *chosen); };
  });

  // One side of a comparison; not for people.
  CLI::App* agent = group->add_subcommand("agent", "")->group("");
  agent->callback([&invocation] {
    invocation.run = [] { return bench::serve_agent(STDIN_FILENO, STDOUT_FILENO); };
  });
}

}  // namespace keelback::cli
