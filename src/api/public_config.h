// What stands behind the public Config.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "api/config.h"
#include "keelback/config.h"

namespace keelback {

struct Config::Impl {
  std::string app;
  std::vector<std::string> expose;
  std::vector<KeyValue> worker_environment;
  api::ConfigStore::Sources sources;
  api::ConfigStore store;  // always what `sources` make

  explicit Impl(api::ConfigStore loaded) : store(std::move(loaded)) {}
  // Uses the new sources, or returns what is wrong with them and changes nothing.
  std::expected<void, Error> adopt(api::ConfigStore::Sources changed);
};

namespace api {

// All problems in one sentence each, joined.
Error to_error(const ConfigProblems& problems);
// Changes the running configuration as one PATCH would.
std::expected<void, Error> patch(ConfigStore& store, const std::vector<KeyValue>& values);
std::expected<std::string, Error> read_setting(const ConfigStore& store, std::string_view key);

}  // namespace api
}  // namespace keelback
