// Closed-loop HTTP load on loopback, one keep-alive connection and one thread a caller; the same
// client for our server and for the alternatives, so that its own cost divides out.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "base/time.h"
#include "load/histogram.h"

namespace keelback::bench {

struct HttpLoad {
  std::uint16_t port = 0;  // of 127.0.0.1
  std::string path = "/v1/call/noop";
  std::string body = "[1]";
  std::string session;  // empty: none
  std::uint32_t callers = 1;
  bool reconnect = false;  // a new connection for each call
  Duration length{0};
};

struct HttpFigures {
  load::Histogram latency;
  std::uint64_t ok = 0;  // status 200
  std::uint64_t other = 0;
  Duration took{0};
  double per_second() const {
    return static_cast<double>(ok) / std::chrono::duration<double>(took).count();
  }
};

// Blocks for `length`. The error: nobody listens, or a connection broke.
std::expected<HttpFigures, std::string> run_http(const HttpLoad& load);

}  // namespace keelback::bench
