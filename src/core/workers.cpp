#include "core/workers.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/calls.h"
#include "core/health.h"
#include "core/readiness.h"
#include "core/replacements.h"
#include "core/runs.h"
#include "core/sessions.h"
#include "core/snapshots.h"
#include "core/starts.h"
#include "core/waiting.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

Death our_death(std::string detail) {
  Death death;
  death.cause = "killed";
  death.detail = std::move(detail);
  return death;
}

}  // namespace

void Workers::on(const WorkerReady& event) {
  Worker* worker = table_.find(event.worker);
  if (!worker || !worker->in<Worker::Starting>() || others_.health.prove(*worker)) return;
  become_ready(*worker);
  others_.waiting.offer(*worker);
}

void Workers::become_ready(Worker& worker) {
  Slot& slot = *worker.slot;
  worker.ready_at = frame_.now;
  if (table_.count(WorkerState::kReady) + table_.count(WorkerState::kBusy) == 0) {
    others_.waiting.queue().serves_again(frame_.now);
  }
  table_.set(worker, Worker::Ready{});
  slot.start_failed = false;
  others_.readiness.note_ready();
  if (slot.next == &worker) {
    slot.next = nullptr;
    if (Worker* old = std::exchange(slot.current, &worker)) {
      drain(*old);
      others_.health.replacement_serves(slot, *old);
    }
  }
  others_.health.schedule_check(worker);
  if (worker.recycle) others_.starts.refill(slot, Duration{0});
  others_.readiness.refresh();
  others_.starts.pump();
  others_.health.advance();
  others_.replacements.finish_reload();
}

void Workers::occupy(Worker& worker) {
  others_.waiting.placement().set_busy(worker);
  if (worker.ready()) table_.set(worker, Worker::Busy{});
}

void Workers::go_on(Worker& worker) {
  if (worker.spare && worker.draining() && worker.saves == 0 &&
      (worker.slot->wanted || !others_.snapshots.may_clear(worker))) {
    return stay(worker);
  }
  others_.snapshots.evacuate(worker);
  others_.waiting.offer(worker);
  maybe_stop(worker);
  end_doomed(worker);
}

void Workers::on(const WorkerExited& event) {
  Worker* worker = table_.find(event.worker);
  if (!worker) return;
  Slot& slot = *worker->slot;
  const bool current = slot.current == worker || slot.next == worker;
  const bool on_its_own = !worker->ending();
  const bool was_ready = worker->was_ready();
  const auto* killed = worker->in<Worker::Killed>();
  auto death = std::make_shared<const Death>(event.death);
  Duration pause{0};
  const bool failed = on_its_own || (killed && killed->cause == KillCause::kStartTimeout);
  if (!was_ready && failed) note_failed_start(*worker, death);
  if (was_ready && on_its_own) others_.readiness.note_exit(death);
  if (current && failed) {
    slot.died = slot.wanted;
    pause = others_.starts.pause_after(*worker);
  }
  slot.died |= current && slot.wanted;
  others_.waiting.withdraw(*worker);
  const std::uint64_t lost_before = frame_.counters.lost;
  const bool had_call = !worker->running.empty();
  others_.runs.settle_deaths(*worker, event, death);
  others_.sessions.drop_home(*worker, death);
  const std::uint64_t lost = frame_.counters.lost - lost_before;
  if (was_ready && (on_its_own || lost > 0)) {
    frame_.notice(Notice::Level::kWarn,
                  fmt::format("Worker {}.{} ended{} with {}; sessions lost: {}.", worker->id.slot,
                              worker->id.generation, had_call ? " during a call" : "",
                              describe(*death), lost));
  }
  remove(*worker, pause);
}

void Workers::on(const DeathOrdered& event) {
  if (Worker* worker = table_.find(event.worker)) worker->blameless = true;
}

void Workers::suspect(Worker& worker) {
  if (worker.busy()) table_.set(worker, Worker::Suspect{});
}

void Workers::rest(Worker& worker) {
  if (!worker.running.empty() || (!worker.suspect() && !worker.busy())) return;
  if (worker.check == Worker::Check::kRuns || worker.withheld()) {
    table_.set(worker, Worker::Busy{});
  } else {
    table_.set(worker, Worker::Ready{});
  }
}

// ---- how it ends

void Workers::note_failed_start(Worker& worker, const DeathPtr& death) {
  Slot& slot = *worker.slot;
  const std::string why = fmt::format("{}.{} did not start: {}", worker.id.slot,
                                      worker.id.generation, describe(*death));
  slot.start_failed = true;
  others_.readiness.note_failed_start(death);
  frame_.notice(Notice::Level::kError, "Worker " + why + ".");
  others_.replacements.note_failed_start("worker " + why);
  if (slot.next == &worker && slot.current && slot.current->healing) {
    others_.health.replacement_failed(slot, describe(*death));
  }
}

void Workers::leave(Worker& worker) {
  others_.snapshots.evacuate(worker);
  maybe_stop(worker);
}

// The record goes, and its slot is seen to. Requires: no call, no sessions.
void Workers::remove(Worker& worker, Duration pause) {
  Slot& slot = *worker.slot;
  if (slot.next == &worker) slot.next = nullptr;
  if (slot.current == &worker) slot.current = std::exchange(slot.next, nullptr);
  frame_.timers.disarm(worker);
  table_.erase(worker);
  others_.starts.refill(slot, pause);
  others_.starts.pump();
  others_.readiness.refresh();
  others_.health.advance();
  others_.replacements.finish_reload();
}

void Workers::drain(Worker& worker, bool spare) {
  if (worker.ending()) return;
  worker.spare = spare;
  others_.waiting.withdraw(worker);
  table_.set(worker, Worker::Draining{frame_.now});
  worker.condition = std::min(worker.condition, Worker::Condition::kSick);
  worker.healing = false;
  if (worker.check == Worker::Check::kWanted) worker.check = Worker::Check::kNone;
  arm(worker);
  go_on(worker);  // it may have been withheld
}

void Workers::maybe_stop(Worker& worker) {
  if (!worker.draining() || !worker.running.empty() || worker.saves > 0) return;
  if (worker.spare && worker.slot->wanted) return;
  const Home* home = worker.home;
  if (!home || worker.sessions() == home->safe.size()) return stop(worker);
  // The pool shuts down: what cannot be saved need not be waited for.
  if (frame_.draining() && others_.calls.empty() &&
      (!others_.snapshots.may_save() || home->idle.empty())) {
    stop(worker);
  }
}

void Workers::end_drain(Worker& worker) {
  if (!worker.running.empty() || worker.saves > 0) return kill(worker, KillCause::kDrained);
  stop(worker);
}

void Workers::end_doomed(Worker& worker) {
  if (!worker.doomed || worker.ending() || worker.running.empty() || worker.saves > 0) return;
  if (std::ranges::all_of(worker.running, Runs::is_over)) kill(worker, KillCause::kTimeout);
}

void Workers::stop(Worker& worker) {
  if (worker.ending()) return;
  CHECK(worker.running.empty());
  if (worker.spare && worker.slot->current == &worker) worker.slot->current = nullptr;
  table_.set(worker, Worker::Stopping{frame_.now});
  others_.sessions.drop_home(worker,
                             std::make_shared<const Death>(our_death("its worker was drained")));
  arm(worker);
  frame_.emit(StopWorker{worker.id});
}

void Workers::kill(Worker& worker, KillCause cause) {
  if (worker.killed()) return;
  others_.waiting.withdraw(worker);
  const WorkerState shown = !worker.was_ready() ? WorkerState::kStarting
                            : worker.suspect()  ? WorkerState::kSuspect
                                                : WorkerState::kDraining;
  table_.set(worker, Worker::Killed{frame_.now, cause, shown});
  arm(worker);
  frame_.emit(KillWorker{worker.id});
  if (worker.home) others_.waiting.hold_heads(worker);
}

void Workers::abandon(Worker& worker) {
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
  slot.died |= slot.current == &worker && slot.wanted;
  WorkerExited exit{worker.id, *shared, {}};
  for (const Call& call : worker.running) exit.started.push_back({call.id});
  others_.runs.settle_deaths(worker, exit, shared);
  others_.sessions.drop_home(worker, std::move(shared));
  remove(worker, Duration{0});
}

// Of a pool that keeps no worker: nobody else would say so. A worker is tried until it starts.
void Workers::on(const LoadFailed& event) {
  if (frame_.draining() || table_.wanted() > 0) return;
  Slot* slot = table_.slot(1);
  if (!slot) return;
  auto death = std::make_shared<const Death>(event.death);
  frame_.notice(Notice::Level::kError,
                fmt::format("The application cannot be loaded: {}.", describe(*death)));
  slot->start_failed = true;
  slot->wanted = true;
  others_.readiness.note_failed_load(death);
  others_.starts.refill(*slot, others_.starts.pause_after_failure(*slot));
  others_.readiness.refresh();
}

// ---- time

void Workers::arm(Worker& worker) {
  if (const std::optional<Time> due = next_due(worker)) return frame_.timers.arm(worker, *due);
  frame_.timers.disarm(worker);
}

std::optional<Time> Workers::next_due(const Worker& worker) const {
  const auto& settings = frame_.settings;
  if (const auto* killed = worker.in<Worker::Killed>()) {
    return killed->since + settings.workers.kill_timeout;
  }
  if (const auto* stopping = worker.in<Worker::Stopping>()) {
    return stopping->since + settings.calls.grace;
  }
  if (const auto* draining = worker.in<Worker::Draining>()) {
    if (worker.spare) return std::nullopt;
    return draining->since + settings.workers.drain_timeout;
  }
  if (!worker.was_ready()) return worker.started + settings.workers.start_timeout;
  std::optional<Time> due;
  if (worker.age_max > Duration{0} && !worker.recycle) due = worker.started + worker.age_max;
  if (others_.health.checks() && worker.check == Worker::Check::kNone) {
    due = due ? std::min(*due, worker.check_at) : worker.check_at;
  }
  return due;
}

void Workers::due(Worker& worker) {
  if (worker.killed()) return abandon(worker);
  if (worker.in<Worker::Stopping>()) return kill(worker, KillCause::kDrained);
  if (worker.draining()) return end_drain(worker);
  if (!worker.was_ready()) return kill(worker, KillCause::kStartTimeout);
  if (worker.age_max > Duration{0} && frame_.now >= worker.started + worker.age_max) {
    others_.replacements.recycle(worker);
  }
  if (others_.health.checks() && frame_.now >= worker.check_at) others_.health.want_check(worker);
  arm(worker);
}

// ---- how many there are

void Workers::resize(std::uint32_t workers) {
  table_.resize(workers);
  for (const auto& slot : table_.slots()) slot->wanted ? want(*slot) : drop(*slot);
}

void Workers::limit(std::uint32_t slots) {
  table_.add_slots(slots);
  for (const auto& slot : table_.slots()) {
    if (slot->number > slots) drop(*slot);
  }
}

void Workers::want(Slot& slot) {
  slot.wanted = true;
  if (slot.current && slot.current->spare) return go_on(*slot.current);
  others_.starts.refill(slot, Duration{0});
}

void Workers::drop(Slot& slot) {
  slot.wanted = false;
  others_.starts.end_pause(slot);
  if (Worker* next = std::exchange(slot.next, nullptr)) kill(*next, KillCause::kDrained);
  if (Worker* worker = std::exchange(slot.current, nullptr)) {
    if (worker->was_ready()) {
      drain(*worker);
    } else {
      kill(*worker, KillCause::kDrained);
    }
  }
}

// It was to leave, but might have stayed: now it will leave.
void Workers::let_go(Worker& worker) {
  Slot& slot = *worker.slot;
  slot.current = nullptr;
  drain(worker);
  others_.starts.refill(slot, Duration{0});
}

void Workers::grow(std::uint32_t workers) {
  std::uint32_t there = table_.wanted();
  const auto fill = [&](auto suits) {
    for (const auto& slot : table_.slots()) {
      if (there >= workers || slot->number > frame_.settings.pool.size_max()) return;
      if (slot->wanted || !suits(*slot)) continue;
      want(*slot);
      ++there;
    }
  };
  fill([](const Slot& slot) { return slot.current && slot.current->spare; });
  fill([](const Slot& slot) { return !slot.current; });
  fill([](const Slot&) { return true; });  // one that ends is still there
  others_.readiness.refresh();
}

void Workers::give_up(Slot& slot) {
  if (!slot.current || !slot.current->was_ready()) {
    drop(slot);
  } else {
    slot.wanted = false;
    drain(*slot.current, /*spare=*/true);
  }
  others_.readiness.refresh();
}

// It drained because it was not needed; now it is, or its sessions cannot be saved. Requires:
// nothing is asked of it.
void Workers::stay(Worker& worker) {
  CHECK(worker.saves == 0 && worker.slot->current == &worker);
  worker.spare = false;
  worker.slot->wanted = true;
  table_.set(worker, Worker::Busy{});
  others_.waiting.placement().admit(worker);
  if (!worker.running.empty() && !worker.taken()) others_.waiting.placement().set_sharing(worker);
  if (worker.taken() && Runs::is_pressed(worker.running.front())) suspect(worker);
  rest(worker);
  arm(worker);
  if (worker.calls_max > 0 && worker.calls >= worker.calls_max)
    others_.replacements.recycle(worker);
  others_.readiness.refresh();
  others_.health.advance();
  others_.waiting.offer(worker);
}

}  // namespace keelback::core
