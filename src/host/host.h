// The driver of the core that runs real processes: workers behind a zygote or by exec, watched by a
// guard. docs/life-of-a-request.md follows one call through it.
#pragma once

#include <spdlog/logger.h>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/settings.h"
#include "host/crew.h"
#include "host/driver.h"
#include "host/event_loop.h"
#include "os/fd.h"
#include "store/store.h"

namespace keelback::host {

// Takes the worker's end of its data socket and gives what the worker gets instead. On the loop
// thread; must not block.
using Interpose = std::function<os::Fd(WorkerId worker, os::Fd theirs)>;

struct HostConfig {
  EventLoop* loop = nullptr;        // required; outlives the host
  std::string app;                  // path or module; for the fake backend, its script
  std::vector<std::string> expose;  // functions of a plain module
  Settings settings;
  std::vector<std::string> environment;    // "NAME=value", over this process's environment
  std::string directory;                   // the workers' working directory; empty: ours
  std::shared_ptr<spdlog::logger> logger;  // shared with the program; null: spdlog's default
  // Look at the start for what a supervisor that is no more has left, and kill it.
  bool sweep = true;
  std::uint64_t seed = 0;  // of the core's chances; 0: a random one
  Interpose interpose;     // for laboratories: who stands between; empty: nobody
  // Of session snapshots; null: one in memory. Shared by the host and the copies of this.
  std::shared_ptr<store::Store> store;
};

class Host {
 public:
  // Returns at once: the application is imported meanwhile, and calls queue until the first worker
  // is ready. An error is one of this installation or of the system (no guard program, no
  // descriptors), never of the application: that shows in calls (not_ready) and in info().
  // Installs no signal handler, changes nothing process-wide, has no thread of its own. Its end
  // keeps the loop busy for as long as the zygote has for what it registered for exit
  // (calls.grace).
  [[nodiscard]] static std::expected<std::unique_ptr<Driver>, StartError> start(HostConfig config);
};

}  // namespace keelback::host
