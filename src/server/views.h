// The JSON that tools may rely on: field names are a contract (docs/http.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/pool.h"
#include "host/driver.h"

namespace keelback::server {

// What a reload answers once it is over.
std::string reloaded_json(const core::Stats& stats);
std::string pool_json(const host::PoolInfo& info, std::uint64_t http_rejected);
std::string workers_json(const std::vector<host::WorkerInfo>& workers);
std::string sessions_json(const core::Pool::SessionPage& page);
std::string quarantine_json(const std::vector<core::QuarantineView>& entries, std::uint64_t total);
// {app, runtime, functions} of a HELLO object; empty if it is not one.
std::string functions_json(std::string_view hello);
// OpenAPI 3.1 of the whole service; each function of the HELLO is a path of its own.
std::string openapi_json(std::string_view hello);

}  // namespace keelback::server
