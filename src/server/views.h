// The JSON that tools may rely on: field names are a contract (docs/http.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/application.h"
#include "core/pool.h"
#include "host/driver.h"

namespace keelback::server {

// What a reload answers once it is over.
std::string reloaded_json(const PoolStats& stats);
// What does not work though calls are served, for people; empty: all is well.
std::vector<std::string> degraded_reasons(const host::PoolInfo& info,
                                          const std::optional<host::ClusterInfo>& cluster);
std::string pool_json(const host::PoolInfo& info, const std::vector<std::string>& degraded,
                      std::uint64_t http_rejected);
std::string cluster_json(const host::ClusterInfo& info);
std::string workers_json(const std::vector<host::WorkerInfo>& workers);
// `node` has these sessions; empty: there are no other nodes.
std::string sessions_json(const SessionList& page, std::string_view node);
std::string quarantine_json(const std::vector<QuarantinedRequest>& entries, std::uint64_t total);
// {app, runtime, functions}, each function as in its HELLO.
std::string functions_json(const Application& application, const PoolStats& stats);
// OpenAPI 3.1 of the whole service; each function has a path of its own. `application` is null
// until a worker has said HELLO.
std::string openapi_json(const Application* application);

}  // namespace keelback::server
