#include "nodes/node_factory.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "api/driver_factory.h"
#include "base/hash.h"
#include "nodes/http_hops.h"
#include "nodes/node_driver.h"
#include "os/machine.h"
#include "os/random.h"
#include "postgres/database.h"

namespace keelback::nodes {
namespace {

// Two nodes with the same application have the same digest. Of a module only the name is known
// here; its digest says nothing of its code.
std::string digest_of(const std::string& app) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(app, error)) return "module " + app;
  std::ifstream file(app, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return fmt::format("{:016x}", seeded_hash(text, 1));
}

}  // namespace

std::expected<std::unique_ptr<host::Driver>, std::string> make_node(host::HostConfig config) {
  auto logger = config.logger ? config.logger : spdlog::default_logger();
  if (config.settings.cluster.node.empty()) config.settings.cluster.node = os::host_name();
  auto& loop = *config.loop;
  NodeConfig node;
  node.loop = &loop;
  node.settings = config.settings;
  node.digest = digest_of(config.app);
  node.seed = os::random_word();
  node.logger = logger;
  node.store = std::make_shared<ClusterStore>(loop.context());
  auto database = postgres::PostgresDatabase::open(
      loop.context(), {.url = config.settings.cluster.store},
      [logger](bool up, const std::string& reason) {
        if (up) return logger->info("The database of the cluster answers.");
        logger->warn("The database of the cluster does not answer: {}", reason);
      });
  if (!database) return std::unexpected("cluster.store: " + database.error());
  node.database = std::move(*database);
  const auto& cluster = config.settings.cluster;
  node.hops = std::make_unique<HttpHops>(loop.context(), Sender{cluster.node, cluster.token});
  config.store = node.store;
  auto host = host::Host::start(std::move(config));
  if (!host) return std::unexpected(std::move(host.error().message));
  node.inner = std::move(*host);
  return std::make_unique<NodeDriver>(std::move(node));
}

void register_nodes() { api::register_node(make_node); }

}  // namespace keelback::nodes
