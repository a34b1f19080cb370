// The program keelback-peers. `keelback bench peers` becomes it; it is in build trees only.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/bench_commands.h"

int main(int argc, char** argv) {
  using namespace keelback::cli;
  CLI::App app("The laboratories of Keelback.", "keelback");
  Invocation invocation;
  app.require_subcommand(1);
  add_bench_peers(add_bench_group(app), invocation);
  return run_command_line(app, invocation, argc, argv);
}
