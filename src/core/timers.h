// What is due when. A timer is part of the thing that waits, so arming one allocates nothing; the
// next due time is the first of a tree.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace keelback::core {

enum class TimerKind : std::uint8_t { kCall, kWorker, kSlot, kBatch, kHealing, kScaling, kPool };

struct TimerTag;
struct Timer : boost::intrusive::set_base_hook<boost::intrusive::tag<TimerTag>,
                                               boost::intrusive::optimize_size<true>> {
  explicit Timer(TimerKind what) : kind(what) {}
  TimerKind kind;
  Time due{};  // meaningful while armed

  bool armed() const { return is_linked(); }
};

// Ties fire in the order in which they were armed.
class Timers {
 public:
  // Arms or re-arms. O(1) amortised when `due` is the latest, else O(log n).
  void arm(Timer& timer, Time due) {
    disarm(timer);
    timer.due = due;
    if (tree_.empty() || due >= tree_.rbegin()->due) {
      tree_.push_back(timer);
    } else {
      tree_.insert(tree_.upper_bound(due, ByDue{}), timer);
    }
  }
  void disarm(Timer& timer) {
    if (timer.armed()) tree_.erase(tree_.iterator_to(timer));
  }
  // The first timer due at `now`, disarmed; nullptr if none is.
  Timer* take_due(Time now) {
    if (tree_.empty() || tree_.begin()->due > now) return nullptr;
    Timer& first = *tree_.begin();
    tree_.erase(tree_.begin());
    return &first;
  }
  std::optional<Time> next() const {
    if (tree_.empty()) return std::nullopt;
    return tree_.begin()->due;
  }
  void clear() { tree_.clear(); }

 private:
  struct ByDue {
    bool operator()(const Timer& a, const Timer& b) const { return a.due < b.due; }
    bool operator()(const Timer& a, Time b) const { return a.due < b; }
    bool operator()(Time a, const Timer& b) const { return a < b.due; }
  };
  boost::intrusive::multiset<
      Timer,
      boost::intrusive::base_hook<boost::intrusive::set_base_hook<
          boost::intrusive::tag<TimerTag>, boost::intrusive::optimize_size<true>>>,
      boost::intrusive::compare<ByDue>, boost::intrusive::constant_time_size<false>>
      tree_;
};

}  // namespace keelback::core
