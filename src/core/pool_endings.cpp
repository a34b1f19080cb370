// How calls end: by a reply, by the deadline, with their worker; and what their lane does then.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/reached.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {

Ending Pool::Impl::reply_ending(const Call& call, ReplyKind kind, bool late) const {
  using enum OutcomeKind;
  const bool answered = kind == ReplyKind::kOk || kind == ReplyKind::kError;
  const bool refused = kind == ReplyKind::kBadRequest || kind == ReplyKind::kUnknownFunction;
  // A caller who has heard at the deadline hears no more. The key's next caller gets the real
  // answer.
  if (late && (!call.told || kind == ReplyKind::kCancelled)) {
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

Ending Pool::Impl::timeout_ending(const Call& call, Effect effect) const {
  Ending ending;
  ending.kind = OutcomeKind::kTimeout;
  ending.effect = effect;
  const std::string limit = describe(call.deadline - call.accepted);
  if (call.went_idle) {
    ending.message = fmt::format("The stream sent nothing for calls.stream_idle ({}).",
                                 describe(frame_.settings.calls.stream_idle));
    ending.breaker = Breaker::Result::kFailure;
  } else if (call.last_worker && call.state == CallState::kRunning) {
    ending.message = fmt::format(
        "The deadline ({}) passed {}.", limit,
        effect == Effect::kNone ? "before the call had begun in its worker" : "while the call ran");
    // A caller's tiny deadline, or one that went by in the queue, says nothing about the function.
    const bool fair =
        call.own_limit && (frame_.now - call.dispatched) * 2 >= call.deadline - call.accepted;
    ending.breaker = fair ? Breaker::Result::kFailure : Breaker::Result::kNeutral;
  } else {
    ending.message = fmt::format("The deadline ({}) passed while the call waited.", limit);
  }
  return ending;
}

void Pool::Impl::settle_after_death(Worker& worker, Call& call, bool started,
                                    const DeathPtr& death) {
  Session* session = call.session;
  const bool ours = worker.killed || death->cause == "killed";
  const bool late = call.rung != Rung::kNone || frame_.now >= call.deadline;
  if (started && !ours && !worker.blameless) {
    quarantine_.died(frame_.now, call.fingerprint, call.function->spec.name,
                     session ? session->id : std::string_view{}, frame_.quarantine_limits());
    if (quarantine_.holds(frame_.now, call.fingerprint, frame_.quarantine_limits())) {
      frame_.notice(Notice::Level::kWarn,
                    fmt::format("A request of function \"{}\" killed {} workers in a row and is "
                                "quarantined.",
                                call.function->spec.name, frame_.quarantine_limits().deaths));
    }
  }
  Ending late_ending = call.answered
                           ? reply_ending(call, call.reply, true)
                           : timeout_ending(call, started ? Effect::kMaybe : Effect::kNone);
  stop_running(worker, call);
  note_room(*call.function);
  if (started) call.touched = true;
  call.last_death = death;
  const bool had_state = session && session->established;
  if (session && started) session->established = true;
  if (late) {
    REACHED("death: of a call whose time was over");
    reply_bytes_ = call.reply_bytes;
    resolve(call, std::move(late_ending));
    reply_bytes_ = 0;
    return;
  }

  LostAttempt attempt;
  attempt.started = started;
  attempt.has_session = session != nullptr;
  attempt.session_established = had_state;
  attempt.session_restorable = session && restorable(*session);
  attempt.idempotent = call.idempotent && !call.spoke;
  attempt.cancelled = call.cancelled;
  attempt.quarantined = quarantine_.holds(frame_.now, call.fingerprint, frame_.quarantine_limits());
  attempt.dispatches = call.attempts;
  attempt.retries = call.retries;
  attempt.retries_max = frame_.settings.calls.retries;
  AfterDeath then = after_death(attempt);
  if ((drain_over_ || (session && session->detached)) &&
      (then == AfterDeath::kRedispatch || then == AfterDeath::kRetry)) {
    then = session && !drain_over_ ? AfterDeath::kSessionLost : AfterDeath::kFail;
  }
  Duration pause{0};
  if (then == AfterDeath::kRetry) {
    pause = retry_pause(call.retries + 1, frame_.prng);
    const bool in_time = frame_.now + pause < call.deadline;
    if (!in_time || !retry_budget_.take(frame_.now, frame_.settings.calls.retry_budget)) {
      REACHED("retry: no time or no budget left");
      then = AfterDeath::kFail;
    }
  }
  if (then == AfterDeath::kRetry || then == AfterDeath::kRedispatch) {
    if (then == AfterDeath::kRetry) REACHED("retry: an idempotent call that had started");
    if (then == AfterDeath::kRedispatch) REACHED("retry: a call that had not started");
    return hand_back(call, then == AfterDeath::kRetry, pause);
  }
  Ending ending;
  ending.death = death;
  ending.effect = started ? Effect::kMaybe : Effect::kNone;
  if (then == AfterDeath::kSessionLost) {
    ending.kind = OutcomeKind::kSessionLost;
    ending.message = session_over(SessionOver::kLost, session->id, {}, death.get());
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
  queue_.count_in(call);
  call.state = CallState::kWaiting;
  if (call.session) queue_.put_back(*call.session->lane, call);
  if (retry) {
    ++call.retries;
    ++frame_.counters.retries;
    call.state = CallState::kBackingOff;
    frame_.timers.arm(call, std::min(frame_.now + pause, call.deadline));
    return;
  }
  frame_.timers.arm(call, call.deadline);
  if (call.session) return;  // placed once its session has left the dead worker
  queue_.make_head(call, nullptr, frame_.now);
  place(call);
}

Resolve Pool::Impl::report(Call& call, Ending&& ending) {
  if (call.touched && ending.effect == Effect::kNone) {
    ending.effect = Effect::kMaybe;
    // These words promise that nothing ran; an earlier attempt of this call may have.
    if (ending.kind != OutcomeKind::kTimeout && ending.kind != OutcomeKind::kCancelled) {
      ending.kind = OutcomeKind::kWorkerDied;
      ending.death = call.last_death;
    }
  }
  if (!call.told) {
    call.function->breaker.settle(frame_.now, ending.breaker, call.probe, frame_.breaker_limits());
    ++frame_.counters.outcomes[static_cast<int>(ending.kind)];
  }
  Resolve action;
  action.call = call.id;
  action.kind = ending.kind;
  action.effect = ending.effect;
  action.worker = call.last_worker;
  action.attempts = call.attempts;
  action.birth = call.birth;
  action.epoch = call.epoch;
  action.queued = (call.attempts > 0 ? call.dispatched : frame_.now) - call.accepted;
  action.ran = call.attempts > 0 ? frame_.now - call.dispatched : Duration{0};
  action.retry_after = ending.retry_after;
  action.message = std::move(ending.message);
  if (ending.death) action.death = *ending.death;
  return action;
}

void Pool::Impl::tell(Call& call, Ending&& ending) {
  CHECK(!call.told);
  frame_.emit(TellCaller{report(call, std::move(ending))});
  call.told = true;
  ++frame_.counters.late;
}

void Pool::Impl::resolve(Call& call, Ending&& ending) {
  Resolve action = report(call, std::move(ending));
  const OutcomeKind kind = action.kind;
  const Effect effect = action.effect;
  IdempotencyEntry* key = call.key;
  if (key) {
    key->shared = effect == Effect::kNone && !key->followers.empty();
    action.retain = effect != Effect::kNone || key->shared;
  }
  frame_.timers.disarm(call);
  if (call.told) --frame_.counters.late;
  frame_.emit(std::move(action));
  discard(call);
  if (key) settle_key(*key, kind, effect);
}

void Pool::Impl::discard(Call& call) {
  functions_.release(*call.function);
  carried_.remove(call.attachment_bytes);
  calls_.erase(call);
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
    queue_.make_head(head, &lane, frame_.now);
    return place(head);
  }
  if (session.established || session.saved) {
    const bool dead = session.home && !session.home->alive;
    if (dead && !session.saved) return end_session(session, SessionTable::Verdict::kLost);
    if (dead) lay_off(session);
    return sessions_.leave(session, frame_.now);
  }
  ++frame_.counters.ended;  // nothing ever ran in it
  forget(session);
}

}  // namespace keelback::core
