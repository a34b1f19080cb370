#include "core/scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/calls.h"
#include "core/readiness.h"
#include "core/snapshots.h"
#include "core/starts.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// A look at the load costs a step for each worker.
constexpr Duration kLookEvery = 1ms;

// It takes calls, or will when those that it runs have ended.
bool in_service(const Worker& worker) {
  return worker.was_ready() && !worker.ending() && !worker.draining() && !worker.withheld() &&
         !worker.doomed;
}

// How many calls like this one a worker can run at once.
std::uint32_t beside(const Function& function, std::uint32_t capacity) {
  return function.shared() ? std::max(1U, std::min(function.spec.concurrency, capacity)) : 1U;
}

// How long a call holds its place, where a worker has so many for calls like it; 0: nobody knows.
// Of calls that go in batches one stands in the queue for all that are alike, and holds the worker
// as long as the batch.
Duration place_time(const Function& function, std::uint64_t places) {
  if (function.batches()) return function.batch_run;
  return function.service * static_cast<Duration::rep>(places);
}

// How many calls like this one fill its worker. A batch does, however small it is.
std::uint64_t places_for(const Call& call, const Worker& worker) {
  if (call.batch > 0) return worker.running.size();
  return call.alone ? 1 : beside(*call.function, worker.capacity);
}

}  // namespace

void Scaling::configure() {
  const auto& pool = frame_.settings.pool;
  const bool first = !std::exchange(begun_, true);
  waiting_.placement().set_packing(pool.scales());
  if (!pool.scales()) {
    scaler_.reset();
    frame_.timers.disarm(timer_);
    return workers_.resize(pool.workers);
  }
  // Nobody but a worker can tell whether the application loads, if there is no zygote.
  const std::uint32_t least = std::max(pool.workers, starts_.exec() ? 1U : 0U);
  const Scaler::Limits limits = {least, pool.workers_max, pool.scale_up_delay,
                                 pool.scale_down_after};
  const std::uint32_t there = first ? 0 : workers_.table().wanted();
  workers_.limit(pool.workers_max);
  if (scaler_) {
    scaler_->set_limits(frame_.now, limits);
  } else {
    scaler_.emplace(frame_.now, limits);
    scaler_->adopt(frame_.now, there);
  }
  look();
}

void Scaling::note(bool quiet) {
  if (frame_.draining() || (quiet && queued() == queued_)) return;
  const bool nobody = scaler_->wanted() == 0 && queued() > 0;
  if (frame_.now >= look_at_ || nobody) return look();
  if (!timer_.armed() || timer_.due > look_at_) frame_.timers.arm(timer_, look_at_);
}

void Scaling::look() {
  if (frame_.draining()) return;
  look_at_ = frame_.now + kLookEvery;
  queued_ = queued();
  scaler_->look(frame_.now, measure());
  const std::uint32_t wanted = scaler_->wanted();
  std::uint32_t there = workers_.table().wanted();
  if (there < wanted) workers_.grow(wanted);
  if (there > wanted && frame_.now >= leave_at_) {
    if (Slot* slot = first_to_go()) workers_.give_up(*slot);
    leave_at_ = frame_.now + Scaler::kLeaveEvery;
    there = workers_.table().wanted();
  }
  std::optional<Time> next = scaler_->next();
  if (there > wanted) next = next ? std::min(*next, leave_at_) : leave_at_;
  if (next) {
    frame_.timers.arm(timer_, std::max(*next, frame_.now));
  } else {
    frame_.timers.disarm(timer_);
  }
}

// Of the highest slots: one that is not filled, or is about to be, before an idle worker, and that
// before one that runs something. Not a worker that is being replaced.
Slot* Scaling::first_to_go() const {
  constexpr int kNever = 3;
  const auto rank = [this](const Slot& slot) {
    const Worker* worker = slot.current;
    if (!worker) return 0;
    if (slot.next || worker->recycle || worker->healing || worker->ending()) return kNever;
    if (!worker->was_ready()) return 0;
    if (!snapshots_.may_clear(*worker)) return kNever;
    return worker->running.empty() ? 1 : 2;
  };
  Slot* found = nullptr;
  int best = kNever;
  for (const auto& slot : workers_.table().slots()) {
    const int own = slot->wanted ? rank(*slot) : kNever;
    if (own == kNever || own > best) continue;
    best = own;
    found = slot.get();
  }
  return found;
}

// Workers that cannot go.
std::uint32_t Scaling::held() const {
  return static_cast<std::uint32_t>(
      std::ranges::count_if(workers_.table().slots(), [this](const auto& slot) {
        const Worker* worker = slot->wanted ? slot->current : nullptr;
        return worker && worker->was_ready() && !worker->ending() && !worker->draining() &&
               !snapshots_.may_clear(*worker);
      }));
}

std::size_t Scaling::queued() const { return waiting_.queue().common().size(); }

Scaler::Load Scaling::measure() {
  Scaler::Load load;
  load.waited = waiting_.queue().longest_wait(frame_.now);
  const Duration takes = add_waiting(load);
  workers_.table().each([&](const Worker& worker) {
    if (in_service(worker)) add_running(worker, takes, load);
  });
  load.filled += load.backlog;
  load.failing = load.up == 0 && readiness_.starts_fail();
  return load;
}

// Returns how long one of the calls that wait holds its place in a worker, on average; 0: nobody
// knows.
Duration Scaling::add_waiting(Scaler::Load& load) {
  const std::uint32_t capacity = workers_.table().capacity();
  double sum = 0;
  calls_.functions().each([&](const Function& function) {
    std::uint64_t calls = function.queued;
    const std::uint64_t places = beside(function, capacity);
    if (const std::uint32_t max = function.spec.max_workers; max > 0) {
      calls = std::min(calls, (max - std::min(function.workers, max)) * places);
    }
    const std::uint64_t filled = calls * Scaler::kWorker / places;
    const Duration time = place_time(function, places);
    load.waiting += calls;
    load.backlog += filled;
    if (time <= Duration{0}) return;
    load.known += filled;
    sum += static_cast<double>(filled) * static_cast<double>(time.count());
  });
  if (load.known == 0) return Duration{0};
  return Duration{static_cast<Duration::rep>(sum / static_cast<double>(load.known))};
}

// takes: see add_waiting().
void Scaling::add_running(const Worker& worker, Duration takes, Scaler::Load& load) const {
  const Duration window = frame_.settings.pool.scale_up_delay;
  // Calls that begin in a place that is free for `time`.
  const auto turns = [takes](Duration time) {
    return 1 + static_cast<std::uint64_t>(takes > Duration{0} ? time / takes : 0);
  };
  ++load.up;
  load.begun_by_new = Scaler::kWorker * turns(window);
  if (worker.running.empty()) load.begun += load.begun_by_new;
  for (const Call& call : worker.running) {
    const std::uint64_t places = places_for(call, worker);
    const std::uint64_t filled = Scaler::kWorker / places;
    load.filled += filled;
    // What takes longer than usual, or is not known, will take as long again.
    const Duration ran = frame_.now - call.dispatched;
    const Duration usual = place_time(*call.function, places);
    const Duration rest = ran < usual ? usual - ran : ran;
    if (rest < window) load.begun += filled * turns(window - rest);
  }
}

void Scaling::describe(Time now, PoolStats& stats) const {
  const auto& pool = frame_.settings.pool;
  if (!scaler_) {
    stats.scaling.wanted = pool.workers;
    stats.scaling.why = pool.workers_max == 0
                            ? "the size is fixed: pool.workers_max is 0"
                            : "the size is fixed: pool.workers_max is pool.workers";
    return;
  }
  stats.scaling.wanted = scaler_->wanted();
  stats.scaling.why = scaler_->why(now);
  if (pool.workers == 0 && starts_.exec()) {
    stats.scaling.why += "; workers are started by exec, so one stays";
  }
  const std::uint32_t there = workers_.table().wanted();
  const std::uint32_t more = there - std::min(there, scaler_->wanted());
  if (const std::uint32_t stay = std::min(more, held()); stay > 0) {
    stats.scaling.why +=
        fmt::format("; workers whose sessions cannot be saved, and stay: {}", stay);
  }
}

}  // namespace keelback::core
