// The program keelback-lab. `keelback chaos` and `keelback bench` become it, with the same
// arguments.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdlib>

#include "cli/bench_commands.h"
#include "cli/chaos_commands.h"
#include "cli/pass_on.h"

int main(int argc, char** argv) {
  using namespace keelback::cli;
  // The laboratory looks at what its pools and daemons hold, also where it is not root.
  ::setenv("KEELBACK_INSPECTABLE", "1", /*overwrite=*/0);
  if (const auto code = pass_on({&kBenchPeers, 1}, argc, argv)) return *code;
  CLI::App app("The laboratories of Keelback.", "keelback");
  Invocation invocation;
  app.set_version_flag("--version", "keelback " KEELBACK_VERSION);
  app.require_subcommand(1);
  add_chaos(app, invocation);
  add_bench(app, invocation);
  return run_command_line(app, invocation, argc, argv);
}
