// What `keelback serve` runs: a driver, the HTTP server, signals, and the live configuration
// between them.
//
// Threads: serve() blocks the calling thread; everything else happens on the driver's loop.
#pragma once

#include <spdlog/logger.h>

#include <boost/asio/signal_set.hpp>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "api/config.h"
#include "host/driver.h"
#include "server/config_port.h"
#include "server/server.h"

namespace keelback::cli {

// The layered store as the server sees it; a change reaches the driver and the log at once.
class LiveConfig final : public server::ConfigPort {
 public:
  using OnChange = std::function<void(const Settings&)>;
  LiveConfig(api::ConfigStore store, OnChange on_change)
      : store_(std::move(store)), on_change_(std::move(on_change)) {}

  const Settings& settings() override { return store_.settings(); }
  Document document() override { return {store_.json(), store_.etag()}; }
  std::expected<Document, PatchError> patch(std::string_view flat,
                                            std::optional<std::string_view> if_match) override;
  // The file layer anew, as SIGHUP asks for; `say` gets what came of it.
  void reload_file(spdlog::logger& say);

 private:
  api::ConfigStore store_;
  OnChange on_change_;
};

class Daemon {
 public:
  // Takes what is needed and starts nothing yet.
  Daemon(std::unique_ptr<host::Driver> driver, api::ConfigStore store,
         std::shared_ptr<spdlog::logger> logger);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Opens the doors. The addresses as people and --json see them: "http://127.0.0.1:8080",
  // "unix:/run/k.sock". The error is one sentence.
  [[nodiscard]] std::expected<std::vector<std::string>, std::string> listen();
  // Serves until it has drained (SIGTERM, SIGINT, POST /v1/drain: 0) or was told a second time
  // (128 + the signal).
  int serve();

 private:
  void await_signal();
  void on_signal(int signal);
  void drain(const std::string& why);
  void kill(int signal);
  void finish(int exit_code);

  std::shared_ptr<spdlog::logger> logger_;  // shared with the driver
  std::unique_ptr<host::Driver> driver_;
  LiveConfig config_;
  std::unique_ptr<server::Server> server_;
  std::unique_ptr<boost::asio::signal_set> signals_;  // on the driver's loop; gone before it
  std::promise<int> finished_;
  // On the loop only.
  bool draining_ = false;
  bool killing_ = false;
  bool done_ = false;
};

}  // namespace keelback::cli
