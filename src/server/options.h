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

using namespace std::chrono_literals;

struct Options {
  std::vector<std::string> listen;  // empty: server.listen

  std::size_t connections_max = 1024;
  std::size_t header_max = 16 << 10;          // request line and header fields, bytes
  std::uint64_t buffered_max = 256ULL << 20;  // bodies being read, all connections together
  Duration header_timeout = 10s;              // from the first byte to the end of the header
  Duration idle_timeout = 75s;                // between requests
  Duration transfer_timeout = 30s;            // body or reply: this, plus size / rate_min
  std::uint64_t rate_min = 16 << 10;          // bytes a second that a client must manage
  Duration stream_stall_max = 5min;           // a stream's reader may stop reading for so long
  Duration heartbeat = 10s;                   // a silent stream gets a comment this often
  Duration linger = 2s;                       // after a refusal: let the client read it
  Duration tick = 200ms;                      // how exactly the above are kept

  // LISTEN_FDS instead of server.listen, STOPPING=1 to NOTIFY_SOCKET. Who owns the server says
  // READY=1: a server that listens is not yet a pool that serves.
  bool service_manager = false;
  // Writes a line to the log. Empty: nothing is logged.
  std::function<void(LogLevel level, const std::string& text)> log;
  // How many lines the log has lost because stderr did not take them. Empty: none.
  std::function<std::uint64_t()> log_lost;
  // POST /v1/drain. Empty: the driver is drained, and the server goes on answering.
  std::function<void()> on_drain;
};

}  // namespace keelback::server
