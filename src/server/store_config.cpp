#include "server/store_config.h"

#include <utility>

namespace keelback::server {

StoreConfig::StoreConfig(api::ConfigStore& store, Apply apply)
    : store_(store), apply_(std::move(apply)) {}

ConfigPort::Document StoreConfig::document() { return {store_.json(), store_.etag()}; }

std::expected<ConfigPort::Document, ConfigPort::PatchError> StoreConfig::patch(
    std::string_view flat, std::optional<std::string_view> if_match) {
  const auto change = store_.patch(flat, if_match);
  if (!change) {
    PatchError error;
    error.kind = change.error().stale ? PatchError::Kind::kStale : PatchError::Kind::kInvalid;
    for (const api::ConfigProblem& problem : change.error().problems) {
      error.items.push_back({problem.key, problem.why});
    }
    return std::unexpected(std::move(error));
  }
  if (!change->keys.empty()) apply_(store_.settings());
  return document();
}

}  // namespace keelback::server
