#include "cli/daemon.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/asio/post.hpp>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "base/settings_text.h"
#include "cli/command.h"
#include "cli/first_load.h"
#include "cli/logging.h"
#include "server/systemd.h"

namespace keelback::cli {
namespace {

using namespace std::chrono_literals;

// How long replies may still take to reach their clients when everything else has ended.
constexpr Duration kLastReplies = 5s;
// How often a pool that starts is asked whether it is ready.
constexpr Duration kLoadLook = 20ms;

std::string name_of(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return fmt::format("signal {}", signal);
  }
}

}  // namespace

Daemon::Daemon(host::EventLoop& loop, api::OwnedDriver driver, api::ConfigStore store,
               std::shared_ptr<spdlog::logger> logger, Options options)
    : logger_(std::move(logger)),
      loop_(loop),
      driver_(std::move(driver)),
      config_(std::move(store),
              [this](const Settings& settings) {
                apply(*logger_, settings.log);
                driver_->configure(settings);
              }),
      signals_(std::make_unique<boost::asio::signal_set>(loop_.context())),
      load_timer_(std::make_unique<boost::asio::steady_timer>(loop_.context())),
      options_(std::move(options)) {
  server::Options server_options;
  server_options.service_manager = true;
  server_options.on_drain = [this] { drain("POST /v1/drain"); };
  server_options.log = [this](LogLevel level, const std::string& text) {
    logger_->log(level == LogLevel::kWarn ? spdlog::level::warn : spdlog::level::info, "{}", text);
  };
  server_options.log_lost = lost_log_lines;
  server_ = std::make_unique<server::Server>(loop_.context(), *driver_, config_,
                                             std::move(server_options));
}

Daemon::~Daemon() {
  // After this turn of the loop no signal is handled, and late callbacks do nothing.
  std::promise<void> quiet;
  boost::asio::post(loop_.context(), [&] {
    signals_.reset();
    load_timer_.reset();
    done_ = true;
    quiet.set_value();
  });
  quiet.get_future().wait();
  server_.reset();
  driver_.reset();  // kills what is left; its callbacks may still look at done_
}

std::expected<std::vector<std::string>, std::string> Daemon::listen() {
  // A write to a client that has gone fails; without this it would kill the daemon (SIGPIPE).
  std::signal(SIGPIPE, SIG_IGN);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) signals_->add(signal);
  await_signal();  // nobody else touches the set yet
  const auto endpoints = server_->listen();
  if (!endpoints) return std::unexpected(endpoints.error());
  boost::asio::post(loop_.context(), [this] { look_at_first_load(); });
  std::vector<std::string> addresses;
  for (const server::Endpoint& endpoint : *endpoints) {
    addresses.push_back(endpoint.path.empty() ? "http://" + endpoint.text : endpoint.text);
  }
  return addresses;
}

int Daemon::serve() { return finished_.get_future().get(); }

// On the loop, until the pool has been ready once or cannot be.
void Daemon::look_at_first_load() {
  if (draining_ || killing_ || done_) return;
  const PoolStats stats = driver_->info().stats;
  if (stats.ready) {
    server::notify("READY=1");
    return;
  }
  if (stats.load_failure && !options_.wait_for_app) return give_up(*stats.load_failure);
  load_timer_->expires_after(kLoadLook);
  load_timer_->async_wait([this](const boost::system::error_code& error) {
    if (!error) look_at_first_load();
  });
}

void Daemon::give_up(const Death& death) {
  start_error_ = load_failure_text(options_.app, death);
  killing_ = true;
  server_->stop(Duration(0), [this] { finish(kExitStart); });
}

void Daemon::await_signal() {
  signals_->async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    on_signal(signal);
    await_signal();
  });
}

void Daemon::on_signal(int signal) {
  if (signal == SIGHUP) return reload_file();
  if (killing_) std::_Exit(128 + signal);  // the third signal: end at once
  if (draining_) return kill(signal);
  drain(name_of(signal));
}

void Daemon::reload_file() {
  const auto change = config_.reload_file();
  if (!change) {
    for (const api::ConfigProblem& problem : change.error()) {
      logger_->error("{}", to_string(problem));
    }
    logger_->error("the configuration file was read again and changes nothing");
    return;
  }
  for (const std::string& sentence : change->pending) logger_->warn("{}", sentence);
  for (const std::string& sentence : change->warnings) logger_->warn("{}", sentence);
  logger_->info(
      "the configuration file was read again; changed: {}",
      change->keys.empty() ? "nothing" : fmt::format("{}", fmt::join(change->keys, ", ")));
}

void Daemon::drain(const std::string& why) {
  if (draining_) return;
  draining_ = true;
  const Duration limit = config_.settings().server.drain_timeout;
  logger_->info("{}: draining for at most {}; a second signal kills", why, format_duration(limit));
  server_->drain();
  driver_->drain(limit, [this] {
    if (done_ || killing_) return;
    server_->stop(kLastReplies, [this] { finish(0); });
  });
}

void Daemon::kill(int signal) {
  killing_ = true;
  logger_->warn("{} again: killing what still runs", name_of(signal));
  server_->stop(Duration(0), [this, signal] { finish(128 + signal); });
}

void Daemon::finish(int exit_code) {
  if (std::exchange(done_, true)) return;
  finished_.set_value(exit_code);
}

}  // namespace keelback::cli
