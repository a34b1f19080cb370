#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "os/machine.h"
#include "server/connection.h"
#include "server/hub.h"
#include "server/systemd.h"

namespace keelback::server {
namespace {

// `admin`: those that offer the operating routes, which are opened too; none: all do.
std::expected<std::vector<Listener>, std::string> open_all(std::vector<std::string> specs,
                                                           const std::vector<std::string>& admin,
                                                           const std::vector<int>& inherited,
                                                           mode_t unix_mode) {
  const auto operating = [&admin](const std::string& address) {
    return admin.empty() || std::ranges::find(admin, address) != admin.end();
  };
  std::vector<Listener> listeners;
  std::string error;
  for (const int fd : inherited) {
    auto listener = Listener::adopt(fd);
    if (!listener) return std::unexpected(std::move(listener.error()));
    listener->offer_operating_routes(operating(listener->endpoint().text));
    listeners.push_back(std::move(*listener));
  }
  if (!inherited.empty()) return listeners;
  for (const std::string& spec : admin) {
    if (std::ranges::find(specs, spec) == specs.end()) specs.push_back(spec);
  }
  for (const std::string& spec : specs) {
    auto listener = Listener::open(spec, unix_mode);
    if (!listener) return std::unexpected(std::move(listener.error()));
    listener->offer_operating_routes(operating(spec));
    listeners.push_back(std::move(*listener));
  }
  if (listeners.empty()) return std::unexpected("server.listen names no address");
  return listeners;
}

// "0660": the schema has checked it.
mode_t mode_of(const std::string& text) {
  mode_t mode = 0;
  for (const char digit : text) mode = mode * 8 + static_cast<mode_t>(digit - '0');
  return mode;
}

// The host part of what the operator wrote: a name by which clients may call us.
std::string name_of(std::string_view spec) {
  if (spec.starts_with("unix:")) return {};
  const auto name = host_name(spec);
  return name ? std::string(*name) : std::string();
}

// What a node of a cluster is called; empty: it is in none.
std::string node_of(const Settings::ClusterSection& cluster) {
  if (!cluster.node.empty()) return cluster.node;
  return cluster.store.empty() ? std::string() : os::host_name();
}

}  // namespace

Server::Server(boost::asio::io_context& loop, host::Driver& driver, ConfigPort& config,
               Options options)
    : hub_(std::make_shared<Hub>(loop, driver, config, std::move(options))) {}

Server::~Server() {
  if (!hub_->over.load(std::memory_order_acquire)) hub_->stop_now();
}

std::expected<std::vector<Endpoint>, std::string> Server::listen() {
  const Settings& settings = hub_->config.settings();
  const auto& specs = hub_->options.listen.empty() ? settings.server.listen : hub_->options.listen;
  const std::vector<int> inherited =
      hub_->options.service_manager ? inherited_listeners() : std::vector<int>();
  auto listeners =
      open_all(specs, settings.server.admin_listen, inherited, mode_of(settings.server.unix_mode));
  if (!listeners) return std::unexpected(std::move(listeners.error()));
  std::vector<Endpoint> endpoints;
  std::vector<std::string> names;
  for (const Listener& listener : *listeners) {
    const Door& door = listener.door();
    if (!door.loopback && !door.unix_socket && settings.server.token.empty()) {
      return std::unexpected(fmt::format(
          "server.listen '{}' can be reached from other machines: set server.token, or listen on "
          "127.0.0.1 or unix:/path",
          listener.endpoint().text));
    }
    endpoints.push_back(listener.endpoint());
    names.push_back(listener.endpoint().host);
  }
  for (const std::string& spec : specs) names.push_back(name_of(spec));
  for (const std::string& spec : settings.server.admin_listen) names.push_back(name_of(spec));
  std::erase(names, std::string());
  boost::asio::post(hub_->loop,
                    [hub = hub_, names = std::move(names), node = node_of(settings.cluster),
                     ready = std::move(*listeners)]() mutable {
                      hub->names = std::move(names);
                      hub->node = std::move(node);
                      hub->start(std::move(ready));
                    });
  return endpoints;
}

void Server::drain() {
  if (hub_->options.service_manager) notify("STOPPING=1");
  boost::asio::post(hub_->loop, [hub = hub_] { hub->drain(); });
}

void Server::stop(Duration limit, std::move_only_function<void()> done) {
  boost::asio::post(hub_->loop, [hub = hub_, limit, done = std::move(done)]() mutable {
    hub->stop(limit, std::move(done));
  });
}

std::uint64_t Server::http_rejected() const {
  return hub_->http_rejected.load(std::memory_order_relaxed);
}

}  // namespace keelback::server
