// The names (Keelback-Call) of calls that ended at their deadline. A client asks for the stacks,
// which are taken afterwards, by this name. The last 256 are kept. If two calls had one name, the
// later one counts.
#pragma once

#include <cstddef>
#include <deque>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>

#include "base/id.h"

namespace keelback::server {

class LateNames {
 public:
  static constexpr std::size_t kMax = 256;

  void add(std::string name, CallId call) {
    names_.emplace_back(std::move(name), call);
    if (names_.size() > kMax) names_.pop_front();
  }
  // 0: there is none.
  CallId find(std::string_view name) const {
    for (const auto& [known, call] : std::views::reverse(names_)) {
      if (known == name) return call;
    }
    return {};
  }

 private:
  std::deque<std::pair<std::string, CallId>> names_;  // oldest first
};

}  // namespace keelback::server
