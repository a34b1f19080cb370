// Limits of the server that are not settings. No user has needed to change them, and tests need
// them small.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/settings.h"
#include "base/time.h"

namespace keelback::server {

struct Options {
  std::vector<std::string> listen;  // empty: server.listen

  std::size_t connections_max = 1024;
  std::size_t header_max = 16 << 10;          // request line and header fields, bytes
  std::uint64_t buffered_max = 256ULL << 20;  // bodies being read, all connections together
  // From the first byte to the end of the header.
  Duration header_timeout = std::chrono::seconds(10);
  Duration idle_timeout = std::chrono::seconds(75);  // between requests
  // Body or reply: this, plus size / rate_min.
  Duration transfer_timeout = std::chrono::seconds(30);
  std::uint64_t rate_min = 16 << 10;  // bytes a second that a client must manage
  // A stream's reader may stop reading for so long.
  Duration stream_stall_max = std::chrono::minutes(5);
  // Requests that a client which provides functions has not read yet, bytes, beside the last one.
  // Beyond it the client counts as gone.
  std::size_t provider_unsent_max = 64 << 20;
  Duration heartbeat = std::chrono::seconds(10);   // a silent stream gets a comment this often
  Duration linger = std::chrono::seconds(2);       // after a refusal: let the client read it
  Duration tick = std::chrono::milliseconds(200);  // how exactly the above are kept

  // Takes sockets from LISTEN_FDS instead of server.listen, and sends STOPPING=1 to NOTIFY_SOCKET.
  // The owner of the server sends READY=1, because a server may listen before its pool can serve.
  bool service_manager = false;
  // Writes a line to the log. Empty: nothing is logged.
  std::function<void(LogLevel level, const std::string& text)> log;
  // How many lines the log has lost because stderr did not take them. Empty: none.
  std::function<std::uint64_t()> log_lost;
  // POST /v1/drain. Empty: the driver is drained, and the server goes on answering.
  std::function<void()> on_drain;
};

}  // namespace keelback::server
