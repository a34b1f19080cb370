// The two sides of a service manager's protocol, without its library.
#pragma once

#include <string_view>
#include <vector>

namespace keelback::server {

// Descriptors that the service manager passed (LISTEN_FDS, LISTEN_PID is us). Empties the
// environment variables, so that no child takes them for its own. Call once, before threads.
std::vector<int> inherited_listeners();

// Sends "READY=1", "STOPPING=1", … to NOTIFY_SOCKET. False: nobody asked, or it did not go out.
bool notify(std::string_view state);

}  // namespace keelback::server
