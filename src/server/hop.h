// Requests of other nodes of the cluster: who sent them, and whether they came as they were sent.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "server/reply.h"
#include "server/request.h"
#include "server/target.h"

namespace keelback::server {

// The name of the node that has signed the request's header with `token` (cluster.token). Nodes
// make calls, cancel them and end sessions; nothing else is taken from them. The error is a problem
// with 401. Requires: request.has(Header::kHop).
std::expected<std::string, Response> check_hop(const Request& request, std::string_view token,
                                               std::optional<Route> route);

// The body of such a request is not the one that was signed: the problem. Reads the whole body.
std::optional<Response> check_hop_body(const Request& request);

}  // namespace keelback::server
