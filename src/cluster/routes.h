// Where sessions of other nodes were found last. A route may be out of date: the node that it leads
// to says so (421). At most `max` are kept; the oldest goes.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "cluster/database.h"

namespace keelback::cluster {

class Routes {
 public:
  explicit Routes(std::size_t max) : max_(max) {}

  void put(const std::string& session, const Owner& owner) {
    routes_.insert_or_assign(session, Route{owner, ++last_});
    order_.emplace_back(session, last_);
    while (routes_.size() > max_ || order_.size() > 2 * max_) {
      const auto& [name, number] = order_.front();
      const auto found = routes_.find(name);
      if (found != routes_.end() && found->second.number == number) routes_.erase(found);
      order_.pop_front();
    }
  }
  const Owner* find(const std::string& session) const {
    const auto found = routes_.find(session);
    return found == routes_.end() ? nullptr : &found->second.owner;
  }
  void remove(const std::string& session) { routes_.erase(session); }
  std::size_t size() const { return routes_.size(); }

 private:
  struct Route {
    Owner owner;
    std::uint64_t number = 0;
  };
  std::size_t max_;
  std::uint64_t last_ = 0;
  std::map<std::string, Route> routes_;
  std::deque<std::pair<std::string, std::uint64_t>> order_;  // oldest first; with old numbers too
};

}  // namespace keelback::cluster
