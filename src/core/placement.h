// Which worker takes a call. Who has no session, or a new one, goes to the idle worker that holds
// the fewest sessions (the one that was busy last, among equals: its caches are warm); a strict
// session waits for its home; a hint session moves when its home is busy and another is idle.
//
// A worker that becomes free chooses between the heads bound to it and those that anyone may serve.
// The older goes first; but a worker with more sessions than its share leaves *new* sessions to the
// others while it has work of its own, so that a burst spreads evenly and nobody stands idle.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstdint>

#include "base/time.h"
#include "core/worker_table.h"

namespace keelback::core {

class Placement {
 public:
  // ---- who there is
  // May hold new sessions: starting, ready or busy, and not on its way out.
  void admit(Worker& worker);
  // Takes no new sessions and no stateless calls any more.
  void withdraw(Worker& worker);
  // Before and after the number of its sessions changes.
  void before_change(Worker& worker);
  void after_change(Worker& worker);
  void set_idle(Worker& worker);
  void set_busy(Worker& worker);

  // ---- decisions
  // The worker that should run this head now; nullptr: it must wait.
  Worker* choose(const Call& head) const;
  // Where it waits: its home's queue, or (nullptr) with those that any worker may serve.
  static Worker* waits_for(const Call& head);
  // The head that a free worker should run next; nullptr: it is idle.
  Call* pick(Worker& worker, RunQueue& shared, Time now) const;
  Worker* first_idle() const {
    return idle_.empty() ? nullptr : const_cast<Worker*>(&*idle_.begin());
  }

  void clear() {
    idle_.clear();
    by_load_.clear();
  }

 private:
  struct IdleOrder {
    bool operator()(const Worker& a, const Worker& b) const {
      if (a.sessions() != b.sessions()) return a.sessions() < b.sessions();
      return a.idle_since > b.idle_since;
    }
  };
  struct LoadOrder {
    bool operator()(const Worker& a, const Worker& b) const {
      return a.sessions() != b.sessions() ? a.sessions() < b.sessions() : a.id < b.id;
    }
  };
  bool over_share(const Worker& worker) const;

  boost::intrusive::set<Worker,
                        boost::intrusive::member_hook<Worker, boost::intrusive::set_member_hook<>,
                                                      &Worker::idle_hook>,
                        boost::intrusive::compare<IdleOrder>>
      idle_;
  boost::intrusive::set<Worker,
                        boost::intrusive::member_hook<Worker, boost::intrusive::set_member_hook<>,
                                                      &Worker::load_hook>,
                        boost::intrusive::compare<LoadOrder>>
      by_load_;
  std::uint64_t idle_count_ = 0;
  bool was_idle_ = false;  // between before_change() and after_change()
  bool was_loaded_ = false;
};

}  // namespace keelback::core
