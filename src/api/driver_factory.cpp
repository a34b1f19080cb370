#include "api/driver_factory.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <string_view>

#include "api/sim_driver.h"
#include "host/host.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace keelback::api {
namespace {

std::unique_ptr<host::Driver> make_sim(host::EventLoop& loop, const DriverOptions& options,
                                       std::uint64_t seed) {
  sim::Simulation::Options made;
  made.settings = options.settings;
  made.seed = seed;
  made.model.exposed = options.expose;
  return std::make_unique<SimDriver>(loop, std::move(made));
}

}  // namespace

std::expected<OwnedDriver, std::string> make_driver(const DriverOptions& options) {
  std::unique_ptr<host::EventLoop> own;
  if (options.loop == nullptr) own = std::make_unique<host::EventLoop>();
  host::EventLoop& loop = own ? *own : *options.loop;
  std::uint64_t seed = options.seed;
  if (seed == 0) {
    seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  }
  switch (options.settings.pool.backend) {
    case Backend::kSim:
      return OwnedDriver(std::move(own), make_sim(loop, options, seed));
    case Backend::kFake:
    case Backend::kPython:
      break;
  }
  host::HostConfig config;
  config.loop = &loop;
  config.app = options.app;
  config.expose = options.expose;
  config.settings = options.settings;
  for (const auto& [name, value] : options.environment) {
    config.environment.push_back(name + '=' + value);
  }
  config.directory = options.directory;
  config.logger = options.logger;
  config.seed = options.seed;
  config.interpose = options.interpose;
  const store::Store::Notice notice = [logger = options.logger](bool warn,
                                                                const std::string& text) {
    const auto level = warn ? spdlog::level::warn : spdlog::level::info;
    (logger ? logger : spdlog::default_logger())->log(level, "{}", text);
  };
  const std::uint64_t bytes_max = options.settings.sessions.store_max.count;
  constexpr std::string_view kSqlite = "sqlite:";
  if (const std::string& where = options.settings.sessions.store; where.starts_with(kSqlite)) {
    auto store = store::SqliteStore::open(
        {.path = where.substr(kSqlite.size()), .bytes_max = bytes_max, .notice = notice});
    if (!store) return std::unexpected("sessions.store: " + store.error());
    config.store = std::move(*store);
  } else {
    config.store = std::make_unique<store::MemoryStore>(bytes_max, notice);
  }
  auto host = host::Host::start(std::move(config));
  if (!host) return std::unexpected(std::move(host.error().message));
  return OwnedDriver(std::move(own), std::move(*host));
}

}  // namespace keelback::api
