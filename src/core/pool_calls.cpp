// What becomes of a call that is in: placed, dispatched, answered, timed out, handed back.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {

// ---- waiting

void Pool::Impl::place(Call& head) {
  CHECK(head.is_head && !head.queue);
  if (head.deadline <= now_) return;  // dead already: its timer ends it in this very step
  if (!head.function->has_room()) return head.function->parked.insert(head);
  if (Worker* worker = placement_.choose(head)) return dispatch(*worker, head);
  Worker* home = Placement::waits_for(head);
  if (!home) ++head.function->queued;
  queue_.enqueue(home ? home->queue : queue_.shared(), head);
}

void Pool::Impl::unqueue(Call& head) {
  if (head.queue == &queue_.shared()) --head.function->queued;
  queue_.dequeue(head);
}

// A call of `function` is out of the way: those parked behind it may go, at the end of this step.
void Pool::Impl::note_room(Function& function) {
  if (function.parked.empty() || function.room_noted) return;
  function.room_noted = true;
  functions_.acquire(function);
  room_.push_back(&function);
}

void Pool::Impl::use_room() {
  while (!room_.empty()) {
    Function& function = *room_.back();
    room_.pop_back();
    function.room_noted = false;
    unpark(function);
    functions_.release(function);
  }
}

void Pool::Impl::unpark(Function& function) {
  // As many as could run now; those whose own worker is busy wait with it and take no room.
  while (function.spec.max_workers == 0 ||
         function.running + function.queued < function.spec.max_workers) {
    Call* head = function.parked.top();
    if (!head) return;
    function.parked.remove(*head);
    place(*head);
  }
}

void Pool::Impl::offer(Worker& worker) {
  while (worker.free()) {
    Call* head = placement_.pick(worker, queue_.shared(), now_);
    if (!head) {
      if (worker.state == WorkerState::kReady) placement_.set_idle(worker);
      return;
    }
    if (head->function->has_room()) return dispatch(worker, *head);
    unqueue(*head);
    head->function->parked.insert(*head);
  }
}

void Pool::Impl::leave_queue(Call& call) {
  if (call.state == CallState::kJoined) leave_key(call);
  if (call.is_head) unqueue(call);
  if (call.session) queue_.remove(*call.session->lane, call);
  call.session = nullptr;
  queue_.count_out();
}

void Pool::Impl::end_waiting(Call& call, Ending&& ending) {
  Session* session = call.session;
  note_room(*call.function);
  const bool on_its_own =
      ending.kind == OutcomeKind::kCancelled || ending.kind == OutcomeKind::kTimeout;
  Call* heir = on_its_own && call.state != CallState::kJoined ? hand_key_on(call) : nullptr;
  leave_queue(call);
  resolve(call, std::move(ending));
  if (session) return settle_lane(*session);
  if (!heir) return;
  queue_.make_head(*heir, nullptr, now_);
  place(*heir);
}

// ---- running

void Pool::Impl::dispatch(Worker& worker, Call& call) {
  CHECK(worker.free() && !worker.running);
  placement_.set_busy(worker);
  unqueue(call);
  if (call.session) {
    queue_.remove(*call.session->lane, call);
    call.session->lane->running = &call;
  }
  queue_.count_out();
  call.is_head = false;
  call.state = CallState::kRunning;
  call.rung = Rung::kNone;
  call.worker = &worker;
  call.last_worker = worker.id;
  call.dispatched = now_;
  call.moved = now_;
  ++call.attempts;
  ++call.function->running;
  worker.running = &call;
  ++worker.calls;
  if (worker.state == WorkerState::kReady) workers_.set_state(worker, WorkerState::kBusy);
  Dispatch action;
  take_session(worker, call, action.session);
  timers_.arm(call, running_due(call));
  action.worker = worker.id;
  action.call = call.id;
  action.attempt = call.attempts;
  action.deadline = call.deadline;
  emit(std::move(action));
}

void Pool::Impl::take_session(Worker& worker, Call& call, std::optional<SessionTicket>& ticket) {
  Session* session = call.session;
  if (!session) return;
  Worker* old = session->home ? session->home->owner : nullptr;
  if (old && old != &worker) {
    if (session->established) {
      tell_end(*session, SessionEndReason::kMoved);
      ++session->epoch;
      ++counters_.moved;
      session->established = false;
    }
    placement_.before_change(*old);
    sessions_.unbind(*session);
    placement_.after_change(*old);
    maybe_stop(*old);
  }
  if (!session->home) {
    placement_.before_change(worker);
    sessions_.bind(*session, *worker.home);
    placement_.after_change(worker);
  }
  call.birth = session->birth;
  call.epoch = session->epoch;
  ticket = SessionTicket{session->id, session->birth, session->epoch, !session->established};
}

// The call leaves its worker; the caller decides what becomes of either.
void Pool::Impl::stop_running(Worker& worker, Call& call) {
  CHECK(worker.running == &call && call.worker == &worker);
  timers_.disarm(call);
  worker.running = nullptr;
  call.worker = nullptr;
  --call.function->running;
  if (call.session) call.session->lane->running = nullptr;
}

void Pool::Impl::on(const WorkerReplied& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->running || worker->running->id != event.call) return;
  Call& call = *worker->running;
  Session* session = call.session;
  const bool late = now_ >= call.deadline || call.rung != Rung::kNone;
  const bool pressed = late || call.cancelled;
  const bool ran =
      event.kind != ReplyKind::kBadRequest && event.kind != ReplyKind::kUnknownFunction;
  const bool answered = event.kind == ReplyKind::kOk || event.kind == ReplyKind::kError;
  stop_running(*worker, call);
  queue_.observe_service(now_ - call.dispatched);
  if (session && ran) session->established = true;
  if (answered) quarantine_.answered(call.fingerprint);
  note_room(*call.function);
  reply_bytes_ = event.result_bytes;
  resolve(call, reply_ending(call, event.kind, late));
  reply_bytes_ = 0;

  if (!event.clean && pressed) {
    kill(*worker, EndCause::kUnclean);
  } else if (!worker->killed) {
    const bool draining = worker->stopping || worker->state == WorkerState::kDraining;
    if (worker->state == WorkerState::kSuspect || worker->state == WorkerState::kBusy) {
      workers_.set_state(*worker, WorkerState::kReady);
    }
    const bool worn = worker->calls_max > 0 && worker->calls >= worker->calls_max;
    // Threads that a library starts lazily are no reason to give up the sessions here: only a call
    // that was pressed to end may have left old work behind.
    if (!draining && worn) recycle(*worker);
  }
  if (session) settle_lane(*session);
  offer(*worker);
  maybe_stop(*worker);
  advance_reload();
}

Pool::Impl::Ending Pool::Impl::reply_ending(const Call& call, ReplyKind kind, bool late) const {
  using enum OutcomeKind;
  const bool answered = kind == ReplyKind::kOk || kind == ReplyKind::kError;
  const bool refused = kind == ReplyKind::kBadRequest || kind == ReplyKind::kUnknownFunction;
  if (late) {
    Ending ending = timeout_ending(call, answered  ? Effect::kDone
                                         : refused ? Effect::kNone
                                                   : Effect::kMaybe);
    return ending;
  }
  Ending ending;
  ending.breaker = Breaker::Result::kSuccess;
  switch (kind) {
    case ReplyKind::kOk:
      ending.kind = kOk;
      ending.effect = Effect::kDone;
      break;
    case ReplyKind::kError:
      ending.kind = kError;
      ending.effect = Effect::kDone;
      ending.message = fmt::format("Function \"{}\" raised an error.", call.function->spec.name);
      break;
    case ReplyKind::kCancelled:
      ending.kind = kCancelled;
      ending.effect = Effect::kMaybe;
      ending.message = "The call was cancelled while it ran.";
      ending.breaker = Breaker::Result::kNeutral;
      break;
    case ReplyKind::kBadRequest:
      ending.kind = kBadRequest;
      ending.message =
          fmt::format("The arguments do not fit function \"{}\".", call.function->spec.name);
      break;
    case ReplyKind::kUnknownFunction:
      ending.kind = kUnknownFunction;
      ending.message =
          fmt::format("The worker's application has no function \"{}\".", call.function->spec.name);
      ending.breaker = Breaker::Result::kNeutral;
      break;
  }
  return ending;
}

Pool::Impl::Ending Pool::Impl::timeout_ending(const Call& call, Effect effect) const {
  Ending ending;
  ending.kind = OutcomeKind::kTimeout;
  ending.effect = effect;
  const std::string limit = describe(call.deadline - call.accepted);
  if (call.last_worker && call.state == CallState::kRunning) {
    ending.message = fmt::format("The deadline ({}) passed while the call ran.", limit);
    // A caller's tiny deadline, or one that went by in the queue, says nothing about the function.
    const bool fair =
        call.own_limit && (now_ - call.dispatched) * 2 >= call.deadline - call.accepted;
    ending.breaker = fair ? Breaker::Result::kFailure : Breaker::Result::kNeutral;
  } else {
    ending.message = fmt::format("The deadline ({}) passed while the call waited.", limit);
  }
  return ending;
}

void Pool::Impl::on(const StreamMoved& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->running || worker->running->id != event.call) return;
  worker->running->moved = now_;
}

void Pool::Impl::on(const CallCancelled& event) {
  const auto found = calls_.find(event.call.value);
  if (found == calls_.end()) return;
  Call& call = *found->second;
  if (call.state != CallState::kRunning) {
    Ending ending;
    ending.kind = OutcomeKind::kCancelled;
    ending.message = "The call was cancelled while it waited.";
    return end_waiting(call, std::move(ending));
  }
  if (call.cancelled || call.rung != Rung::kNone) return;
  if (call.key && !call.key->followers.empty()) return;  // others wait for its answer
  call.cancelled = true;
  emit(CancelCall{call.last_worker, call.id});
}

// ---- time

Time Pool::Impl::running_due(const Call& call) const {
  if (call.rung == Rung::kNone) return call.deadline;
  return rung_due(next_rung(call.rung), call.deadline, settings_.calls.grace);
}

void Pool::Impl::call_due(Call& call) {
  switch (call.state) {
    case CallState::kRunning:
      return climb(call);
    case CallState::kBackingOff:
      if (now_ < call.deadline) {
        call.state = CallState::kWaiting;
        timers_.arm(call, call.deadline);
        queue_.make_head(call, call.session ? call.session->lane : nullptr, now_);
        return place(call);
      }
      [[fallthrough]];
    case CallState::kWaiting:
    case CallState::kJoined:
      return end_waiting(call, timeout_ending(call, Effect::kNone));
  }
}

void Pool::Impl::climb(Call& call) {
  Worker& worker = *call.worker;
  while (running_due(call) <= now_) {
    call.rung = next_rung(call.rung);
    switch (call.rung) {
      case Rung::kNone:
        break;
      case Rung::kCancel:
        if (worker.state == WorkerState::kBusy) {
          workers_.set_state(worker, WorkerState::kSuspect);
        }
        if (!call.cancelled) emit(CancelCall{worker.id, call.id});
        break;
      case Rung::kInterrupt:
        emit(InterruptCall{worker.id, call.id});
        break;
      case Rung::kDump:
        emit(DumpWorker{worker.id, call.id});
        break;
      case Rung::kKill:
        kill(worker, EndCause::kTimeout);
        break;
      case Rung::kGiveUp: {
        Ending ending = timeout_ending(call, Effect::kMaybe);
        Session* session = call.session;
        stop_running(worker, call);
        note_room(*call.function);
        resolve(call, std::move(ending));
        if (session) {
          session->established = true;  // for all we know
          settle_lane(*session);
        }
        return;  // the killed worker has a timer of its own
      }
    }
  }
  timers_.arm(call, running_due(call));
}

// ---- endings

void Pool::Impl::settle_after_death(Worker& worker, Call& call, bool started,
                                    const DeathPtr& death) {
  Session* session = call.session;
  const bool ours = worker.killed || death->cause == "killed";
  const bool late = call.rung != Rung::kNone || now_ >= call.deadline;
  if (started && !ours) {
    quarantine_.died(now_, call.fingerprint, call.function->spec.name,
                     session ? session->id : std::string_view{}, quarantine_limits());
  }
  Ending late_ending = timeout_ending(call, started ? Effect::kMaybe : Effect::kNone);
  stop_running(worker, call);
  note_room(*call.function);
  if (started) call.touched = true;
  call.last_death = death;
  const bool had_state = session && session->established;
  if (session && started) session->established = true;
  if (late) return resolve(call, std::move(late_ending));

  LostAttempt attempt;
  attempt.started = started;
  attempt.has_session = session != nullptr;
  attempt.session_established = had_state;
  attempt.session_restorable = session && restorable(*session);
  attempt.idempotent = call.idempotent;
  attempt.cancelled = call.cancelled;
  attempt.quarantined = quarantine_.holds(now_, call.fingerprint, quarantine_limits());
  attempt.dispatches = call.attempts;
  attempt.retries = call.retries;
  attempt.retries_max = settings_.calls.retries;
  AfterDeath then = after_death(attempt);
  if ((drain_over_ || (session && session->detached)) &&
      (then == AfterDeath::kRedispatch || then == AfterDeath::kRetry)) {
    then = session && !drain_over_ ? AfterDeath::kSessionLost : AfterDeath::kFail;
  }
  Duration pause{0};
  if (then == AfterDeath::kRetry) {
    pause = retry_pause(call.retries + 1, prng_);
    const bool in_time = now_ + pause < call.deadline;
    if (!in_time || !retry_budget_.take(now_, settings_.calls.retry_budget)) {
      then = AfterDeath::kFail;
    }
  }
  if (then == AfterDeath::kRetry || then == AfterDeath::kRedispatch) {
    return hand_back(call, then == AfterDeath::kRetry, pause);
  }
  Ending ending;
  ending.death = death;
  ending.effect = started ? Effect::kMaybe : Effect::kNone;
  if (then == AfterDeath::kSessionLost) {
    ending.kind = OutcomeKind::kSessionLost;
    ending.message = session_over(core::Ending::kLost, session->id, {}, {}, death.get());
  } else if (then == AfterDeath::kCancelled) {
    ending.kind = OutcomeKind::kCancelled;
    ending.message = "The call was cancelled; its worker died before it began.";
  } else {
    ending.kind = OutcomeKind::kWorkerDied;
    ending.message = fmt::format("The worker died {} this call ({}).",
                                 started ? "while it ran" : "before it began", describe(*death));
    if (started && !ours) ending.breaker = Breaker::Result::kFailure;
  }
  resolve(call, std::move(ending));
}

void Pool::Impl::hand_back(Call& call, bool retry, Duration pause) {
  queue_.count_in();
  call.state = CallState::kWaiting;
  if (call.session) queue_.put_back(*call.session->lane, call);
  if (retry) {
    ++call.retries;
    ++counters_.retries;
    call.state = CallState::kBackingOff;
    timers_.arm(call, std::min(now_ + pause, call.deadline));
    return;
  }
  timers_.arm(call, call.deadline);
  if (call.session) return;  // placed once its session has left the dead worker
  queue_.make_head(call, nullptr, now_);
  place(call);
}

void Pool::Impl::resolve(Call& call, Ending&& ending) {
  if (call.touched && ending.effect == Effect::kNone) {
    ending.effect = Effect::kMaybe;
    // These words promise that nothing ran; an earlier attempt of this call may have.
    if (ending.kind != OutcomeKind::kTimeout && ending.kind != OutcomeKind::kCancelled) {
      ending.kind = OutcomeKind::kWorkerDied;
      ending.death = call.last_death;
    }
  }
  timers_.disarm(call);
  call.function->breaker.settle(now_, ending.breaker, call.probe, breaker_limits());
  ++counters_.outcomes[static_cast<int>(ending.kind)];
  Resolve action;
  action.call = call.id;
  action.kind = ending.kind;
  action.effect = ending.effect;
  action.worker = call.last_worker;
  action.attempts = call.attempts;
  action.birth = call.birth;
  action.epoch = call.epoch;
  action.queued = (call.attempts > 0 ? call.dispatched : now_) - call.accepted;
  action.ran = call.attempts > 0 ? now_ - call.dispatched : Duration{0};
  action.retry_after = ending.retry_after;
  action.message = std::move(ending.message);
  if (ending.death) action.death = *ending.death;
  IdempotencyEntry* key = call.key;
  if (key) {
    key->shared = ending.effect == Effect::kNone && !key->followers.empty();
    action.retain = ending.effect != Effect::kNone || key->shared;
  }
  emit(std::move(action));
  discard(call);
  if (key) settle_key(*key, ending.kind, ending.effect);
}

void Pool::Impl::discard(Call& call) {
  functions_.release(*call.function);
  calls_.erase(call.id.value);
  call_slab_.free(&call);
}

// A call has left the lane: the next one becomes its head, or the session has nothing to do.
void Pool::Impl::settle_lane(Session& session) {
  Lane& lane = *session.lane;
  if (lane.running) return;
  if (session.detached) return finish_session(session, session.end_reason);
  if (!lane.waiting.empty()) {
    Call& head = lane.waiting.front();
    if (head.is_head || head.state == CallState::kBackingOff) return;
    queue_.make_head(head, &lane, now_);
    return place(head);
  }
  if (session.established) {
    const bool dead = session.home && !session.home->alive;
    if (!dead) return sessions_.leave(session, now_);
    return end_session(session, SessionTable::Verdict::kLost);
  }
  ++counters_.ended;  // nothing ever ran in it
  forget(session);
}

}  // namespace keelback::core
