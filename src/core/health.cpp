#include "core/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "base/check.h"
#include "core/starts.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
using Condition = Worker::Condition;

// After an error the next check comes at once, but not more often than this.
constexpr Duration kErrorChecksEvery = 1s;
constexpr Duration kPauseMin = 1s;
constexpr Duration kPauseMax = 30s;

// The pause after the n-th failure in a row.
Duration pause_after(std::uint32_t failures) {
  return std::min<Duration>(kPauseMin * (1 << std::min(failures - 1, 5U)), kPauseMax);
}

}  // namespace

bool Health::checks() const {
  return announced_ && frame_.settings.workers.health_every > Duration{0};
}

void Health::on(const WorkerChecked& event) {
  Worker* worker = workers_.table().find(event.worker);
  if (!worker || (worker->check != Worker::Check::kRuns && !worker->proving())) return;
  if (event.over) worker->check = Worker::Check::kNone;
  if (!event.healthy) ++frame_.counters.health_failures;
  if (worker->ending()) return;
  Slot& slot = *worker->slot;
  if (worker->proving()) {
    if (!event.healthy && slot.next == worker && slot.current) {
      workers_.kill(*worker, KillCause::kDrained);
      return replacement_failed(slot, event.reason);
    }
    if (!event.over) return;  // the worker that it replaces has died: there is no better one
    workers_.become_ready(*worker);
  } else {
    schedule_check(*worker);
  }
  if (!event.healthy) {
    note_sick(*worker, fmt::format("fails its health check: {}", event.reason));
  } else if (worker->condition == Condition::kSick) {
    worker->condition = Condition::kWell;
    worker->fault.clear();
    frame_.notice(Notice::Level::kInfo, fmt::format("Worker {}.{} passes its health check again.",
                                                    worker->id.slot, worker->id.generation));
  }
  let_serve(*worker);
}

void Health::want_check(Worker& worker) {
  if (worker.check == Worker::Check::kRuns) return;
  worker.check = Worker::Check::kWanted;
  if (worker.serves() && !worker.draining() && !worker.taken()) begin_check(worker);
}

void Health::begin_check(Worker& worker) {
  workers_.occupy(worker);
  worker.check = Worker::Check::kRuns;
  frame_.emit(CheckWorker{worker.id});
}

void Health::check_after_error(Worker& worker) {
  if (!checks() || worker.condition != Condition::kWell || worker.check == Worker::Check::kRuns ||
      frame_.now < worker.error_check_at) {
    return;
  }
  worker.error_check_at = frame_.now + kErrorChecksEvery;
  worker.check = Worker::Check::kWanted;
}

void Health::schedule_check(Worker& worker) {
  worker.check_at = frame_.now + frame_.settings.workers.health_every;
  workers_.arm(worker);
}

void Health::schedule_checks() {
  workers_.table().each([this](Worker& worker) {
    if (!worker.was_ready() || worker.ending()) return;
    if (!checks() && worker.check == Worker::Check::kWanted) worker.check = Worker::Check::kNone;
    schedule_check(worker);
  });
}

void Health::note_sick(Worker& worker, std::string why) {
  const bool news = worker.condition == Condition::kWell;
  if (news) worker.condition = Condition::kSick;
  worker.fault = why;
  if (worker.slot->current != &worker || worker.draining()) return;
  if (news) {
    frame_.notice(Notice::Level::kWarn, fmt::format("Worker {}.{} {}. It is replaced.",
                                                    worker.id.slot, worker.id.generation, why));
  }
  if (!frame_.draining() && !timer_.armed()) withhold(worker);
  advance();
}

void Health::withhold(Worker& worker) {
  worker.condition = Condition::kWithheld;
  workers_.occupy(worker);
}

// It takes calls if nothing is in the way.
void Health::let_serve(Worker& worker) {
  if (worker.running.empty() && worker.busy()) workers_.rest(worker);
  workers_.go_on(worker);
}

void Health::let_all_serve() {
  std::vector<Worker*> withheld;
  workers_.table().each([&](Worker& worker) {
    if (worker.withheld()) withheld.push_back(&worker);
  });
  for (Worker* worker : withheld) {
    worker->condition = Condition::kSick;
    let_serve(*worker);
  }
}

void Health::advance() {
  if (healing_) {
    const Worker* old = healing_->current;
    const bool tried = old && old->healing && old->shown() != WorkerState::kDraining;
    if (healing_->wanted && tried) return;
    healing_ = nullptr;
  }
  if (frame_.draining() || timer_.armed()) return;
  for (const auto& slot : workers_.table().slots()) {
    Worker* worker = slot->current;
    if (!slot->wanted || !worker || worker->condition == Condition::kWell) continue;
    if (worker->ending() || worker->draining()) continue;
    healing_ = slot.get();
    worker->healing = true;
    withhold(*worker);
    return starts_.refill(*slot, Duration{0});
  }
}

void Health::replacement_failed(Slot& slot, std::string_view why) {
  frame_.notice(
      Notice::Level::kError,
      fmt::format("The replacement of worker {}.{} is no better: {}. The old worker serves on.",
                  slot.number, slot.current->id.generation, why));
  slot.current->healing = false;
  if (healing_ == &slot) healing_ = nullptr;
  frame_.timers.arm(timer_, frame_.now + pause_after(++heal_failures_));
  let_all_serve();
}

// Workers that are given up soon after their start, again and again, are replaced at a slower pace.
void Health::replacement_serves(Slot& slot, const Worker& old) {
  if (healing_ != &slot) return;
  healing_ = nullptr;
  heal_failures_ = 0;
  heal_young_ = frame_.now - old.ready_at < CrashLoop::kLived ? heal_young_ + 1 : 0;
  if (heal_young_ <= frame_.settings.pool.size_max()) return;
  frame_.timers.arm(timer_,
                    frame_.now + pause_after(heal_young_ - frame_.settings.pool.size_max()));
  let_all_serve();
}

void Health::announce(bool any) {
  if (std::exchange(announced_, any) != any) schedule_checks();
}

bool Health::prove(Worker& worker) {
  const Slot& slot = *worker.slot;
  if (slot.next != &worker || !slot.current || !checks()) return false;
  if (slot.current->condition == Condition::kWell) return false;
  workers_.table().set(worker, Worker::Proving{});  // it takes over if it is better
  frame_.emit(CheckWorker{worker.id});
  return true;
}

void Health::stop() {
  frame_.timers.disarm(timer_);
  let_all_serve();
}

}  // namespace keelback::core
