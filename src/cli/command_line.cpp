// From arguments to exit code: parsing, help, and suggestions for mistyped words.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "base/nearest.h"
#include "cli/command.h"
#include "cli/output.h"

namespace keelback::cli {

const char* const kExitCodesHelp =
    "Exit codes: 0 ok; 1 the call ended in another outcome than ok, or the server refused;\n"
    "2 wrong command line or configuration; 3 no server was reached; 4 the start failed.";

namespace {

// The subcommand that the words chose, as deep as they go.
CLI::App& deepest(CLI::App& app) {
  CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

std::string path_of(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : path_of(*parent) + " " + app.get_name();
}

std::vector<std::string> names_near(CLI::App& command, bool options) {
  std::vector<std::string> names;
  if (options) {
    for (const CLI::App* at = &command; at != nullptr; at = at->get_parent()) {
      for (const CLI::Option* option : at->get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      }
    }
  } else {
    for (const CLI::App* sub : command.get_subcommands([](CLI::App*) { return true; })) {
      if (!sub->get_group().empty()) names.push_back(sub->get_name());  // hidden ones are secret
    }
  }
  return names;
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// A hint for --port, which many servers have; ours listens at addresses. Empty: there was no
// --port.
std::string explain_port(const CLI::App& command, const std::vector<std::string>& extra) {
  if (path_of(command) != "keelback serve") return {};
  for (std::size_t i = 0; i < extra.size(); ++i) {
    const std::string_view word = extra[i];
    const std::string_view name = word.substr(0, word.find('='));
    if (name != "--port" && name != "-p") continue;
    std::string_view port = i + 1 < extra.size() ? std::string_view(extra[i + 1]) : "";
    if (name.size() < word.size()) port = word.substr(name.size() + 1);
    if (is_digits(port)) return fmt::format("; write --listen 127.0.0.1:{}", port);
    // Of `serve --port 8123 app.py` the parser has taken the number for the application.
    const CLI::Option* const app = command.get_option_no_throw("APP");
    const std::string taken =
        app == nullptr || app->results().empty() ? "" : app->results().front();
    return fmt::format("; write --listen 127.0.0.1:{}", is_digits(taken) ? taken : "8080");
  }
  return {};
}

// What is wrong, for people; empty: the parser's own message is good enough.
std::string explain_extra(CLI::App& app) {
  const std::vector<std::string> extra = app.remaining(true);
  if (extra.empty()) return {};
  CLI::App& command = deepest(app);
  const auto option =
      std::find_if(extra.begin(), extra.end(), [](const auto& e) { return e.starts_with('-'); });
  const bool is_option = option != extra.end();
  std::string word = is_option ? *option : extra.front();
  word = word.substr(0, word.find('='));
  const std::vector<std::string> names = names_near(command, is_option);
  const std::vector<std::string_view> views(names.begin(), names.end());
  const char* const kind = is_option ? "option" : views.empty() ? "argument" : "command";
  const std::string port = explain_port(command, extra);
  return fmt::format("`{}` has no {} '{}'{}", path_of(command), kind, word,
                     port.empty() ? did_you_mean(word, views) : port);
}

// The laboratory's exit code 2 is a verdict.
ExitCode usage_code(const std::string& path) {
  return path.starts_with("keelback chaos") ? kExitLabUsage : kExitUsage;
}

// If stderr of the daemon is JSON, these errors are JSON too.
bool wants_json_log(int argc, const char* const* argv) {
  const char* const format = std::getenv("KEELBACK_LOG_FORMAT");
  bool json = format != nullptr && std::strcmp(format, "json") == 0;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto at = word.find("log.format=");
    if (at == 0 || (at == 6 && word.starts_with("--set=")))
      json = word.substr(at) == "log.format=json";
  }
  return json;
}

int usage_error(CLI::App& app, const Invocation& invocation, const CLI::ParseError& error) {
  CLI::App& command = deepest(app);
  std::string text = explain_extra(app);
  if (text.empty()) text = fmt::format("`{}`: {}", path_of(command), error.what());
  return fail(invocation, usage_code(path_of(command)), "usage",
              fmt::format("{} ({} --help)", text, path_of(command)));
}

}  // namespace

CLI::App* add_command(CLI::App& parent, Invocation& invocation, const char* name,
                      const char* description, const std::string& example) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->add_flag("--json", invocation.json, "One JSON document on stdout");
  command->footer(fmt::format("Example:\n  {}\n\n{}", example, kExitCodesHelp));
  return command;
}

int run_command_line(CLI::App& app, Invocation& invocation, int argc, const char* const* argv) {
  if (argc <= 1) {
    std::cerr << app.help();
    return kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    app.exit(success);
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    // With --json the error is JSON, even if the parser failed before it reached --json.
    invocation.json = invocation.json || std::any_of(argv + 1, argv + argc, [](const char* word) {
                        return std::strcmp(word, "--json") == 0;
                      });
    invocation.json_log = path_of(deepest(app)) == "keelback serve" && wants_json_log(argc, argv);
    return usage_error(app, invocation, error);
  }
  return invocation.run();
}

}  // namespace keelback::cli
