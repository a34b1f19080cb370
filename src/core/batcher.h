// Calls of batch functions that wait: which of them go to a worker together, and when.
//
// Calls with one function, one batch key, one priority and attachments of the same kinds form a
// group, first come, first served. The first calls of a group are its next batch: as many as the
// function takes, and as fit into the limits together. A group stands in a run queue by its first
// call, once it is ripe: when its next batch is full, when the first call has waited batch_wait, or
// when one of the batch could otherwise miss its deadline. That is assumed when half of the time
// that the call had is over, or when what is left is what a batch takes, by experience.
//
// What is left of a batch that died with its worker is a sealed group: nobody joins it, and it is
// ripe at once.
//
// Owns: the groups. It changes calls only in what names their group. Waiting decides where a ripe
// group stands, and arms the timers.
#pragma once

#include <boost/container_hash/hash.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "base/time.h"
#include "core/call.h"
#include "core/function_table.h"
#include "core/slab.h"
#include "core/timers.h"

namespace keelback::core {

// Its timer is due when it is ripe.
struct BatchGroup : Timer {
  struct Key {
    const Function* function = nullptr;
    std::uint64_t print = 0;  // Call::batch_print
    Priority priority = Priority::kNormal;
    friend bool operator==(const Key&, const Key&) = default;
    friend std::size_t hash_value(const Key& key) {
      std::size_t seed = key.print;
      boost::hash_combine(seed, key.function);
      boost::hash_combine(seed, static_cast<int>(key.priority));
      return seed;
    }
  };
  BatchGroup() : Timer(TimerKind::kBatch) {}

  Key key;
  CallList calls;          // by stamp
  Call* queued = nullptr;  // the call by which it stands in a run queue
  bool sealed = false;
  bool noted = false;  // it has changed: see Waiting::use_room()

  // The next batch: that many calls, from the first on.
  std::uint32_t next = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t attachment_bytes = 0;
  bool full = false;      // no other call fits into it
  Time ripe_at = Time{};  // though it is not full
  boost::intrusive::list_member_hook<> hook;
};

class Batcher {
 public:
  // Of the calls of one batch together.
  struct Limits {
    std::uint64_t payload_max;
    std::uint64_t attachments_max;
  };
  explicit Batcher(Limits limits) : limits_(limits) {}
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  void set_limits(Limits limits);
  void clear();  // lets go of all calls

  // Into its group. Requires: its function takes batches; it is in no group.
  BatchGroup& join(Time now, Call& call);
  // A group of their own, in this order, which is that of their stamps.
  BatchGroup& seal(std::span<Call* const> calls);
  // Out of its group, which stays even if it is empty. Returns that.
  BatchGroup& leave(Call& call);
  // The next batch leaves its group. Valid until the next take().
  std::span<Call* const> take(BatchGroup& group);
  // Requires: the group is empty, not noted, and its timer not armed.
  void drop(BatchGroup& group);

  // Its next batch waits for nobody any more. Requires: the group is not empty.
  static bool ripe(Time now, const BatchGroup& group) {
    return group.sealed || group.full || now >= group.ripe_at;
  }
  // Waiting for others is worth while even if a worker is idle.
  static bool worth_waiting(const BatchGroup& group) {
    return group.calls.front().function->pace.fills();
  }
  // The oldest of the calls that wait only for others to come, though few come; nullptr: none that
  // `takes(call)`. O(groups).
  template <class Takes>
  Call* early(Takes takes) const {
    Call* found = nullptr;
    for (const BatchGroup& group : groups_) {
      if (group.calls.empty() || group.queued || worth_waiting(group)) continue;
      Call& first = const_cast<Call&>(group.calls.front());
      if ((!found || first.stamp < found->stamp) && takes(first)) found = &first;
    }
    return found;
  }
  bool empty() const { return groups_.empty(); }
  template <class Visit>
  void each(Visit visit) {
    for (BatchGroup& group : groups_) visit(group);
  }
  template <class Visit>
  void each(Visit visit) const {
    for (const BatchGroup& group : groups_) visit(group);
  }

 private:
  BatchGroup& make(const BatchGroup::Key& key);
  void look(BatchGroup& group);                            // at its next batch, from the start
  bool extend(BatchGroup& group, const Call& call) const;  // its next batch, if the call fits

  Limits limits_;
  boost::unordered_flat_map<BatchGroup::Key, BatchGroup*> index_;  // those that calls may join
  boost::intrusive::list<
      BatchGroup, boost::intrusive::member_hook<BatchGroup, boost::intrusive::list_member_hook<>,
                                                &BatchGroup::hook>>
      groups_;  // in the order in which they were made
  std::vector<Call*> taken_;
  Slab<BatchGroup> slab_;
};

}  // namespace keelback::core
