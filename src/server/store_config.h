// The layered configuration for the server. A change by PATCH /v1/config reaches the pool in the
// same turn of the loop.
#pragma once

#include <functional>

#include "api/config.h"
#include "server/config_port.h"

namespace keelback::server {

// Thread: the driver's loop, from the moment the server listens.
class StoreConfig final : public ConfigPort {
 public:
  // Called after every change of a value: driver.configure, the log's level, …
  using OnChange = std::function<void(const Settings&)>;
  StoreConfig(api::ConfigStore store, OnChange on_change);

  const Settings& settings() override { return store_.settings(); }
  Document document() override;
  std::expected<Document, PatchError> patch(std::string_view flat,
                                            std::optional<std::string_view> if_match) override;
  // Reads the file again, for SIGHUP.
  std::expected<api::ConfigStore::Change, api::ConfigProblems> reload_file();

 private:
  api::ConfigStore store_;
  OnChange on_change_;
};

}  // namespace keelback::server
