#include "api/driver_factory.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <map>
#include <string_view>
#include <utility>

#include "host/host.h"
#include "store/memory_store.h"
#include "store/sqlite_store.h"

namespace keelback::api {
namespace {

std::map<Backend, MakeDriver>& registered_backends() {
  static std::map<Backend, MakeDriver> backends;
  return backends;
}

MakeNode& registered_node() {
  static MakeNode make;
  return make;
}

std::uint64_t seed_of(const DriverOptions& options) {
  if (options.seed != 0) return options.seed;
  return static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
}

}  // namespace

void register_backend(Backend backend, MakeDriver make) {
  registered_backends()[backend] = std::move(make);
}

void register_node(MakeNode make) { registered_node() = std::move(make); }

std::expected<OwnedDriver, std::string> make_driver(const DriverOptions& options) {
  std::unique_ptr<host::EventLoop> own;
  if (options.loop == nullptr) own = std::make_unique<host::EventLoop>();
  host::EventLoop& loop = own ? *own : *options.loop;
  const auto registered = registered_backends().find(options.settings.pool.backend);
  if (registered != registered_backends().end()) {
    DriverOptions seeded = options;
    seeded.seed = seed_of(options);
    return OwnedDriver(std::move(own), registered->second(loop, seeded));
  }
  if (options.settings.pool.backend == Backend::kSim) {
    return std::unexpected(
        "pool.backend is sim, a test double that is not part of this program; use python");
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
  if (!options.settings.cluster.store.empty()) {
    if (!registered_node()) {
      return std::unexpected(
          "cluster.store is set, but other nodes cannot reach this program; use keelback serve");
    }
    auto node = registered_node()(std::move(config));
    if (!node) return std::unexpected(std::move(node.error()));
    return OwnedDriver(std::move(own), std::move(*node));
  }
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
