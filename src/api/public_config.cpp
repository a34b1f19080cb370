#include "api/public_config.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/settings_schema.h"

namespace keelback {
namespace {

// If a key is set twice, the last value counts. A set that fails changes nothing.
api::ConfigStore::Sources with_flags(api::ConfigStore::Sources sources,
                                     const std::vector<KeyValue>& values) {
  for (const auto& [key, value] : values) sources.flags.push_back({key, value, "set()"});
  return sources;
}

std::unique_ptr<Config::Impl> defaults() {
  auto store = api::ConfigStore::load({});
  CHECK(store.has_value());  // the defaults are valid: base/settings_schema_test
  return std::make_unique<Config::Impl>(std::move(*store));
}

}  // namespace

std::expected<void, Error> Config::Impl::adopt(api::ConfigStore::Sources changed) {
  auto loaded = api::ConfigStore::load(changed);
  if (!loaded) return std::unexpected(api::to_error(loaded.error()));
  sources = std::move(changed);
  store = std::move(*loaded);
  return {};
}

Config::Config() : impl_(defaults()) {}
Config::Config(std::string app) : impl_(defaults()) { impl_->app = std::move(app); }
Config::~Config() = default;
Config::Config(const Config& other) : impl_(std::make_unique<Impl>(*other.impl_)) {}
Config& Config::operator=(const Config& other) {
  if (this != &other) impl_ = std::make_unique<Impl>(*other.impl_);
  return *this;
}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;

std::expected<Config, Error> Config::from_file(const std::string& path) {
  Config config;
  api::ConfigStore::Sources sources;
  sources.file = path;
  if (auto adopted = config.impl_->adopt(std::move(sources)); !adopted) {
    return std::unexpected(std::move(adopted.error()));
  }
  return config;
}

Config& Config::app(std::string app) {
  impl_->app = std::move(app);
  return *this;
}

Config& Config::expose(std::vector<std::string> functions) {
  impl_->expose = std::move(functions);
  return *this;
}

Config& Config::worker_environment(std::string name, std::string value) {
  impl_->worker_environment.emplace_back(std::move(name), std::move(value));
  return *this;
}

std::expected<void, Error> Config::set(std::string_view key, std::string_view value) {
  return set({{std::string(key), std::string(value)}});
}

std::expected<void, Error> Config::set(const std::vector<KeyValue>& values) {
  return impl_->adopt(with_flags(impl_->sources, values));
}

std::expected<void, Error> Config::use_environment() {
  api::ConfigStore::Sources sources = impl_->sources;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == text.npos || !text.starts_with("KEELBACK_")) continue;
    sources.environment.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return impl_->adopt(std::move(sources));
}

std::expected<std::string, Error> Config::get(std::string_view key) const {
  return api::read_setting(impl_->store, key);
}

namespace api {

Error to_error(const ConfigProblems& problems) {
  std::string text;
  for (const ConfigProblem& problem : problems) {
    if (!text.empty()) text += "; ";
    text += to_string(problem);
  }
  return {text.empty() ? "the configuration was refused" : std::move(text)};
}

std::expected<void, Error> patch(ConfigStore& store, const std::vector<KeyValue>& values) {
  nlohmann::json flat = nlohmann::json::object();
  for (const auto& [key, value] : values) flat[key] = value;
  const std::string text =
      flat.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
  auto change = store.patch(text, std::nullopt);
  if (!change) return std::unexpected(to_error(change.error().problems));
  return {};
}

std::expected<std::string, Error> read_setting(const ConfigStore& store, std::string_view key) {
  const SettingRow* row = find_setting(key);
  if (row == nullptr) return std::unexpected(Error{unknown_setting(key)});
  return row->get(store.settings());
}

}  // namespace api
}  // namespace keelback
