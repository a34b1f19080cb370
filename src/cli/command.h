// What all commands share, and one function for each group of commands, which registers it. A
// command adds its subcommand and options. If the user chooses it, it stores its work in `run`.
// That work starts after the parser has finished, so that no exception of the parser passes through
// a command.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace keelback::cli {

// docs/cli.md explains them to users.
enum ExitCode : int {
  kExitOk = 0,
  kExitOutcome = 1,      // the call ended in another outcome than ok, or the server refused
  kExitUsage = 2,        // the command line or the configuration is wrong; nothing was done
  kExitUnreachable = 3,  // there is no server, or it did not answer
  kExitStart = 4,        // the application or the daemon could not start
  // Of `keelback chaos`, whose 0 to 7 are verdicts:
  kExitLabUsage = 64,   // the command line or the scenario is wrong; nothing was done
  kExitLabFailed = 70,  // the laboratory itself failed, or is not installed (of `bench`, too)
};
extern const char* const kExitCodesHelp;  // for --help footers

struct Invocation {
  bool json = false;         // --json: one JSON document on stdout, whatever happens
  bool json_log = false;     // log.format = json: what fail() says on stderr is a line of the log
  std::function<int()> run;  // set by the chosen command; returns the exit code
};

// A subcommand with --json and the footer; `example` is one command line.
CLI::App* add_command(CLI::App& parent, Invocation& invocation, const char* name,
                      const char* description, const std::string& example);

void add_serve(CLI::App& app, Invocation& invocation);
void add_run(CLI::App& app, Invocation& invocation);
void add_call(CLI::App& app, Invocation& invocation);
void add_status(CLI::App& app, Invocation& invocation);
void add_workers(CLI::App& app, Invocation& invocation);
void add_sessions(CLI::App& app, Invocation& invocation);
void add_config(CLI::App& app, Invocation& invocation);
void add_control(CLI::App& app, Invocation& invocation);  // drain, reload, recycle
void add_cluster(CLI::App& app, Invocation& invocation);
void add_quarantine(CLI::App& app, Invocation& invocation);
void add_doctor(CLI::App& app, Invocation& invocation);
void add_version(CLI::App& app, Invocation& invocation);

// The whole command line, from arguments to exit code. `app` is the program with its commands.
int run_command_line(CLI::App& app, Invocation& invocation, int argc, const char* const* argv);

}  // namespace keelback::cli
