// The keelback program. It only registers the groups of commands.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/command.h"
#include "cli/pass_on.h"
#include "nodes/node_factory.h"
#include "os/fd.h"
#include "simdriver/backend.h"

int main(int argc, char** argv) {
  using namespace keelback::cli;
  keelback::os::keep_standard_numbers();  // before anything is opened
  constexpr const char* kRemedy =
      "install the component lab (cmake --install DIR --component lab, docs/install.md)";
  const PassedOn laboratories[] = {{{"chaos"}, kChaosDescription, "keelback-lab", kRemedy},
                                   {{"bench"}, kBenchDescription, "keelback-lab", kRemedy}};
  if (const auto code = pass_on(laboratories, argc, argv)) return *code;
  keelback::nodes::register_nodes();
  keelback::simdriver::register_backend();  // --backend sim
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
  add_cluster(app, invocation);
  add_quarantine(app, invocation);
  add_doctor(app, invocation);
  for (const PassedOn& laboratory : laboratories) add_passed_on(app, laboratory);
  add_version(app, invocation);
  return run_command_line(app, invocation, argc, argv);
}
