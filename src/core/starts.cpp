#include "core/starts.h"

#include <algorithm>

#include "core/replacements.h"
#include "core/sessions.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {

void Starts::on(const StartModeChanged& event) {
  exec_ = event.exec;
  exec_concurrency_ = std::max(1U, event.exec_concurrency);
  pump();
}

bool Starts::wanted(const Slot& slot) const {
  if (!slot.wanted || slot.next || frame_.phase >= Phase::kOverdue) return false;
  if (frame_.draining() && waiting_.queue().waiting() == 0) return false;
  const Worker* current = slot.current;
  if (!current) return true;
  const bool replaced = current->recycle || current->healing;
  return replaced && current->was_ready() && !frame_.draining();
}

void Starts::refill(Slot& slot, Duration pause) {
  if (slot.awaits != Slot::Awaits::kNothing || !wanted(slot)) return;
  if (pause <= Duration{0}) return start(slot);
  slot.awaits = Slot::Awaits::kPause;
  frame_.timers.arm(slot, frame_.now + pause);
}

void Starts::start(Slot& slot) {
  if (!wanted(slot)) return;
  if (!has_place()) {
    slot.awaits = Slot::Awaits::kPlace;
    line_.push_back(&slot);
    return;
  }
  Worker& worker = workers_.table().make(slot, frame_.now);
  worker.home = &sessions_.table().make_home(worker.id, &worker);
  worker.calls_max = frame_.settings.workers.max_calls;
  worker.age_max = frame_.settings.workers.max_age;
  worker.code = replacements_.code();
  (slot.current ? slot.next : slot.current) = &worker;
  waiting_.placement().admit(worker);
  if (slot.died) ++frame_.counters.restarts;
  slot.died = false;
  workers_.arm(worker);
  frame_.emit(StartWorker{worker.id});
}

void Starts::pump() {
  while (!line_.empty() && has_place()) {
    Slot& slot = *line_.front();
    line_.pop_front();
    slot.awaits = Slot::Awaits::kNothing;
    start(slot);
  }
}

std::optional<Time> Starts::next() const {
  std::optional<Time> next;
  for (const auto& slot : workers_.table().slots()) {
    if (slot->armed()) next = next ? std::min(*next, slot->due) : slot->due;
  }
  return next;
}

bool Starts::has_place() const {
  return !exec_ || workers_.table().count(WorkerState::kStarting) < exec_concurrency_;
}

Duration Starts::pause_after(const Worker& worker) {
  const Duration ready_for = worker.was_ready() ? frame_.now - worker.ready_at : Duration{0};
  return crash_loop_.after_exit(frame_.now, {worker.was_ready(), ready_for}, worker.slot->streak,
                                frame_.settings.pool.size_max(), frame_.prng);
}

Duration Starts::pause_after_failure(Slot& slot) {
  return crash_loop_.after_exit(frame_.now, {}, slot.streak, frame_.settings.pool.size_max(),
                                frame_.prng);
}

void Starts::due(Slot& slot) {
  slot.awaits = Slot::Awaits::kNothing;
  start(slot);
}

void Starts::end_pause(Slot& slot) {
  if (slot.awaits != Slot::Awaits::kPause) return;
  slot.awaits = Slot::Awaits::kNothing;
  frame_.timers.disarm(slot);
}

void Starts::drop_unwanted() {
  for (const auto& slot : workers_.table().slots()) {
    if (!wanted(*slot)) end_pause(*slot);
  }
}

void Starts::drop_all() {
  for (const auto& slot : workers_.table().slots()) end_pause(*slot);
}

}  // namespace keelback::core
