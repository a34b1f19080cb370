// Who may send requests. Web pages may not: Host and Origin are checked. Clients on other machines
// need the token.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/reply.h"
#include "server/request.h"

namespace keelback::server {

// What is known about the socket that a request came in on.
struct Door {
  bool loopback = false;  // TCP, reachable from this machine only
  bool trusted = false;   // a Unix socket that we made, with server.unix_mode: the file system has
                          // checked already
  bool unix_socket = false;
  bool operating = true;  // it offers the operating routes: server.admin_listen
};

// Equal in content; the time taken depends on the length of `given` only.
bool equal_in_constant_time(std::string_view given, std::string_view secret);

// "localhost:8080" -> "localhost", "[::1]:80" -> "::1"; nullopt if it is not a host.
std::optional<std::string_view> host_name(std::string_view host_header);
bool is_loopback_name(std::string_view host);  // localhost, 127.x.y.z, ::1

struct Access {
  bool authorised = false;          // may read everything
  std::optional<Response> refusal;  // set: answer this and nothing else
};
// What we are called, besides this machine's loopback names.
struct OwnNames {
  const std::vector<std::string>& listen;   // the hosts of server.listen
  const std::vector<std::string>& allowed;  // server.allowed_hosts
};
// open: a route that needs no token.
Access check_access(const Request& request, Door door, std::string_view token, OwnNames names,
                    bool open);

}  // namespace keelback::server
