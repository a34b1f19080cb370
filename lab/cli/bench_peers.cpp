// keelback bench peers: Keelback beside what users would run instead.
#include "bench/peers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/adder.h"
#include "cli/bench_commands.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

struct PeersCommand {
  bench::PeersOptions options;
  std::string out;
};

int peers(const Invocation& invocation, PeersCommand& chosen) {
  bench::PeersOptions& options = chosen.options;
  options.program = host::find_program("keelback");
  options.python_directory = host::find_python_directory();
  if (options.python_directory.empty())
    return fail(invocation, kExitUsage, "usage",
                "the Python package keelback was not found: set KEELBACK_PYTHON_DIR");
  options.progress = bench_progress();
  const auto result = bench::run_peers(options);
  if (!result) return deliver(invocation, chosen.out, std::unexpected(result.error()));
  return deliver(invocation, chosen.out, bench::to_json(*result));
}

}  // namespace

void add_bench_peers(CLI::App& group, Invocation& invocation) {
  const Adder<PeersCommand> to{invocation};
  CLI::App* peering = to.add(group, "peers", kPeersDescription,
                             "keelback bench peers --python .venv/bin/python --json", peers);
  bench::PeersOptions& options = to.chosen->options;
  peering
      ->add_option("--python", options.python,
                   "The interpreter that has the alternatives installed")
      ->capture_default_str();
  peering->add_option("--blocks", options.blocks, "How often everybody is measured")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  peering
      ->add_option("--only", options.groups,
                   fmt::format("Only these of {}", fmt::join(bench::peer_groups(), ",")))
      ->delimiter(',')
      ->check(CLI::IsMember(bench::peer_groups()));
  peering->add_option("--seed", options.seed, "Of the order in each block")->capture_default_str();
  add_bench_out(*peering, to.chosen->out);
}

}  // namespace keelback::cli
