// `keelback serve` of the laboratory's application on a free port of loopback, gone when this
// object is.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "bench/line_process.h"

namespace keelback::bench {

class ServeProcess {
 public:
  // `program serve app`. Blocks until it answers calls.
  static std::expected<ServeProcess, std::string> start(const std::string& program,
                                                        const std::string& app,
                                                        const std::string& python,
                                                        unsigned workers);
  std::uint16_t port() const { return port_; }

 private:
  ServeProcess(LineProcess process, std::uint16_t port)
      : process_(std::move(process)), port_(port) {}
  LineProcess process_;
  std::uint16_t port_;
};

// Until a POST to /v1/call/noop is answered with 200; the error is why not, after 30 s.
std::expected<void, std::string> wait_for_server(std::uint16_t port);

}  // namespace keelback::bench
