// How a pool is configured: the options of `serve`, `run`, `doctor`, `config check` and of the
// laboratories.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "api/config.h"
#include "cli/command.h"

namespace keelback::cli {

struct ConfigOptions {
  std::string file;
  std::vector<std::string> assignments;  // --set
  std::vector<api::ConfigFlag> flags;    // of options that stand for a key, such as --workers

  // --config and --set.
  void add_to(CLI::App& command);
  // An option that stands for a setting: its text goes through the schema.
  void add_setting_option(CLI::App& command, const char* option, const char* key,
                          const char* description);
  std::expected<api::ConfigStore, std::vector<std::string>> load() const;
  // Whether log.format = json seems to be meant, of a configuration that cannot be loaded: what is
  // wrong with it is then said in JSON.
  bool wants_json_log() const;
};

}  // namespace keelback::cli
