#include "cli/config_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <utility>

#include "cli/read_file.h"

namespace keelback::cli {
namespace {

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    all.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return all;
}

}  // namespace

void ConfigOptions::add_to(CLI::App& command) {
  command.add_option("-c,--config", file, "The configuration file (TOML; docs/configuration.md)");
  command
      .add_option("--set", assignments,
                  "A setting, as KEY=VALUE; above the file and the environment; may be repeated")
      ->allow_extra_args(false);
}

bool ConfigOptions::wants_json_log() const {
  for (const std::string& assignment : assignments) {
    if (assignment.starts_with("log.format=")) return assignment == "log.format=json";
  }
  if (const char* format = std::getenv("KEELBACK_LOG_FORMAT")) {
    return std::string_view(format) == "json";
  }
  const auto text = file.empty() ? std::unexpected(std::string()) : read_file(file);
  if (!text) return false;
  std::string dense;  // without blanks: [log] … format="json", or log.format="json"
  std::ranges::copy_if(*text, std::back_inserter(dense),
                       [](char c) { return c != ' ' && c != '\t'; });
  return dense.find("format=\"json\"") != std::string::npos ||
         dense.find("format='json'") != std::string::npos;
}

void ConfigOptions::add_setting_option(CLI::App& command, const char* option, const char* key,
                                       const char* description) {
  const std::string_view names(option);  // "-w,--workers"
  const std::string where(names.substr(names.find("--")));
  command.add_option_function<std::string>(
      option,
      [this, where, key](const std::string& value) { flags.push_back({key, value, where}); },
      description);
}

std::expected<api::ConfigStore, std::vector<std::string>> ConfigOptions::load() const {
  std::vector<std::string> errors;
  api::ConfigStore::Sources sources{.file = file, .environment = process_environment()};
  for (const std::string& text : assignments) {
    auto flag = api::split_assignment(text);
    if (flag) {
      sources.flags.push_back(std::move(*flag));
    } else {
      errors.push_back("--set: " + flag.error());
    }
  }
  // An option of its own is meant more than a --set beside it.
  sources.flags.insert(sources.flags.end(), flags.begin(), flags.end());
  auto store = api::ConfigStore::load(sources);
  if (!store) {
    for (const api::ConfigProblem& problem : store.error()) errors.push_back(to_string(problem));
  }
  if (!errors.empty()) return std::unexpected(std::move(errors));
  return std::move(*store);
}

}  // namespace keelback::cli
