// The layered configuration as the server sees it: what PATCH /v1/config changes is applied to the
// pool in the same turn of the loop.
#pragma once

#include <functional>

#include "api/config.h"
#include "server/config_port.h"

namespace keelback::server {

// Keeps a reference to the store, which must outlive it. Thread: the driver's loop, from the moment
// the server listens.
class StoreConfig final : public ConfigPort {
 public:
  using Apply = std::function<void(const Settings&)>;
  // apply: called after every change of a value; usually driver.configure and the log's level.
  StoreConfig(api::ConfigStore& store, Apply apply);

  const Settings& settings() override { return store_.settings(); }
  Document document() override;
  std::expected<Document, PatchError> patch(std::string_view flat,
                                            std::optional<std::string_view> if_match) override;

 private:
  api::ConfigStore& store_;
  Apply apply_;
};

}  // namespace keelback::server
