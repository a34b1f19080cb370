// What becomes of a call that is in: placed, dispatched, answered, pressed to end.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/stream.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {

// ---- waiting

void Pool::Impl::place(Call& head) {
  CHECK(head.is_head && !head.queue);
  if (head.deadline <= frame_.now) return;  // dead already: its timer ends it in this very step
  if (end_if_quarantined(head)) return;
  if (!head.function->has_room()) return head.function->parked.insert(head);
  if (Worker* worker = placement_.choose(head)) return dispatch(*worker, head);
  Worker* home = Placement::waits_for(head);
  if (!home) ++head.function->queued;
  head.expected = head.function->service;
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
  if (worker.check_wanted) want_check(worker);
  while (worker.free()) {
    Call* head = placement_.pick(worker, queue_.shared(), frame_.now);
    if (!head) {
      if (worker.state == WorkerState::kReady) placement_.set_idle(worker);
      return;
    }
    if (end_if_quarantined(*head)) continue;
    if (head->function->has_room()) return dispatch(worker, *head);
    unqueue(*head);
    head->function->parked.insert(*head);
  }
}

bool Pool::Impl::end_if_quarantined(Call& head) {
  if (!quarantine_.holds(frame_.now, head.fingerprint, frame_.quarantine_limits())) return false;
  Ending ending;
  if (head.touched) {  // an attempt of its own had started: that is how it ends
    ending.kind = OutcomeKind::kWorkerDied;
    ending.effect = Effect::kMaybe;
    ending.death = head.last_death;
    ending.message = "The worker died while it ran this call, and it is quarantined by now.";
  } else {
    ending.kind = OutcomeKind::kQuarantined;
    ending.message = quarantine_words(head.fingerprint);
  }
  end_waiting(head, std::move(ending));
  return true;
}

void Pool::Impl::leave_queue(Call& call) {
  if (call.state == CallState::kJoined) leave_key(call);
  if (call.is_head) unqueue(call);
  if (call.session) queue_.remove(*call.session->lane, call);
  call.session = nullptr;
  queue_.count_out(call);
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
  queue_.make_head(*heir, nullptr, frame_.now);
  place(*heir);
}

// ---- running

// It takes no other call. One that drains is shown as that all the time.
void Pool::Impl::occupy(Worker& worker) {
  placement_.set_busy(worker);
  if (worker.state == WorkerState::kReady) workers_.set_state(worker, WorkerState::kBusy);
}

void Pool::Impl::dispatch(Worker& worker, Call& call) {
  CHECK(worker.free() && !worker.running);
  occupy(worker);
  unqueue(call);
  if (call.session) {
    queue_.remove(*call.session->lane, call);
    call.session->lane->running = &call;
  }
  queue_.count_out(call);
  call.is_head = false;
  call.state = CallState::kRunning;
  call.rung = Rung::kNone;
  call.worker = &worker;
  call.last_worker = worker.id;
  call.dispatched = frame_.now;
  call.moved = frame_.now;
  call.credit = kStreamCredit + call.granted;
  ++call.attempts;
  ++call.function->running;
  worker.running = &call;
  ++worker.calls;
  Dispatch action;
  take_session(worker, call, action.session);
  frame_.timers.arm(call, running_due(call));
  action.worker = worker.id;
  action.call = call.id;
  action.attempt = call.attempts;
  action.deadline = call.deadline;
  frame_.emit(std::move(action));
}

void Pool::Impl::take_session(Worker& worker, Call& call, std::optional<SessionTicket>& ticket) {
  Session* session = call.session;
  if (!session) return;
  Worker* old = session->home ? session->home->owner : nullptr;
  if (old && old != &worker) {
    if (session->established) {
      tell_end(*session, SessionEndReason::kMoved);
      ++session->epoch;
      ++frame_.counters.moved;
      session->established = false;
    }
    sessions_.set_asked(*session, false, session->unsavable);
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
  ticket = SessionTicket{session->id, session->birth, session->epoch};
  ticket->opens = !session->established && !session->saved;
  ticket->saves = frame_.settings.sessions.snapshot == SnapshotMode::kEachCall;
  if (!session->established && session->saved) {
    ticket->restore = snapshots_.usable(session->birth);
  }
}

// The call leaves its worker; the caller decides what becomes of either.
void Pool::Impl::stop_running(Worker& worker, Call& call) {
  CHECK(worker.running == &call && call.worker == &worker);
  frame_.timers.disarm(call);
  worker.running = nullptr;
  call.worker = nullptr;
  --call.function->running;
  if (call.session) call.session->lane->running = nullptr;
}

void Pool::Impl::on(const WorkerReplied& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->running || worker->running->id != event.call) return;
  Call& call = *worker->running;
  if (call.answered) return;
  Session* session = call.session;
  const bool late = frame_.now >= call.deadline || call.rung != Rung::kNone;
  const bool ran =
      event.kind != ReplyKind::kBadRequest && event.kind != ReplyKind::kUnknownFunction;
  const bool answered = event.kind == ReplyKind::kOk || event.kind == ReplyKind::kError;
  queue_.observe_service(frame_.now - call.dispatched);
  call.function->observe_service(frame_.now - call.dispatched);
  if (session && ran) {
    if (!session->established && session->saved) ++frame_.counters.restored;
    session->established = true;
  }
  if (answered) quarantine_.answered(call.fingerprint);
  if (late && !event.clean) return end_with_worker(*worker, call, event);
  const bool replaced = costs_worker(call, event);
  stop_running(*worker, call);
  note_room(*call.function);
  const bool too_late = late && !call.told;
  if (session && ran && save_first(call, event) && !too_late) {
    hold(call, event);
  } else {
    reply_bytes_ = event.result_bytes;
    resolve(call, reply_ending(call, event.kind, late));
    reply_bytes_ = 0;
  }

  if (!worker->killed) {
    const bool draining = worker->stopping || worker->state == WorkerState::kDraining;
    if (worker->state == WorkerState::kSuspect || worker->state == WorkerState::kBusy) {
      workers_.set_state(*worker, worker->at_rest());
    }
    const bool worn = worker->calls_max > 0 && worker->calls >= worker->calls_max;
    // Threads that a library starts lazily are no reason to give up the sessions here: only a call
    // that the ladder pressed may have left old work behind. A caller's leaving costs no worker.
    if (!draining && worn) recycle(*worker);
    if (!draining && event.kind == ReplyKind::kError) check_after_error(*worker);
    if (!draining && !event.retire_reason.empty()) {
      ++frame_.counters.retired;
      note_sick(*worker, fmt::format("asks to be replaced: {}", event.retire_reason));
    }
  }
  // Its session's next call takes its turn among all that wait, not the worker it is standing at.
  worker->choosing = true;
  if (session) settle_lane(*session);
  worker->choosing = false;
  if (replaced) replace_interrupted(*worker);
  leave_worker(*worker);
}

// Late, and something of the call goes on in its worker: the caller hears of it when the worker is
// dead, so that what it was told to have ended has ended.
void Pool::Impl::end_with_worker(Worker& worker, Call& call, const WorkerReplied& event) {
  call.answered = true;
  call.reply = event.kind;
  call.reply_bytes = event.result_bytes;
  if (call.session) static_cast<void>(save_first(call, event));
  call.rung = Rung::kKill;
  kill(worker, EndCause::kUnclean);
  frame_.timers.arm(call, running_due(call));
}

void Pool::Impl::on(const StreamMoved& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->running || worker->running->id != event.call) return;
  Call& call = *worker->running;
  call.moved = frame_.now;
  call.spoke = true;
  if (call.credit > 0) --call.credit;
}

void Pool::Impl::on(const StreamGranted& event) {
  Call* call = calls_.find(event.call.value);
  if (!call || !call->stream || event.items == 0) return;
  call->granted += event.items;
  if (call->state != CallState::kRunning) return;
  const bool held_back = call->credit == 0;
  call->credit += event.items;
  if (!held_back || call->rung != Rung::kNone) return;
  call->moved = frame_.now;
  frame_.timers.arm(*call, running_due(*call));
}

void Pool::Impl::on(const CallCancelled& event) {
  Call* found = calls_.find(event.call.value);
  if (!found) return;
  Call& call = *found;
  if (call.told || call.state == CallState::kSaving) return;  // nobody waits, or it is done
  if (call.state != CallState::kRunning) {
    Ending ending;
    ending.kind = OutcomeKind::kCancelled;
    ending.message = "The call was cancelled while it waited.";
    return end_waiting(call, std::move(ending));
  }
  if (call.cancelled || call.rung != Rung::kNone) return;
  if (call.key && !call.key->followers.empty()) return;  // others wait for its answer
  call.cancelled = true;
  frame_.emit(CancelCall{call.last_worker, call.id, call.dispatched});
}

// ---- time

// When a silent stream is given up; nullopt: the call is none, or may be silent. A worker whose
// credit is used up is held back by its reader, who has until the call's deadline.
std::optional<Time> Pool::Impl::idle_due(const Call& call) const {
  const Duration limit = frame_.settings.calls.stream_idle;
  if (!call.stream || !call.function->spec.stream || limit <= Duration{0}) return std::nullopt;
  if (call.credit == 0) return std::nullopt;
  return call.moved + limit;
}

Time Pool::Impl::running_due(const Call& call) const {
  if (call.rung == Rung::kNone) {
    return std::min(call.deadline, idle_due(call).value_or(call.deadline));
  }
  if (call.rung == Rung::kGiveUp) return Time::max();
  return paced_rung_due(next_rung(call.rung), call.deadline, frame_.settings.calls.grace,
                        call.climbed);
}

void Pool::Impl::call_due(Call& call) {
  switch (call.state) {
    case CallState::kRunning:
      return climb(call);
    case CallState::kSaving:
      return saving_due(call);
    case CallState::kBackingOff:
      if (frame_.now < call.deadline) {
        call.state = CallState::kWaiting;
        frame_.timers.arm(call, call.deadline);
        queue_.make_head(call, call.session ? call.session->lane : nullptr, frame_.now);
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
  if (call.rung == Rung::kNone && frame_.now < call.deadline && running_due(call) <= frame_.now) {
    call.went_idle = true;  // from here on its deadline is now
    call.deadline = frame_.now;
  }
  while (running_due(call) <= frame_.now) {
    call.rung = next_rung(call.rung);
    call.climbed = frame_.now;
    switch (call.rung) {
      case Rung::kNone:
        break;
      case Rung::kCancel:
        if (worker.state == WorkerState::kBusy) {
          workers_.set_state(worker, WorkerState::kSuspect);
        }
        if (!call.cancelled) frame_.emit(CancelCall{worker.id, call.id, call.dispatched});
        if (frame_.settings.calls.answer_at == AnswerAt::kDeadline) {
          tell(call, timeout_ending(call, Effect::kMaybe));
        }
        break;
      case Rung::kInterrupt:
        frame_.emit(InterruptCall{worker.id, call.id});
        break;
      case Rung::kDump:
        frame_.emit(DumpWorker{worker.id, call.id});
        break;
      case Rung::kKill:
        kill(worker, EndCause::kTimeout);
        break;
      case Rung::kGiveUp:  // its end is the killed worker's, which has a timer of its own
        if (!call.told) {
          tell(call, call.answered ? reply_ending(call, call.reply, true)
                                   : timeout_ending(call, Effect::kMaybe));
        }
        break;
    }
  }
  frame_.timers.arm(call, running_due(call));
}

}  // namespace keelback::core
