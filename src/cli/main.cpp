// The keelback program: every command group registers itself here, and nothing else happens.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/command.h"

int main(int argc, char** argv) {
  using namespace keelback::cli;
  CLI::App app("Keelback runs Python for programs that are not Python.", "keelback");
  Invocation invocation;
  app.set_version_flag("--version", "keelback " KEELBACK_VERSION);
  app.require_subcommand(1);
  app.footer(kExitCodesHelp);
  add_serve(app, invocation);
  add_run(app, invocation);
  add_call(app, invocation);
  add_status(app, invocation);
  add_workers(app, invocation);
  add_sessions(app, invocation);
  add_config(app, invocation);
  add_control(app, invocation);
  add_quarantine(app, invocation);
  add_doctor(app, invocation);
  add_chaos(app, invocation);
  add_bench(app, invocation);
  add_version(app, invocation);
  return run_command_line(app, invocation, argc, argv);
}
