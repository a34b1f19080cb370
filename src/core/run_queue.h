// Heads that wait for a worker, in their order: rank first (the highest priority in the lane;
// nested calls have the highest of all), then lanes with nested calls, whose parents hold a worker
// meanwhile, then the stamp that a head got when it became one. So sessions take turns, and a lane
// of a hundred calls delays nobody by a hundred.
//
// A worker that runs shared calls cannot take every head: not one that runs alone, and not one of a
// function that has its number of calls there. So heads that run alone stand apart from the others,
// and those stand by function. Finding the first head that a worker can take costs one step for
// each function with waiting heads, however many heads wait.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/time.h"
#include "core/call.h"

namespace keelback::core {

struct HeadOrder {
  bool operator()(const Call& a, const Call& b) const {
    if (a.rank != b.rank) return a.rank < b.rank;
    return a.ahead != b.ahead ? a.ahead : a.stamp < b.stamp;
  }
};

// The one that goes first; either may be null.
inline Call* earlier(Call* a, Call* b) {
  if (!a || !b) return a ? a : b;
  return HeadOrder{}(*b, *a) ? b : a;
}

class RunQueue {
 public:
  void insert(Call& head) {
    tree_of(head).insert(head);
    head.queue = this;
    ++size_;
    work_[static_cast<int>(head.rank)] += head.expected;
    if (head.alone) work_alone_ += head.expected;
  }
  void remove(Call& head);
  // The head is expected to take so long from now on.
  void expect(Call& head, Duration expected) {
    work_[static_cast<int>(head.rank)] += expected - head.expected;
    if (head.alone) work_alone_ += expected - head.expected;
    head.expected = expected;
  }
  // What the heads that go before a newcomer of this rank are expected to take, all together.
  Duration work_before(Priority rank) const {
    Duration work{0};
    for (int i = 0; i <= static_cast<int>(rank); ++i) work += work_[i];
    return work;
  }
  // What the heads that run alone are expected to take.
  Duration work_alone() const { return work_alone_; }

  Call* top() const {
    Call* first = top_alone();
    for (const ByFunction& each : shared_) first = earlier(first, each.heads.top());
    return first;
  }
  // Among those that run alone.
  Call* top_alone() const { return alone_.top(); }
  // Among those that run beside others: the first one of a function that `fits(head)`.
  template <class Fits>
  Call* top_shared(Fits fits) const {
    Call* first = nullptr;
    for (const ByFunction& each : shared_) {
      Call* head = each.heads.top();
      if (fits(*head)) first = earlier(first, head);
    }
    return first;
  }
  // The first one that is wanted of the heads that go before `limit`; costs a step for each head
  // before it.
  template <class Wanted>
  Call* first_before(const Call& limit, Wanted wanted) const {
    Call* first = alone_.first_before(limit, wanted);
    for (const ByFunction& each : shared_) {
      first = earlier(first, each.heads.first_before(limit, wanted));
    }
    return first;
  }
  // The first head of exactly this rank.
  const Call* first_of(Priority rank) const;

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t size_alone() const { return alone_.tree.size(); }
  void clear();
  template <class Visit>
  void each(Visit visit) const {
    for (const Call& call : alone_.tree) visit(call);
    for (const ByFunction& each : shared_) {
      for (const Call& call : each.heads.tree) visit(call);
    }
  }

 private:
  struct ByRank {
    bool operator()(const Call& a, Priority b) const { return a.rank < b; }
    bool operator()(Priority a, const Call& b) const { return a < b.rank; }
  };
  struct Heads {
    Call* top() const { return tree.empty() ? nullptr : const_cast<Call*>(&*tree.begin()); }
    void insert(Call& head) { tree.insert(head); }
    template <class Wanted>
    Call* first_before(const Call& limit, Wanted wanted) const {
      for (const Call& head : tree) {
        if (!HeadOrder{}(head, limit)) break;
        if (wanted(head)) return const_cast<Call*>(&head);
      }
      return nullptr;
    }

    boost::intrusive::set<
        Call,
        boost::intrusive::member_hook<
            Call, boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>>,
            &Call::queue_hook>,
        boost::intrusive::compare<HeadOrder>>
        tree;
  };
  struct ByFunction {
    const Function* function;
    Heads heads;  // never empty
  };

  Heads& tree_of(const Call& head) {
    return head.alone ? alone_ : shared_heads(*head.function).heads;
  }
  // Makes it if it is not there.
  ByFunction& shared_heads(const Function& function);

  Heads alone_;
  std::vector<ByFunction> shared_;
  std::size_t size_ = 0;
  Duration work_[3] = {};
  Duration work_alone_{};
};

}  // namespace keelback::core
