// Virtual time: what is due happens in the order of its time, ties in the order of asking.
#pragma once

#include <functional>
#include <map>
#include <utility>

#include "base/time.h"

namespace keelback::cluster {

class VirtualTime {
 public:
  Time now() const { return now_; }
  void after(Duration delay, std::function<void()> what) {
    due_.emplace(now_ + delay, std::move(what));
  }
  void run_until(Time until) {
    while (!due_.empty() && due_.begin()->first <= until) {
      auto next = due_.extract(due_.begin());
      now_ = next.key();
      next.mapped()();
    }
    now_ = until;
  }

 private:
  Time now_{};
  std::multimap<Time, std::function<void()>> due_;
};

}  // namespace keelback::cluster
