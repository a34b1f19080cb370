#include "host/host.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "host/engine_driver.h"
#include "host/process_crew.h"
#include "os/random.h"
#include "store/memory_store.h"

namespace keelback::host {
namespace {

std::uint64_t seed_or_random(std::uint64_t seed) { return seed != 0 ? seed : os::random_word(); }

std::shared_ptr<store::Store> make_store(const HostConfig& config) {
  return std::make_shared<store::MemoryStore>(
      config.settings.sessions.store_max.count,
      [logger = config.logger](bool warn, const std::string& text) {
        logger->log(warn ? spdlog::level::warn : spdlog::level::info, "{}", text);
      });
}

}  // namespace

std::expected<std::unique_ptr<Driver>, StartError> Host::start(HostConfig config) {
  if (!config.logger) config.logger = spdlog::default_logger();
  if (!config.store) config.store = make_store(config);
  EngineConfig engine{.loop = config.loop,
                      .settings = config.settings,
                      .logger = config.logger,
                      .seed = seed_or_random(config.seed),
                      .store = config.store};
  auto driver = std::make_unique<EngineDriver>(std::move(engine), [&config](Engine& made) {
    return std::make_unique<ProcessCrew>(made, config);
  });
  if (auto started = driver->start(); !started) return std::unexpected(started.error());
  return driver;
}

}  // namespace keelback::host
