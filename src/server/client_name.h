// Who sent a request, as logs name it: the other end of the connection, or whom proxies that
// server.trusted_proxies lists say they speak for.
//
// Forwarded (RFC 7239) and X-Forwarded-For are lists to which each proxy appends the address that
// it saw. Whatever stands left of what a trusted proxy appended may be the client's invention. So
// the list is walked from the right, over trusted addresses, and the first one that is not trusted
// is the client. If both headers are there and name different clients, at least one was not written
// by the proxy: then neither counts.
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
