// When rows that nobody needs are swept away. Each node does it now and then; that several do it
// harms nothing.
#pragma once

#include <chrono>

#include "base/time.h"
#include "cluster/frame.h"

namespace keelback::cluster {

class Sweeper {
 public:
  static constexpr Duration kEvery = std::chrono::minutes(1);
  static constexpr Duration kNodes = std::chrono::hours(24);  // how long retired ones are shown

  explicit Sweeper(Frame& frame) : frame_(frame) {}

  void tick(bool may_ask) {
    if (frame_.now < next_) return;
    // Not all nodes at once: they may have been started together.
    next_ = frame_.now + kEvery / 2 + Duration(frame_.prng.below(Duration(kEvery).count()));
    if (!may_ask) return;
    const Rules& rules = frame_.rules;
    Sweep request;
    request.idle = rules.idle_ttl + rules.tombstone_ttl;
    request.age = rules.max_age + rules.tombstone_ttl;
    request.keys = rules.key_ttl;
    request.nodes = kNodes;
    frame_.ask(request, ForOthers{});
  }
  Time next_deadline() const { return next_; }

 private:
  Frame& frame_;
  Time next_{};
};

}  // namespace keelback::cluster
