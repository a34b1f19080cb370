// What is asked again later, because no answer came. By name: one entry for each.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/time.h"

namespace keelback::cluster {

class Retries {
 public:
  void arm(const std::string& name, Time due) {
    disarm(name);
    due_.emplace(due, name);
    times_.emplace(name, due);
  }
  void disarm(const std::string& name) {
    const auto found = times_.find(name);
    if (found == times_.end()) return;
    due_.erase({found->second, name});
    times_.erase(found);
  }
  // The first that is due, which is disarmed; nullopt: none is.
  std::optional<std::string> take(Time now) {
    if (due_.empty() || due_.begin()->first > now) return std::nullopt;
    std::string name = due_.begin()->second;
    disarm(name);
    return name;
  }
  std::optional<Time> next() const {
    if (due_.empty()) return std::nullopt;
    return due_.begin()->first;
  }

 private:
  std::set<std::pair<Time, std::string>> due_;
  std::map<std::string, Time> times_;
};

}  // namespace keelback::cluster
