#include "core/worker_table.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "core/function_table.h"

namespace keelback::core {

std::uint32_t Worker::shared_calls(const Function& function) const {
  const auto found = std::ranges::find(shared_, &function, &Shared::function);
  return found == shared_.end() ? 0 : found->calls;
}

bool Worker::fits(const Call& head) const {
  if (!serves()) return false;
  if (running.empty()) return true;
  return !head.alone && !taken() && running.size() < capacity &&
         shared_calls(*head.function) < head.function->spec.concurrency && !runs_namesake(head);
}

// A call of an ended session runs here, and the head opens a new one with the same id, or moves
// it here.
bool Worker::runs_namesake(const Call& head) const {
  const Session* session = head.session;
  if (!session || (session->home && session->home->owner == this)) return false;
  return std::ranges::any_of(running, [session](const Call& call) {
    return call.session && call.session != session && call.session->id == session->id;
  });
}

bool Worker::takes(const Call& head) const {
  if (!fits(head)) return false;
  return head.function->has_room(head) || (!head.alone && shared_calls(*head.function) > 0);
}

void Worker::begin(Call& call) {
  Function& function = *call.function;
  running.push_back(call);
  ++calls;
  if (call.alone) {
    if (running.size() == 1) ++function.workers;  // once for a batch
    if (call.suspect) ++function.suspects;
    return;
  }
  const auto found = std::ranges::find(shared_, &function, &Shared::function);
  if (found != shared_.end()) {
    ++found->calls;
    return;
  }
  shared_.push_back({&function, 1});
  ++function.workers;
}

void Worker::end(Call& call) {
  Function& function = *call.function;
  running.erase(running.iterator_to(call));
  if (call.alone) {
    if (running.empty()) --function.workers;
    if (call.suspect) --function.suspects;
    return;
  }
  const auto found = std::ranges::find(shared_, &function, &Shared::function);
  CHECK(found != shared_.end());
  if (--found->calls > 0) return;
  *found = shared_.back();
  shared_.pop_back();
  --function.workers;
}

WorkerState Worker::shown() const {
  if (const Killed* killed = in<Killed>()) return killed->shown;
  constexpr WorkerState kShown[] = {
      WorkerState::kStarting, WorkerState::kStarting, WorkerState::kReady,   WorkerState::kBusy,
      WorkerState::kSuspect,  WorkerState::kDraining, WorkerState::kDraining};
  static_assert(std::size(kShown) + 1 == std::variant_size_v<State>);
  return kShown[state.index()];
}

WorkerTable::~WorkerTable() {
  for (Worker* worker : in_order_) worker->queue.clear();
}

void WorkerTable::resize(std::uint32_t slots) {
  add_slots(slots);
  for (const auto& slot : slots_) slot->wanted = slot->number <= slots;
}

void WorkerTable::add_slots(std::uint32_t slots) {
  while (slots_.size() < slots) {
    slots_.push_back(std::make_unique<Slot>(static_cast<std::uint32_t>(slots_.size()) + 1));
    slots_.back()->wanted = false;
  }
}

std::uint32_t WorkerTable::wanted() const {
  return static_cast<std::uint32_t>(
      std::ranges::count_if(slots_, [](const auto& slot) { return slot->wanted; }));
}

void WorkerTable::set_capacity(std::uint32_t calls) {
  capacity_ = calls;
  for (Worker* worker : in_order_) worker->capacity = calls;
}

Slot* WorkerTable::slot(std::uint32_t number) {
  return number >= 1 && number <= slots_.size() ? slots_[number - 1].get() : nullptr;
}

Worker& WorkerTable::make(Slot& slot, Time now) {
  auto owned = std::make_unique<Worker>();
  Worker& worker = *owned;
  worker.id = WorkerId{slot.number, ++generations_};
  worker.slot = &slot;
  worker.started = now;
  worker.capacity = capacity_;
  ++counts_[static_cast<int>(worker.shown())];
  workers_.emplace(worker.id.generation, std::move(owned));
  in_order_.push_back(&worker);
  return worker;
}

void WorkerTable::erase(Worker& worker) {
  CHECK(worker.running.empty() && !worker.home && worker.queue.empty());
  CHECK(!worker.armed() && !worker.idle_hook.is_linked() && !worker.load_hook.is_linked());
  CHECK(!worker.sharing_hook.is_linked() && !worker.slot_hook.is_linked());
  --counts_[static_cast<int>(worker.shown())];
  std::erase(in_order_, &worker);
  workers_.erase(worker.id.generation);
}

Worker* WorkerTable::find(WorkerId id) const {
  const auto found = workers_.find(id.generation);
  return found != workers_.end() && found->second->id == id ? found->second.get() : nullptr;
}

void WorkerTable::set(Worker& worker, const Worker::State& state) {
  --counts_[static_cast<int>(worker.shown())];
  worker.state = state;
  ++counts_[static_cast<int>(worker.shown())];
}

}  // namespace keelback::core
