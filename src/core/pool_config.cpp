// What operators ask for: new settings, a new size, new functions, an end.
#include <algorithm>
#include <utility>

#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

bool same(const FunctionSpec& a, const FunctionSpec& b) {
  return a.name == b.name && a.idempotent == b.idempotent && a.stream == b.stream &&
         a.timeout == b.timeout && a.max_workers == b.max_workers &&
         a.interruptible == b.interruptible;
}

}  // namespace

std::vector<CallId> Pool::Impl::calls_in_order() const {
  std::vector<CallId> ids;
  ids.reserve(calls_.size());
  calls_.each([&](const Call& call) { ids.push_back(call.id); });
  std::sort(ids.begin(), ids.end());
  return ids;
}

Call* Pool::Impl::find_waiting(CallId id) const {
  Call* call = calls_.find(id.value);
  if (!call) return nullptr;
  const bool waits = call->state == CallState::kWaiting || call->state == CallState::kBackingOff;
  return waits ? call : nullptr;
}

void Pool::Impl::on(const ConfigChanged& event) {
  // An expiry that could be observed until now is final, whatever the new values say.
  sweep(sessions_.attached() + 1);
  const Duration health_every = frame_.settings.workers.health_every;
  frame_.settings = event.settings;
  if (frame_.settings.workers.health_every != health_every) schedule_checks();
  queue_.set_limits({frame_.settings.pool.queue_max, frame_.settings.sessions.queue_max,
                     frame_.settings.pool.queue_delay_max});
  sessions_.set_limits({frame_.settings.sessions.idle_ttl, frame_.settings.sessions.max_age});
  tombstones_.set_limits({frame_.settings.sessions.tombstone_ttl, frame_.settings.sessions.max});
  workers_.each([this](Worker& worker) {
    arm(worker);
    if (worker.running) frame_.timers.arm(*worker.running, running_due(*worker.running));
  });
  resize();
  refresh_readiness();
}

void Pool::Impl::resize() {
  workers_.resize(frame_.settings.pool.workers);
  for (const auto& slot : workers_.slots()) {
    if (slot->wanted) {
      refill(*slot, Duration{0});
      continue;
    }
    frame_.timers.disarm(*slot);
    if (Worker* next = std::exchange(slot->next, nullptr)) kill(*next, EndCause::kDrained);
    if (Worker* worker = std::exchange(slot->current, nullptr)) {
      if (worker->ready_once) {
        drain_worker(*worker);
      } else {
        kill(*worker, EndCause::kDrained);
      }
    }
  }
}

void Pool::Impl::on(const FunctionsAnnounced& event) {
  const bool unchanged =
      functions_.announced() && std::equal(announced_.begin(), announced_.end(),
                                           event.functions.begin(), event.functions.end(), same);
  if (std::exchange(has_health_, event.health) != event.health) schedule_checks();
  if (unchanged) return;
  announced_ = event.functions;
  const std::vector<CallId> calls = calls_in_order();
  functions_.announce(event.functions);
  for (const CallId id : calls) {
    Call* call = find_waiting(id);
    if (!call) continue;
    if (!call->function->known) {
      Ending ending;
      ending.kind = OutcomeKind::kUnknownFunction;
      ending.message = "The application has no function \"" + call->function->spec.name + "\".";
      end_waiting(*call, std::move(ending));
      continue;
    }
    // Taken on trust until now: its function's own terms apply from here on.
    call->idempotent = call->asked_idempotent || call->function->spec.idempotent;
    set_deadline(*call);
    call->deadline = std::max(call->deadline, frame_.now);
    const bool pausing = call->state == CallState::kBackingOff && call->due < call->deadline;
    if (!pausing) frame_.timers.arm(*call, call->deadline);
  }
  functions_.each([this](Function& function) { note_room(function); });
}

// ---- drain

void Pool::Impl::on(const DrainRequested& event) {
  const Time until = frame_.now + std::max(event.limit, Duration{0});
  if (draining_ && (drain_over_ || (drain_timer_.armed() && drain_timer_.due <= until))) return;
  if (!draining_) {
    draining_ = true;
    not_ready_ = false;
    finish_reload();
    frame_.timers.disarm(heal_timer_);
    let_all_serve();
    for (const auto& slot : workers_.slots()) {
      if (start_wanted(*slot)) continue;
      frame_.timers.disarm(*slot);
    }
  }
  frame_.timers.arm(drain_timer_, until);
  if (until <= frame_.now) {
    frame_.timers.disarm(drain_timer_);
    drain_due();
  }
}

// The limit has passed: what waits is turned away, what runs is killed, what is idle may still run
// its end hooks.
void Pool::Impl::drain_due() {
  drain_over_ = true;
  for (const CallId id : calls_in_order()) {
    Call* call = find_waiting(id);
    if (!call) continue;
    Ending ending;
    ending.kind = OutcomeKind::kShuttingDown;
    ending.message = "The pool shut down before this call could start.";
    end_waiting(*call, std::move(ending));
  }
  workers_.each(
      [this](Worker& worker) { worker.free() ? stop(worker) : kill(worker, EndCause::kDrained); });
}

void Pool::Impl::advance_drain() {
  if (drained_ || !calls_.empty()) return;
  for (const auto& slot : workers_.slots()) frame_.timers.disarm(*slot);
  workers_.each([this](Worker& worker) {
    if (!worker.ready_once) return kill(worker, EndCause::kDrained);
    if (worker.state != WorkerState::kDraining) return drain_worker(worker);
    evacuate(worker);
    maybe_stop(worker);
  });
  if (workers_.size() > 0) return;
  drained_ = true;
  frame_.timers.disarm(drain_timer_);
  frame_.emit(Drained{});
}

}  // namespace keelback::core
