// How long a node may go on with its sessions after a beat. It counts from the moment at which the
// beat was sent, by this node's clock. Others count from the moment at which they saw the beat,
// which is later: so no other node counts a lease as over while this one counts it as running.
#pragma once

#include <algorithm>
#include <optional>

#include "base/time.h"

namespace keelback::cluster {

class Lease {
 public:
  Lease(Duration length, Duration margin) : length_(length), margin_(margin) {}

  // A beat that was sent then has succeeded.
  void renew(Time sent) { begun_ = begun_ ? std::max(*begun_, sent) : sent; }
  void end() { begun_.reset(); }

  // Nobody else can have the node's sessions.
  bool holds(Time now) const { return begun_ && now < *begun_ + length_; }
  // … and what starts now has the margin to end in.
  bool may_start(Time now) const { return begun_ && now < *begun_ + length_ - margin_; }

 private:
  Duration length_, margin_;
  std::optional<Time> begun_;
};

}  // namespace keelback::cluster
