// What `keelback serve` runs: a driver, the HTTP server, signals, and the live configuration
// between them.
//
// Threads: serve() blocks the calling thread; everything else happens on the loop.
#pragma once

#include <spdlog/logger.h>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "api/config.h"
#include "api/driver_factory.h"
#include "host/driver.h"
#include "host/event_loop.h"
#include "server/server.h"
#include "server/store_config.h"

namespace keelback::cli {

class Daemon {
 public:
  // Takes what is needed and starts nothing yet.
  struct Options {
    std::string app;            // as it was given, for messages
    bool wait_for_app = false;  // a first load that fails is tried again, for ever
  };
  // `loop` is the driver's, and outlives this.
  Daemon(host::EventLoop& loop, api::OwnedDriver driver, api::ConfigStore store,
         std::shared_ptr<spdlog::logger> logger, Options options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Opens the listening sockets. Returns the addresses as people and --json see them:
  // "http://127.0.0.1:8080", "unix:/run/k.sock". The error is one sentence.
  [[nodiscard]] std::expected<std::vector<std::string>, std::string> listen();
  // Serves until the end and returns the exit code: 0 after a drain (SIGTERM, SIGINT, POST
  // /v1/drain); 128 + the signal after a second signal; kExitStart if the application cannot be
  // loaded at the start, and start_error() says why.
  int serve();
  const std::string& start_error() const { return start_error_; }

 private:
  void await_signal();
  void look_at_first_load();
  void give_up(const Death& death);
  void on_signal(int signal);
  void reload_file();
  void drain(const std::string& why);
  void kill(int signal);
  void finish(int exit_code);

  std::shared_ptr<spdlog::logger> logger_;  // shared with the driver
  host::EventLoop& loop_;
  api::OwnedDriver driver_;
  server::StoreConfig config_;
  std::unique_ptr<server::Server> server_;
  std::unique_ptr<boost::asio::signal_set> signals_;       // on the loop; gone before it
  std::unique_ptr<boost::asio::steady_timer> load_timer_;  // likewise
  const Options options_;
  std::promise<int> finished_;
  std::string start_error_;  // written before finished_ is set
  // On the loop only.
  bool draining_ = false;
  bool killing_ = false;
  bool done_ = false;
};

}  // namespace keelback::cli
