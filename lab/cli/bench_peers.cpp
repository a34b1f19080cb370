// keelback bench peers: Keelback beside what users would run instead.
#include "bench/peers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>

#include "cli/bench_commands.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

struct PeersCommand {
  std::string python = "python3", out;
  int blocks = 30;
  std::uint64_t seed = 1;
  std::vector<std::string> only;
};

int peers(const Invocation& invocation, const PeersCommand& chosen) {
  bench::PeersOptions options;
  options.program = host::find_program("keelback");
  options.python = chosen.python;
  options.python_directory = host::find_python_directory();
  if (options.python_directory.empty())
    return fail(invocation, kExitUsage, "usage",
                "the Python package keelback was not found: set KEELBACK_PYTHON_DIR");
  options.blocks = chosen.blocks;
  options.groups = chosen.only;
  options.seed = chosen.seed;
  options.progress = bench_progress();
  const auto result = bench::run_peers(options);
  if (!result) {
    end_bench_progress();
    return fail(invocation, kExitUsage, "usage", result.error());
  }
  return deliver(invocation, chosen.out, bench::to_json(*result), kExitOk);
}

}  // namespace

void add_bench_peers(CLI::App& group, Invocation& invocation) {
  auto chosen = std::make_shared<PeersCommand>();
  CLI::App* peering = add_command(group, invocation, "peers", kPeersDescription,
                                  "keelback bench peers --python .venv/bin/python --json");
  peering
      ->add_option("--python", chosen->python,
                   "The interpreter that has the alternatives installed")
      ->capture_default_str();
  peering->add_option("--blocks", chosen->blocks, "How often everybody is measured")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  peering
      ->add_option("--only", chosen->only,
                   fmt::format("Only these of {}", fmt::join(bench::peer_groups(), ",")))
      ->delimiter(',')
      ->check(CLI::IsMember(bench::peer_groups()));
  peering->add_option("--seed", chosen->seed, "Of the order in each block")->capture_default_str();
  add_bench_out(*peering, chosen->out);
  peering->callback([&invocation, chosen] {
    invocation.run = [&invocation, chosen] { return peers(invocation, *chosen); };
  });
}

}  // namespace keelback::cli
