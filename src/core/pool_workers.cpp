// The life of workers: started, paced, recycled, drained, killed, replaced. The pool never dies of
// them: whatever a worker does, its slot is filled again.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

// Workers of one slot that may drain at once; with one more the oldest ends with what it has.
constexpr std::uint32_t kDrainingPerSlot = 4;

Death our_death(std::string detail) {
  Death death;
  death.cause = "killed";
  death.detail = std::move(detail);
  return death;
}

}  // namespace

// ---- starting

bool Pool::Impl::start_wanted(const Slot& slot) const {
  if (!slot.wanted || slot.next || drained_ || drain_over_) return false;
  if (draining_ && queue_.waiting() == 0) return false;
  return !slot.current || (slot.current->ready_once && !draining_ &&
                           (slot.current->recycle || slot.current->healing));
}

void Pool::Impl::refill(Slot& slot, Duration pause) {
  if (slot.queued || slot.armed() || !start_wanted(slot)) return;
  if (pause > Duration{0}) return frame_.timers.arm(slot, frame_.now + pause);
  start(slot);
}

void Pool::Impl::start(Slot& slot) {
  if (slot.queued || !start_wanted(slot)) return;
  if (exec_ && workers_.count(WorkerState::kStarting) >= exec_concurrency_) {
    slot.queued = true;
    start_queue_.push_back(&slot);
    return;
  }
  Worker& worker = workers_.make(slot, frame_.now);
  worker.home = &sessions_.make_home(worker.id, &worker);
  worker.calls_max = frame_.settings.workers.max_calls;
  worker.age_max = frame_.settings.workers.max_age;
  worker.code = code_;
  (slot.current ? slot.next : slot.current) = &worker;
  placement_.admit(worker);
  if (slot.died) ++frame_.counters.restarts;
  slot.died = false;
  arm(worker);
  frame_.emit(StartWorker{worker.id});
}

void Pool::Impl::pump_starts() {
  while (!start_queue_.empty() &&
         (!exec_ || workers_.count(WorkerState::kStarting) < exec_concurrency_)) {
    Slot& slot = *start_queue_.front();
    start_queue_.pop_front();
    slot.queued = false;
    start(slot);
  }
}

void Pool::Impl::on(const StartModeChanged& event) {
  exec_ = event.exec;
  exec_concurrency_ = std::max(1U, event.exec_concurrency);
  pump_starts();
}

void Pool::Impl::on(const WorkerReady& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || worker->ready_once || worker->killed || worker->stopping) return;
  if (worker->checking) return;
  const Slot& slot = *worker->slot;
  if (slot.next == worker && slot.current && slot.current->sick && checks_health()) {
    worker->checking = true;  // it takes over if it is better
    return frame_.emit(CheckWorker{worker->id});
  }
  become_ready(*worker);
  offer(*worker);
}

void Pool::Impl::become_ready(Worker& worker) {
  Slot& slot = *worker.slot;
  worker.ready_once = true;
  worker.ready_at = frame_.now;
  if (workers_.count(WorkerState::kReady) + workers_.count(WorkerState::kBusy) == 0) {
    queue_.serves_again(frame_.now);
  }
  workers_.set_state(worker, WorkerState::kReady);
  slot.start_failed = false;
  start_failure_.reset();
  loaded_ = true;
  if (slot.next == &worker) {
    slot.next = nullptr;
    if (Worker* old = std::exchange(slot.current, &worker)) {
      drain_worker(*old);
      replacement_serves(slot, *old);
    }
  }
  schedule_check(worker);
  if (worker.recycle) refill(slot, Duration{0});
  refresh_readiness();
  pump_starts();
  advance_healing();
  finish_reload();
}

// ---- ending

void Pool::Impl::on(const DeathOrdered& event) {
  if (Worker* worker = workers_.find(event.worker)) worker->blameless = true;
}

void Pool::Impl::on(const WorkerExited& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker) return;
  Slot& slot = *worker->slot;
  const bool current = slot.current == worker || slot.next == worker;
  const bool on_its_own = !worker->stopping && !worker->killed;
  auto death = std::make_shared<const Death>(event.death);
  Duration pause{0};
  const bool failed = on_its_own || worker->cause == EndCause::kStartTimeout;
  if (!worker->ready_once && failed) {
    slot.start_failed = true;
    start_failure_ = death;
    frame_.notice(Notice::Level::kError,
                  fmt::format("Worker {}.{} did not start: {}.", worker->id.slot,
                              worker->id.generation, describe(*death)));
    if (reloaded_ != code_) {
      frame_.emit(Reloaded{fmt::format("worker {}.{} did not start: {}", worker->id.slot,
                                       worker->id.generation, describe(*death))});
    }
    if (slot.next == worker && slot.current && slot.current->healing) {
      replacement_failed(slot, describe(*death));
    }
  }
  if (worker->ready_once && on_its_own) last_exit_ = death;
  if (current && failed) {
    slot.died = true;
    pause = crash_loop_.after_exit(
        frame_.now,
        {worker->ready_once, worker->ready_once ? frame_.now - worker->ready_at : Duration{0}},
        slot.streak, frame_.settings.pool.workers, frame_.prng);
  }
  slot.died |= current;
  placement_.withdraw(*worker);
  const std::uint64_t lost_before = frame_.counters.lost;
  const bool had_call = worker->running != nullptr;
  if (Call* call = worker->running) {
    if (event.fingerprint != 0) call->fingerprint = event.fingerprint;
    settle_after_death(*worker, *call, event.started == call->id, death);
  }
  drop_home(*worker, death);
  const std::uint64_t lost = frame_.counters.lost - lost_before;
  if (worker->ready_once && (on_its_own || lost > 0)) {
    frame_.notice(Notice::Level::kWarn,
                  fmt::format("Worker {}.{} ended{} with {}; sessions lost: {}.", worker->id.slot,
                              worker->id.generation, had_call ? " during a call" : "",
                              describe(*death), lost));
  }
  remove(*worker, pause);
}

// The record goes, and its slot is seen to. Requires: no call, no sessions.
void Pool::Impl::remove(Worker& worker, Duration pause) {
  Slot& slot = *worker.slot;
  if (slot.next == &worker) slot.next = nullptr;
  if (slot.current == &worker) slot.current = std::exchange(slot.next, nullptr);
  frame_.timers.disarm(worker);
  workers_.erase(worker);
  refill(slot, pause);
  pump_starts();
  refresh_readiness();
  advance_healing();
  finish_reload();
}

void Pool::Impl::kill(Worker& worker, EndCause cause) {
  if (worker.killed) return;
  worker.killed = true;
  worker.cause = cause;
  worker.ending_since = frame_.now;
  placement_.withdraw(worker);
  if (worker.ready_once && worker.state != WorkerState::kSuspect) {
    workers_.set_state(worker, WorkerState::kDraining);
  }
  arm(worker);
  frame_.emit(KillWorker{worker.id});
  if (worker.home) hold_heads(worker);
}

// Heads of its sessions that others could have served wait with it from now on.
void Pool::Impl::hold_heads(Worker& worker) {
  for (Session& session : worker.home->active) {
    if (session.lane->waiting.empty()) continue;
    Call& head = session.lane->waiting.front();
    if (head.queue != &queue_.shared()) continue;
    unqueue(head);
    queue_.enqueue(worker.queue, head);
  }
}

void Pool::Impl::stop(Worker& worker) {
  if (worker.stopping || worker.killed) return;
  CHECK(!worker.running);
  worker.stopping = true;
  worker.cause = EndCause::kDrained;
  worker.ending_since = frame_.now;
  workers_.set_state(worker, WorkerState::kDraining);
  drop_home(worker, std::make_shared<const Death>(our_death("its worker was drained")));
  arm(worker);
  frame_.emit(StopWorker{worker.id});
}

void Pool::Impl::abandon(Worker& worker) {
  ++frame_.counters.abandoned;
  Death death;
  death.cause = "abandoned";
  death.detail = "the killed process would not go";
  auto shared = std::make_shared<const Death>(std::move(death));
  frame_.emit(AbandonWorker{worker.id});
  frame_.notice(Notice::Level::kError,
                fmt::format("Worker {}.{} did not go when it was killed; it is given up.",
                            worker.id.slot, worker.id.generation));
  Slot& slot = *worker.slot;
  slot.died |= slot.current == &worker;
  if (Call* call = worker.running) settle_after_death(worker, *call, true, shared);
  drop_home(worker, std::move(shared));
  remove(worker, Duration{0});
}

// ---- time

void Pool::Impl::arm(Worker& worker) {
  if (worker.killed) {
    return frame_.timers.arm(worker, worker.ending_since + frame_.settings.workers.kill_timeout);
  }
  if (worker.stopping) {
    return frame_.timers.arm(worker, worker.ending_since + frame_.settings.calls.grace);
  }
  if (worker.state == WorkerState::kStarting) {
    return frame_.timers.arm(worker, worker.started + frame_.settings.workers.start_timeout);
  }
  if (worker.state == WorkerState::kDraining) {
    return frame_.timers.arm(worker, worker.drain_since + frame_.settings.workers.drain_timeout);
  }
  std::optional<Time> due;
  if (worker.age_max > Duration{0} && !worker.recycle) due = worker.started + worker.age_max;
  if (checks_health() && !worker.check_wanted && !worker.checking) {
    due = due ? std::min(*due, worker.check_at) : worker.check_at;
  }
  if (due) return frame_.timers.arm(worker, *due);
  frame_.timers.disarm(worker);
}

void Pool::Impl::worker_due(Worker& worker) {
  if (worker.killed) return abandon(worker);
  if (worker.stopping) return kill(worker, EndCause::kDrained);
  if (worker.state == WorkerState::kStarting) return kill(worker, EndCause::kStartTimeout);
  if (worker.state == WorkerState::kDraining) return end_drain(worker);
  if (worker.age_max > Duration{0} && frame_.now >= worker.started + worker.age_max)
    recycle(worker);
  if (checks_health() && frame_.now >= worker.check_at) want_check(worker);
  arm(worker);
}

// The drain has taken its time: what is left ends.
void Pool::Impl::end_drain(Worker& worker) {
  if (worker.running || worker.saves > 0) return kill(worker, EndCause::kDrained);
  stop(worker);
}

// ---- replacing

// A worker that still starts is replaced once it is ready.
void Pool::Impl::recycle(Worker& worker) {
  if (worker.recycle || worker.slot->current != &worker) return;
  worker.recycle = true;
  arm(worker);
  refill(*worker.slot, Duration{0});
}

// The call was broken off, so its worker serves no other.
bool Pool::Impl::costs_worker(const Call& call, const WorkerReplied& event) const {
  if (call.function->spec.interruptible) return false;
  switch (frame_.settings.calls.after_interrupt) {
    case AfterInterrupt::kReplace:
      return event.interrupted;
    case AfterInterrupt::kReplaceCancelled:
      return event.interrupted || event.kind == ReplyKind::kCancelled;
    case AfterInterrupt::kKeep:
      return false;
  }
  return false;
}

// Its code was interrupted at an arbitrary line, so it serves no stateless call any more: its
// replacement starts now and the worker drains. A replacement that is started by exec imports the
// whole application first; until then the worker serves.
void Pool::Impl::replace_interrupted(Worker& worker) {
  Slot& slot = *worker.slot;
  if (worker.stopping || worker.killed || slot.current != &worker) return;
  if (exec_) return recycle(worker);
  std::uint32_t draining = 0;
  Worker* oldest = nullptr;
  workers_.each([&](Worker& other) {
    if (other.slot != &slot || other.state != WorkerState::kDraining) return;
    ++draining;
    if (!oldest && !other.stopping && !other.killed) oldest = &other;
  });
  if (draining >= kDrainingPerSlot && oldest) end_drain(*oldest);
  worker.recycle = true;
  slot.current = std::exchange(slot.next, nullptr);
  drain_worker(worker);
  refill(slot, Duration{0});
}

void Pool::Impl::on(const RecycleRequested& event) {
  Slot* slot = workers_.slot(event.slot);
  if (slot && slot->current) recycle(*slot->current);
}

// A worker that still starts has the old code and serves nobody yet: it makes room at once.
void Pool::Impl::on(const ReloadRequested&) {
  ++code_;
  std::vector<Worker*> old;
  workers_.each([&](Worker& worker) {
    const Slot& slot = *worker.slot;
    if (slot.current == &worker || slot.next == &worker) old.push_back(&worker);
  });
  for (Worker* worker : old) {
    if (worker->ready_once) {
      recycle(*worker);
    } else {
      kill(*worker, EndCause::kDrained);
    }
  }
  finish_reload();
}

bool Pool::Impl::serves_old_code() const {
  bool found = false;
  workers_.each([&](const Worker& worker) {
    found |= worker.code != code_ && worker.state != WorkerState::kDraining && !worker.killed;
  });
  return found;
}

void Pool::Impl::finish_reload() {
  if (reloaded_ == code_ || (!draining_ && serves_old_code())) return;
  reloaded_ = code_;
  frame_.emit(Reloaded{draining_ ? "the pool shuts down" : ""});
}

void Pool::Impl::drain_worker(Worker& worker) {
  if (worker.stopping || worker.killed) return;
  placement_.withdraw(worker);
  workers_.set_state(worker, WorkerState::kDraining);
  worker.drain_since = frame_.now;
  worker.withheld = worker.check_wanted = worker.healing = false;
  arm(worker);
  evacuate(worker);
  maybe_stop(worker);
}

void Pool::Impl::maybe_stop(Worker& worker) {
  if (worker.state != WorkerState::kDraining || worker.stopping || worker.killed) return;
  if (worker.running || worker.saves > 0) return;
  const Home* home = worker.home;
  if (!home || worker.sessions() == home->safe.size()) return stop(worker);
  // The pool shuts down: what cannot be saved need not be waited for.
  if (draining_ && calls_.empty() && (!may_save() || home->idle.empty())) stop(worker);
}

// ---- readiness

void Pool::Impl::refresh_readiness() {
  const bool was = std::exchange(not_ready_, false);
  if (!start_failure_ || workers_.up() > 0 || draining_) return;
  for (const auto& slot : workers_.slots()) {
    if (slot->wanted && !slot->start_failed) return;  // it may yet come up
  }
  not_ready_ = true;
  if (was) return;
  for (const CallId id : calls_in_order()) {
    Call* call = find_waiting(id);
    if (!call) continue;
    Refusal refusal = not_ready();
    Ending ending;
    ending.kind = refusal.kind;
    ending.message = std::move(refusal.message);
    ending.retry_after = refusal.retry_after;
    ending.death = std::move(refusal.death);
    end_waiting(*call, std::move(ending));
  }
}

Refusal Pool::Impl::not_ready() const {
  const auto next = next_start();
  const Duration retry = next ? std::max(*next - frame_.now, Duration{std::chrono::milliseconds(1)})
                              : queue_.retry_after(0);
  return Refusal{
      OutcomeKind::kNotReady,
      fmt::format("No worker is up: the last one ended with {}.", describe(*start_failure_)), retry,
      start_failure_};
}

}  // namespace keelback::core
