// The driver of cluster::Node: time, the database and the order of actions. What concerns calls and
// sessions goes to whoever made it.
//
// Thread: that of the loop, for everything.
#pragma once

#include <spdlog/logger.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "cluster/database.h"
#include "cluster/node.h"
#include "host/event_loop.h"

namespace keelback::nodes {

class Member {
 public:
  // Gets every action but Ask and Notice. It may call handle(): that event waits for its turn.
  using OnAction = std::move_only_function<void(cluster::Action& action)>;

  Member(boost::asio::io_context& loop, cluster::Config config, std::uint64_t seed,
         std::unique_ptr<cluster::Database> database, std::shared_ptr<spdlog::logger> logger,
         OnAction on_action);
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  void handle(cluster::Event event);
  cluster::Status status() const;
  bool owns(const std::string& session) const { return node_.owns(session); }

 private:
  void perform(cluster::Action& action);
  void ask(cluster::Ask& action);
  void arm();

  host::Alive alive_;
  cluster::Node node_;
  std::unique_ptr<cluster::Database> database_;
  std::shared_ptr<spdlog::logger> logger_;  // shared with the program
  OnAction on_action_;
  boost::asio::steady_timer timer_;
  std::deque<cluster::Event> waiting_;
  bool busy_ = false;
};

}  // namespace keelback::nodes
