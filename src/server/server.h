// The HTTP face of a driver (docs/http.md is its contract).
//
// Everything happens on the thread of the loop that it shares with the driver. The methods below
// may be called from any thread. Driver and configuration must outlive the server. Before the
// server is destroyed: stop() it and wait for `done`, or have the loop not running.
//
// The usual end of a daemon: drain(), then driver.drain(limit, [&]{ server.stop(…); }). New calls
// end as `shutting_down` until the last accepted call has ended. Then the sockets close.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "host/driver.h"
#include "server/config_port.h"
#include "server/listener.h"
#include "server/options.h"

namespace boost::asio {
class io_context;
}

namespace keelback::server {

class Hub;

class Server {
 public:
  // `loop` is the one that the driver's callbacks run on.
  Server(boost::asio::io_context& loop, host::Driver& driver, ConfigPort& config,
         Options options = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Opens all sockets, or none, and begins to serve. The error is one sentence for people. Call it
  // once. It may block while it resolves names.
  [[nodiscard]] std::expected<std::vector<Endpoint>, std::string> listen();
  // Serves on, but every reply closes its connection and /readyz says no.
  void drain();
  // Closes the listening sockets, finishes the replies that are under way (for at most `limit`),
  // then calls `done` on the loop thread.
  void stop(Duration limit, std::move_only_function<void()> done);

  // Requests that the pool never saw.
  std::uint64_t http_rejected() const;

 private:
  std::shared_ptr<Hub> hub_;
};

}  // namespace keelback::server
