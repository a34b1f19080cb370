#include "server/store_config.h"

#include <utility>

namespace keelback::server {
namespace {

// The reply says the key beside the sentence.
std::string without_key(const api::ConfigProblem& problem) {
  const std::string prefix = problem.key + ": ";
  const bool repeated = !problem.key.empty() && problem.why.starts_with(prefix);
  return repeated ? problem.why.substr(prefix.size()) : problem.why;
}

}  // namespace

StoreConfig::StoreConfig(api::ConfigStore store, OnChange on_change)
    : store_(std::move(store)), on_change_(std::move(on_change)) {}

ConfigPort::Document StoreConfig::document() { return {store_.json(), store_.etag()}; }

std::expected<ConfigPort::Document, ConfigPort::PatchError> StoreConfig::patch(
    std::string_view flat, std::optional<std::string_view> if_match) {
  const auto change = store_.patch(flat, if_match);
  if (!change) {
    PatchError error;
    error.kind = change.error().stale ? PatchError::Kind::kStale : PatchError::Kind::kInvalid;
    for (const api::ConfigProblem& problem : change.error().problems) {
      error.items.push_back({problem.key, without_key(problem)});
    }
    return std::unexpected(std::move(error));
  }
  if (!change->keys.empty()) on_change_(store_.settings());
  return document();
}

std::expected<api::ConfigStore::Change, api::ConfigProblems> StoreConfig::reload_file() {
  auto change = store_.reload_file();
  if (change && !change->keys.empty()) on_change_(store_.settings());
  return change;
}

}  // namespace keelback::server
