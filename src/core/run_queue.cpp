#include "core/run_queue.h"

#include <algorithm>

#include "base/check.h"

namespace keelback::core {

RunQueue::ByFunction& RunQueue::shared_heads(const Function& function) {
  const auto found = std::ranges::find(shared_, &function, &ByFunction::function);
  if (found != shared_.end()) return *found;
  return shared_.emplace_back(&function, Heads{});
}

void RunQueue::remove(Call& head) {
  CHECK(head.queue == this);
  head.queue = nullptr;
  --size_;
  work_[static_cast<int>(head.rank)] -= head.expected;
  if (head.alone) {
    work_alone_ -= head.expected;
    alone_.tree.erase(alone_.tree.iterator_to(head));
    return;
  }
  ByFunction& by_function = shared_heads(*head.function);
  auto& tree = by_function.heads.tree;
  tree.erase(tree.iterator_to(head));
  if (!tree.empty()) return;
  if (&by_function != &shared_.back()) std::swap(by_function, shared_.back());
  shared_.pop_back();
}

const Call* RunQueue::first_of(Priority rank) const {
  const Call* first = nullptr;
  const auto look = [&](const Heads& heads) {
    const auto found = heads.tree.lower_bound(rank, ByRank{});
    if (found == heads.tree.end() || found->rank != rank) return;
    if (!first || HeadOrder{}(*found, *first)) first = &*found;
  };
  look(alone_);
  for (const ByFunction& each : shared_) look(each.heads);
  return first;
}

void RunQueue::clear() {
  alone_.tree.clear();
  for (ByFunction& each : shared_) each.heads.tree.clear();
  shared_.clear();
  size_ = 0;
  for (Duration& work : work_) work = Duration{0};
  work_alone_ = Duration{0};
}

}  // namespace keelback::core
