// Who has called whom among the calls in flight: which calls a running call has made (its children)
// that have not ended.
#pragma once

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/id.h"

namespace keelback::core {

class Family {
 public:
  // Requires: the child has no parent here.
  void add(CallId parent, CallId child) { children_[parent.value].push_back(child); }
  void remove(CallId parent, CallId child) {
    const auto found = children_.find(parent.value);
    CHECK(found != children_.end());
    CHECK(std::erase(found->second, child) == 1);
    if (found->second.empty()) children_.erase(found);
  }
  // In the order in which they were made. Valid until the next change.
  std::span<const CallId> children(CallId parent) const {
    const auto found = children_.find(parent.value);
    if (found == children_.end()) return {};
    return found->second;
  }
  bool empty() const { return children_.empty(); }

 private:
  boost::unordered_flat_map<std::uint64_t, std::vector<CallId>> children_;  // none is empty
};

}  // namespace keelback::core
