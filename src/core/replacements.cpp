#include "core/replacements.h"

#include <utility>
#include <vector>

#include "core/starts.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

// Workers of one slot that may drain at once; with one more the oldest ends with what it has.
constexpr std::uint32_t kDrainingPerSlot = 4;

}  // namespace

void Replacements::recycle(Worker& worker) {
  if (worker.recycle || worker.slot->current != &worker) return;
  if (worker.spare) return workers_.let_go(worker);
  worker.recycle = true;
  workers_.arm(worker);
  starts_.refill(*worker.slot, Duration{0});
}

// Its code was interrupted at an arbitrary line, so it serves no stateless call any more: its
// replacement starts now and the worker drains. A replacement that is started by exec imports the
// whole application first; until then the worker serves.
void Replacements::replace_interrupted(Worker& worker) {
  if (starts_.exec()) return recycle(worker);
  replace_now(worker);
}

// It takes no call any more, and its replacement starts now, however long that takes.
void Replacements::doom(Worker& worker) {
  worker.doomed = true;
  replace_now(worker);
}

void Replacements::replace_now(Worker& worker) {
  Slot& slot = *worker.slot;
  if (worker.ending() || slot.current != &worker) return;
  std::uint32_t draining = 0;
  Worker* oldest = nullptr;
  workers_.table().each([&](Worker& other) {
    if (other.slot != &slot || other.shown() != WorkerState::kDraining) return;
    ++draining;
    if (!oldest && other.draining()) oldest = &other;
  });
  if (draining >= kDrainingPerSlot && oldest) workers_.end_drain(*oldest);
  worker.recycle = true;
  slot.current = std::exchange(slot.next, nullptr);
  workers_.drain(worker);
  starts_.refill(slot, Duration{0});
}

void Replacements::on(const RecycleRequested& event) {
  Slot* slot = workers_.table().slot(event.slot);
  if (slot && slot->current) recycle(*slot->current);
}

// A worker that still starts has the old code and serves nobody yet: it makes room at once.
void Replacements::on(const ReloadRequested&) {
  ++code_;
  std::vector<Worker*> old;
  workers_.table().each([&](Worker& worker) {
    const Slot& slot = *worker.slot;
    if (slot.current == &worker || slot.next == &worker) old.push_back(&worker);
  });
  for (Worker* worker : old) {
    if (worker->was_ready()) {
      recycle(*worker);
    } else {
      workers_.kill(*worker, KillCause::kDrained);
    }
  }
  finish_reload();
}

bool Replacements::serves_old_code() const {
  bool found = false;
  workers_.table().each([&](const Worker& worker) {
    found |= worker.code != code_ && !worker.draining() && !worker.ending();
  });
  return found;
}

void Replacements::finish_reload() {
  if (reloaded_ == code_ || (!frame_.draining() && serves_old_code())) return;
  reloaded_ = code_;
  frame_.emit(Reloaded{frame_.draining() ? "the pool shuts down" : ""});
}

void Replacements::note_failed_start(std::string why) {
  if (reloaded_ != code_) frame_.emit(Reloaded{std::move(why)});
}

}  // namespace keelback::core
