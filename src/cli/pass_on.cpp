#include "cli/pass_on.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/command.h"
#include "cli/output.h"
#include "host/install.h"

namespace keelback::cli {
namespace {

// Options before the last word of a command are --help, which changes nothing here.
bool chooses(std::span<char* const> arguments, const std::vector<std::string_view>& command) {
  auto wanted = command.begin();
  for (const std::string_view argument : arguments) {
    if (wanted == command.end()) break;
    if (argument.starts_with('-')) continue;
    if (argument != *wanted++) return false;
  }
  return wanted == command.end();
}

}  // namespace

void add_passed_on(CLI::App& parent, const PassedOn& command) {
  parent.add_subcommand(std::string(command.command.back()), command.description);
}

std::optional<int> pass_on(std::span<const PassedOn> commands, int argc, char** argv) {
  const std::span<char* const> arguments(argv + 1, argv + std::max(argc, 1));
  for (const PassedOn& each : commands) {
    if (!chooses(arguments, each.command)) continue;
    const std::string program = host::find_program(each.program);
    std::string why = "is not installed";
    if (!program.empty()) {
      ::execv(program.c_str(), argv);
      why = fmt::format("cannot be started: {}", std::strerror(errno));
    }
    Invocation invocation;
    invocation.json = std::ranges::any_of(
        arguments, [](const char* word) { return std::strcmp(word, "--json") == 0; });
    return fail(invocation, kExitLabFailed, "start",
                fmt::format("`keelback {}` needs {}, which {}: {}", fmt::join(each.command, " "),
                            program.empty() ? each.program : program.c_str(), why, each.remedy));
  }
  return std::nullopt;
}

}  // namespace keelback::cli
