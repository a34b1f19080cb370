// Where calls wait. Every session has a lane, first in, first out; only the head of a lane competes
// for a worker. A stateless call is its own head. Heads stand in run queues (run_queue.h): one that
// any worker may serve from, and one per worker for the sessions that are bound to it.
//
// Bounds: `queue_max` calls wait in the pool; in one session `lane_max`, and no more than there is
// room left for others, so that a few hot sessions cannot fill the queue. Newcomers that any worker
// could serve are shed while they would wait longer than `delay_max`, or than they may take at all:
// a queue of calls that are dead when their turn comes would keep the workers busy for nobody.
#pragma once

#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <optional>

#include "base/time.h"
#include "core/call.h"
#include "core/run_queue.h"

namespace keelback::core {

class CallQueue {
 public:
  struct Limits {
    std::uint32_t queue_max;
    std::uint32_t lane_max;
    Duration delay_max;  // 0: never shed on delay
  };
  explicit CallQueue(Limits limits) : limits_(limits) {}

  // The heads that any worker may serve.
  RunQueue& common() { return common_; }
  const RunQueue& common() const { return common_; }
  void set_limits(Limits limits) { limits_ = limits; }

  // ---- bounds, for a newcomer that would have to wait
  bool full() const { return waiting() >= limits_.queue_max; }
  bool lane_full(const Lane& lane) const {
    const std::uint32_t room = full() ? 0 : limits_.queue_max - waiting();
    return lane.waiting.size() >= std::min(limits_.lane_max, std::max(room, 1U));
  }
  // How long a newcomer would wait with so many workers up (> 0): as long as the first of its
  // priority has waited already, or as the work before it takes, if that is more. Waiting while
  // nobody served says nothing of it.
  Duration delay(Time now, Priority priority, std::uint32_t workers_up) const;
  // How long the first of the heads has waited that any worker may serve.
  Duration longest_wait(Time now) const;
  // Low priority is shed at half of delay_max, high at twice of it.
  bool too_slow(Duration delay, Priority priority) const;
  // Nobody served until now.
  void serves_again(Time now) { served_since_ = now; }
  // It would most likely be dead when its turn comes.
  static bool hopeless(Duration delay, Duration limit) { return delay / 4 > limit / 5; }
  // When a refused caller should come back: what waits, over how fast it goes.
  Duration retry_after(std::uint32_t workers_up) const;
  // A worker was held for `ran` by one call.
  void observe_service(Duration ran);

  // ---- waiting
  // Every call that waits, backs off or is joined is counted once.
  void count_in(Call& call);
  void count_out(Call& call) { waiting_.erase(waiting_.iterator_to(call)); }
  std::uint32_t waiting() const { return static_cast<std::uint32_t>(waiting_.size()); }
  // How long the oldest of them has waited.
  Duration oldest(Time now) const {
    return waiting_.empty() ? Duration{0} : now - waiting_.front().accepted;
  }
  void clear() {
    common_.clear();
    waiting_.clear();
  }

  // Into its lane, at the end or (a call handed back by a dead worker) at the front.
  void append(Lane& lane, Call& call);
  void put_back(Lane& lane, Call& call);
  // Into its lane, before the calls that were accepted later. Requires: an older one waits there.
  void insert(Lane& lane, Call& call);
  // Out of its lane. It may have been the head: make_head() the next one then.
  void remove(Lane& lane, Call& call);
  // Stamps a call as the head of its lane (or on its own, without one). A call handed back keeps
  // its stamp.
  void make_head(Call& call, const Lane* lane, Time now);
  void enqueue(RunQueue& queue, Call& head) { queue.insert(head); }
  void dequeue(Call& head) {
    if (head.queue) head.queue->remove(head);
  }

 private:
  static Priority rank_of(const Lane& lane);
  static void count_in(Lane& lane, const Call& call);
  void rerank(Lane& lane);

  Limits limits_;
  RunQueue common_;
  boost::intrusive::list<Call,
                         boost::intrusive::member_hook<Call, boost::intrusive::list_member_hook<>,
                                                       &Call::wait_hook>>
      waiting_;  // oldest first
  std::uint64_t stamps_ = 0;
  Time served_since_{};
  double service_ns_ = 0;  // exponentially weighted mean, 1/16 a sample; 0: nothing seen yet
};

}  // namespace keelback::core
