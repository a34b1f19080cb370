#include "nodes/member.h"

#include <chrono>
#include <string>
#include <utility>

#include "os/clock.h"

namespace keelback::nodes {

Member::Member(boost::asio::io_context& loop, cluster::Config config, std::uint64_t seed,
               std::unique_ptr<cluster::Database> database, std::shared_ptr<spdlog::logger> logger,
               OnAction on_action)
    : node_(std::move(config), seed),
      database_(std::move(database)),
      logger_(std::move(logger)),
      on_action_(std::move(on_action)),
      timer_(loop) {}

Member::~Member() { alive_.end(); }

void Member::handle(cluster::Event event) {
  waiting_.push_back(std::move(event));
  if (std::exchange(busy_, true)) return;
  while (!waiting_.empty()) {
    const cluster::Event next = std::move(waiting_.front());
    waiting_.pop_front();
    cluster::Actions actions;
    node_.handle(os::monotonic_now(), next, actions);
    for (cluster::Action& action : actions) perform(action);
  }
  busy_ = false;
  arm();
}

cluster::Status Member::status() const { return node_.status(os::monotonic_now()); }

void Member::perform(cluster::Action& action) {
  if (auto* asked = std::get_if<cluster::Ask>(&action)) return ask(*asked);
  if (const auto* notice = std::get_if<cluster::Notice>(&action)) {
    using Level = cluster::Notice::Level;
    const auto level = notice->level == Level::kError  ? spdlog::level::err
                       : notice->level == Level::kWarn ? spdlog::level::warn
                                                       : spdlog::level::info;
    return logger_->log(level, "{}", notice->text);
  }
  on_action_(action);
}

void Member::ask(cluster::Ask& action) {
  database_->ask(std::move(action.request), action.patience,
                 alive_.guard([this, id = action.ask](cluster::Reply reply) {
                   handle(cluster::Replied{id, std::move(reply)});
                 }));
}

void Member::arm() {
  const std::optional<Time> next = node_.next_deadline();
  if (!next) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(std::chrono::steady_clock::time_point(next->time_since_epoch()));
  timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (!error) handle(cluster::Tick{});
  }));
}

}  // namespace keelback::nodes
