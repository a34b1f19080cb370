// Workers that live and are broken: how the pool hears of it, and how it replaces them. One
// replacement is tried at a time. Until it has been, the workers that are known to be broken take
// no calls. If it fails too, they serve on: the fault is not theirs alone.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// After an error the next check comes at once, but not more often than this.
constexpr Duration kErrorChecksEvery = 1s;
constexpr Duration kPauseMin = 1s;
constexpr Duration kPauseMax = 30s;

// The pause after the n-th failure in a row.
Duration pause_after(std::uint32_t failures) {
  return std::min<Duration>(kPauseMin * (1 << std::min(failures - 1, 5U)), kPauseMax);
}

}  // namespace

bool Pool::Impl::checks_health() const {
  return has_health_ && frame_.settings.workers.health_every > Duration{0};
}

// ---- asking

void Pool::Impl::want_check(Worker& worker) {
  worker.check_wanted = true;
  if (worker.state == WorkerState::kReady && worker.free()) begin_check(worker);
}

void Pool::Impl::begin_check(Worker& worker) {
  occupy(worker);
  worker.check_wanted = false;
  worker.checking = true;
  frame_.emit(CheckWorker{worker.id});
}

void Pool::Impl::check_after_error(Worker& worker) {
  if (!checks_health() || worker.sick || frame_.now < worker.error_check_at) return;
  worker.error_check_at = frame_.now + kErrorChecksEvery;
  worker.check_wanted = true;
}

void Pool::Impl::schedule_check(Worker& worker) {
  worker.check_at = frame_.now + frame_.settings.workers.health_every;
  arm(worker);
}

// The setting or the application has changed.
void Pool::Impl::schedule_checks() {
  workers_.each([this](Worker& worker) {
    if (!worker.ready_once || worker.stopping || worker.killed) return;
    if (!checks_health()) worker.check_wanted = false;
    schedule_check(worker);
  });
}

void Pool::Impl::on(const WorkerChecked& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->checking) return;
  if (event.over) worker->checking = false;
  if (!event.healthy) ++frame_.counters.health_failures;
  Slot& slot = *worker->slot;
  if (!worker->ready_once) {  // a replacement that has to prove itself
    if (!event.healthy && slot.next == worker && slot.current) {
      kill(*worker, EndCause::kDrained);
      return replacement_failed(slot, event.reason);
    }
    if (!event.over) return;  // the worker that it replaces has died: there is no better one
    become_ready(*worker);
  } else if (worker->killed || worker->stopping) {
    return;
  } else {
    schedule_check(*worker);
  }
  if (!event.healthy) {
    note_sick(*worker, fmt::format("fails its health check: {}", event.reason));
  } else if (worker->sick && !worker->withheld) {
    worker->sick.reset();
    frame_.notice(Notice::Level::kInfo, fmt::format("Worker {}.{} passes its health check again.",
                                                    worker->id.slot, worker->id.generation));
  }
  let_serve(*worker);
}

// ---- replacing

void Pool::Impl::note_sick(Worker& worker, std::string why) {
  const bool news = !worker.sick;
  worker.sick = why;
  if (worker.slot->current != &worker || worker.state == WorkerState::kDraining) return;
  if (news) {
    frame_.notice(Notice::Level::kWarn, fmt::format("Worker {}.{} {}. It is replaced.",
                                                    worker.id.slot, worker.id.generation, why));
  }
  if (!draining_ && !heal_timer_.armed()) withhold(worker);
  advance_healing();
}

void Pool::Impl::withhold(Worker& worker) {
  worker.withheld = true;
  occupy(worker);
}

// It takes calls if nothing is in the way.
void Pool::Impl::let_serve(Worker& worker) {
  if (!worker.running && worker.state == WorkerState::kBusy) {
    workers_.set_state(worker, worker.at_rest());
  }
  leave_worker(worker);
}

void Pool::Impl::let_all_serve() {
  std::vector<Worker*> withheld;
  workers_.each([&](Worker& worker) {
    if (worker.withheld) withheld.push_back(&worker);
  });
  for (Worker* worker : withheld) {
    worker->withheld = false;
    let_serve(*worker);
  }
}

void Pool::Impl::advance_healing() {
  if (healing_) {
    const Worker* old = healing_->current;
    if (healing_->wanted && old && old->healing && old->state != WorkerState::kDraining) return;
    healing_ = nullptr;
  }
  if (draining_ || heal_timer_.armed()) return;
  for (const auto& slot : workers_.slots()) {
    Worker* worker = slot->current;
    if (!slot->wanted || !worker || !worker->sick || worker->killed || worker->stopping ||
        worker->state == WorkerState::kDraining) {
      continue;
    }
    healing_ = slot.get();
    worker->healing = true;
    withhold(*worker);
    return refill(*slot, Duration{0});
  }
}

void Pool::Impl::replacement_failed(Slot& slot, std::string_view why) {
  frame_.notice(
      Notice::Level::kError,
      fmt::format("The replacement of worker {}.{} is no better: {}. The old worker serves on.",
                  slot.number, slot.current->id.generation, why));
  slot.current->healing = false;
  if (healing_ == &slot) healing_ = nullptr;
  frame_.timers.arm(heal_timer_, frame_.now + pause_after(++heal_failures_));
  let_all_serve();
}

// Workers that are given up soon after their start, again and again, are replaced at a slower pace.
void Pool::Impl::replacement_serves(Slot& slot, const Worker& old) {
  if (healing_ != &slot) return;
  healing_ = nullptr;
  heal_failures_ = 0;
  heal_young_ = frame_.now - old.ready_at < CrashLoop::kLived ? heal_young_ + 1 : 0;
  if (heal_young_ <= frame_.settings.pool.workers) return;
  frame_.timers.arm(heal_timer_,
                    frame_.now + pause_after(heal_young_ - frame_.settings.pool.workers));
  let_all_serve();
}

}  // namespace keelback::core
