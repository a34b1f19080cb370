// Which driver to make. Real processes (python, fake) are built in; other backends are registered
// by the program that links them.
#pragma once

#include <spdlog/logger.h>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/settings.h"
#include "host/driver.h"
#include "host/event_loop.h"
#include "host/host.h"

namespace keelback::api {

struct DriverOptions {
  host::EventLoop* loop = nullptr;  // outlives the driver; null: a loop of its own
  // A path ("app.py", "script.fake") or a module ("package.module"). The simulator ignores it: it
  // offers the standard functions of the test applications, and those exposed.
  std::string app;
  std::vector<std::string> expose;  // functions of a plain module; empty: those it decorates
  Settings settings;                // settings.pool.backend chooses
  std::vector<std::pair<std::string, std::string>> environment;  // added to the workers' own
  std::string directory;                   // the workers' working directory; empty: ours
  std::shared_ptr<spdlog::logger> logger;  // shared with the program; null: spdlog's default
  host::Interpose interpose;               // see HostConfig; the simulator has no sockets
  std::uint64_t seed = 0;  // of the core's and the model's chances; 0: drawn from the system
};

// A driver, and the loop that it runs on if that was made for it.
class OwnedDriver {
 public:
  OwnedDriver() = default;
  OwnedDriver(std::unique_ptr<host::EventLoop> loop, std::unique_ptr<host::Driver> driver)
      : loop_(std::move(loop)), driver_(std::move(driver)) {}
  OwnedDriver(OwnedDriver&&) noexcept = default;
  OwnedDriver& operator=(OwnedDriver&& other) noexcept {
    driver_ = std::move(other.driver_);  // the old driver ends before its loop
    loop_ = std::move(other.loop_);
    return *this;
  }

  explicit operator bool() const { return driver_ != nullptr; }
  host::Driver& operator*() const { return *driver_; }
  host::Driver* operator->() const { return driver_.get(); }
  host::Driver* get() const { return driver_.get(); }
  void reset() { *this = OwnedDriver(); }

 private:
  std::unique_ptr<host::EventLoop> loop_;
  std::unique_ptr<host::Driver> driver_;
};

// Makes the drivers of a backend that is not built in. `options.seed` is never 0.
using MakeDriver =
    std::function<std::unique_ptr<host::Driver>(host::EventLoop&, const DriverOptions& options)>;
// Before the first make_driver(), from one thread.
void register_backend(Backend backend, MakeDriver make);

// Makes the driver of a node of a cluster: other nodes reach it through the program that has an
// HTTP server. The error is one sentence.
using MakeNode = std::function<std::expected<std::unique_ptr<host::Driver>, std::string>(
    host::HostConfig config)>;
// Before the first make_driver(), from one thread.
void register_node(MakeNode make);

// Starts a driver; it is up at once, its workers follow. The error is one sentence for people,
// about this program, this installation or the system (a program of ours that cannot be found),
// never about the application: what is wrong with that shows in calls (not_ready) and in info().
[[nodiscard]] std::expected<OwnedDriver, std::string> make_driver(const DriverOptions& options);

}  // namespace keelback::api
