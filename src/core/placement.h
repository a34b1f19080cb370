// Which worker takes a call. In a pool that can shrink a stateless call goes to the lowest slot
// that has room for it, so that the highest are unneeded. Elsewhere who has no session, or a new
// one, goes to the idle worker that holds the fewest sessions (the one that was busy last, among
// equals: its caches are warm); a strict session waits for its home; a hint session moves when its
// home is busy and another is idle.
//
// A worker that becomes free chooses between the heads bound to it and those that anyone may serve.
// The older goes first; but a worker with more sessions than its share leaves *new* sessions to the
// others while it has work of its own, so that a burst spreads evenly and nobody stands idle.
//
// Calls of shared functions go to an idle worker first, then to the one that has the most room. A
// call that runs alone needs an idle worker. If there is none, a worker is emptied for it: it takes
// no younger call that would run beside others. For a session's call that is the session's home;
// for all others it is one worker at a time, or as many as the caller of empty() wants.
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
  // It has begun to run calls beside each other, or runs none any more.
  void set_sharing(Worker& worker);
  void set_not_sharing(Worker& worker);
  // Whether stateless calls go to the lowest slots.
  void set_packing(bool packing);

  // ---- decisions
  // The worker that should run this head now; nullptr: it must wait. common: heads that any worker
  // may serve.
  Worker* choose(const Call& head, const RunQueue& common) const;
  // Where it waits: its home's queue, or (nullptr) with those that any worker may serve.
  static Worker* waits_for(const Call& head);
  // The head that a worker should run next; nullptr: it takes none. Whether the function's bulkhead
  // lets it run is not asked.
  Call* pick(const Worker& worker, const RunQueue& common, Time now) const;
  // Empties so many workers for heads of `common` that run alone. Returns one that was to be
  // emptied and need not be any more: it may take calls again; nullptr: none.
  Worker* empty(std::size_t workers);
  Worker* first_idle() const {
    return idle_.empty() ? nullptr : const_cast<Worker*>(&*idle_.begin());
  }

  void clear() {
    idle_.clear();
    idle_by_slot_.clear();
    by_load_.clear();
    sharing_.clear();
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
  struct SlotOrder {
    bool operator()(const Worker& a, const Worker& b) const { return a.id < b.id; }
  };
  bool over_share(const Worker& worker) const;
  Worker* lowest(const Call& head, const RunQueue& common) const;
  Worker* roomiest(const Call& head, const RunQueue& common) const;

  boost::intrusive::set<Worker,
                        boost::intrusive::member_hook<Worker, boost::intrusive::set_member_hook<>,
                                                      &Worker::idle_hook>,
                        boost::intrusive::compare<IdleOrder>>
      idle_;
  // The same workers, if packing_.
  boost::intrusive::set<Worker,
                        boost::intrusive::member_hook<Worker, boost::intrusive::set_member_hook<>,
                                                      &Worker::slot_hook>,
                        boost::intrusive::compare<SlotOrder>>
      idle_by_slot_;
  boost::intrusive::set<Worker,
                        boost::intrusive::member_hook<Worker, boost::intrusive::set_member_hook<>,
                                                      &Worker::load_hook>,
                        boost::intrusive::compare<LoadOrder>>
      by_load_;
  boost::intrusive::list<Worker,
                         boost::intrusive::member_hook<Worker, boost::intrusive::list_member_hook<>,
                                                       &Worker::sharing_hook>>
      sharing_;  // run calls beside each other
  std::uint64_t idle_count_ = 0;
  bool packing_ = false;
  bool was_idle_ = false;  // between before_change() and after_change()
  bool was_loaded_ = false;
};

}  // namespace keelback::core
