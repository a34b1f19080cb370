// Who sent a request, for the log: the other end of the connection, or the client that a trusted
// proxy (server.trusted_proxies) names.
//
// Forwarded (RFC 7239) and X-Forwarded-For are lists. Each proxy appends the address that it saw. A
// client may have invented everything to the left of what a trusted proxy has appended. So the list
// is read from the right. Trusted addresses are skipped; the first other one is the client. If both
// headers name different clients, the proxy did not write at least one of them: then neither
// counts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/request.h"

namespace keelback::server {

// peer: the address of the other end, without a port; "unix" for a Unix socket.
std::string client_name(const Request& request, std::string_view peer,
                        const std::vector<std::string>& trusted_proxies);

}  // namespace keelback::server
