// The protocol of a service manager (systemd), in both directions, without its library.
#pragma once

#include <string_view>
#include <vector>

namespace keelback::server {

// Descriptors that the service manager passed (LISTEN_FDS, LISTEN_PID is us). Empties the
// environment variables, so that no child process uses them. Call it once, before threads start.
std::vector<int> inherited_listeners();

// Sends "READY=1", "STOPPING=1", … to NOTIFY_SOCKET. False: there is no such socket, or it failed.
bool notify(std::string_view state);

}  // namespace keelback::server
