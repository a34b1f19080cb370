#include "core/batcher.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace keelback::core {
namespace {

// Until when the call may wait for others.
Time patience_of(const Call& call) {
  const Function& function = *call.function;
  const Duration had = call.deadline - call.head_since;
  const Time latest = call.deadline - std::max(had / 2, std::min(had, function.batch_run));
  return std::min(latest, call.head_since + function.spec.batch_wait);
}

}  // namespace

Batcher::~Batcher() { clear(); }

void Batcher::clear() {
  while (!groups_.empty()) {
    BatchGroup& group = groups_.front();
    group.calls.clear();
    groups_.pop_front();
    slab_.free(&group);
  }
  index_.clear();
}

void Batcher::set_limits(Limits limits) {
  limits_ = limits;
  for (BatchGroup& group : groups_) look(group);
}

BatchGroup& Batcher::make(const BatchGroup::Key& key) {
  BatchGroup& group = *slab_.make();
  group.key = key;
  groups_.push_back(group);
  return group;
}

BatchGroup& Batcher::join(Time now, Call& call) {
  CHECK(!call.group && call.function->batches());
  Function& function = *call.function;
  const BatchGroup::Key key{&function, call.batch_print, call.rank};
  const std::uint64_t which = key.print ^ static_cast<std::uint64_t>(key.priority);
  function.pace.arrived(now, which, function.spec.batch, function.spec.batch_wait);
  const auto [found, is_new] = index_.try_emplace(key, nullptr);
  if (is_new) found->second = &make(key);
  BatchGroup& group = *found->second;
  call.group = &group;
  // A newcomer goes last. One that a dead worker handed back keeps its stamp.
  auto place = group.calls.end();
  while (place != group.calls.begin() && std::prev(place)->stamp > call.stamp) --place;
  const bool last = place == group.calls.end();
  group.calls.insert(place, call);
  if (!last) {
    look(group);
  } else if (!group.full) {
    group.full = !extend(group, call) || group.next == function.spec.batch;
  }
  return group;
}

BatchGroup& Batcher::seal(std::span<Call* const> calls) {
  BatchGroup& group = make({});
  group.sealed = true;
  for (Call* call : calls) {
    CHECK(!call->group);
    call->group = &group;
    group.calls.push_back(*call);
  }
  look(group);
  return group;
}

BatchGroup& Batcher::leave(Call& call) {
  BatchGroup& group = *call.group;
  call.group = nullptr;
  if (group.queued == &call) group.queued = nullptr;
  group.calls.erase(group.calls.iterator_to(call));
  look(group);
  return group;
}

std::span<Call* const> Batcher::take(BatchGroup& group) {
  taken_.clear();
  for (std::uint32_t i = 0; i < group.next; ++i) {
    Call& call = group.calls.front();
    call.group = nullptr;
    if (group.queued == &call) group.queued = nullptr;
    group.calls.pop_front();
    taken_.push_back(&call);
  }
  look(group);
  return taken_;
}

void Batcher::drop(BatchGroup& group) {
  CHECK(group.calls.empty() && !group.noted && !group.armed());
  if (!group.sealed) index_.erase(group.key);
  groups_.erase(groups_.iterator_to(group));
  slab_.free(&group);
}

void Batcher::look(BatchGroup& group) {
  group.next = 0;
  group.payload_bytes = group.attachment_bytes = 0;
  group.full = false;
  group.ripe_at = Time::max();
  if (group.calls.empty()) return;
  const std::uint32_t most = std::max(group.calls.front().function->spec.batch, 1U);
  for (const Call& call : group.calls) {
    if (!extend(group, call)) break;
    if (group.next == most) break;
  }
  group.full = group.next == most || group.next < group.calls.size();
}

bool Batcher::extend(BatchGroup& group, const Call& call) const {
  const std::uint64_t payload = group.payload_bytes + call.payload_bytes;
  const std::uint64_t attached = group.attachment_bytes + call.attachment_bytes;
  const bool fits = payload <= limits_.payload_max && attached <= limits_.attachments_max;
  if (group.next > 0 && !fits) return false;
  if (group.next == 0) group.ripe_at = Time::max();
  ++group.next;
  group.payload_bytes = payload;
  group.attachment_bytes = attached;
  group.ripe_at = std::min(group.ripe_at, patience_of(call));
  return true;
}

}  // namespace keelback::core
