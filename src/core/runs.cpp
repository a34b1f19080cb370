#include "core/runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/reached.h"
#include "base/stream.h"
#include "core/blocks.h"
#include "core/calls.h"
#include "core/health.h"
#include "core/idempotency.h"
#include "core/nesting.h"
#include "core/replacements.h"
#include "core/sessions.h"
#include "core/snapshots.h"
#include "core/waiting.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

Call::Reply reply_of(const WorkerReplied& event) {
  return {event.kind, event.result_bytes, event.started};
}

// Of the calls of the batch that still run.
Time last_deadline(const Worker& worker) {
  Time last = Time::min();
  for (const Call& call : worker.running) last = std::max(last, call.deadline);
  return last;
}

}  // namespace

Call* Runs::find(WorkerId id, CallId call) const {
  Call* found = calls_.find(call);
  const auto* run = found ? found->in<Call::Running>() : nullptr;
  return run && run->worker->id == id ? found : nullptr;
}

void Runs::dispatch(Worker& worker, Call& call) {
  CHECK(worker.takes(call));
  workers_.occupy(worker);
  if (call.group) {
    const std::span<Call* const> batch = waiting_.hand_over_batch(*call.group);
    const auto size = static_cast<std::uint32_t>(batch.size());
    worker.batch_deadline = Time::min();
    for (std::uint32_t i = 0; i < size; ++i) {
      worker.batch_deadline = std::max(worker.batch_deadline, batch[i]->deadline);
      start(worker, *batch[i], {size, i});
    }
    batch.front()->function->batch_sizes.add(size);
    return;
  }
  waiting_.hand_over(call);
  if (!call.function->batches() || call.session) return start(worker, call, {});
  worker.batch_deadline = call.deadline;
  call.function->batch_sizes.add(1);
  start(worker, call, {1, 0});
}

void Runs::start(Worker& worker, Call& call, const BatchPlace& place) {
  if (call.session) {
    call.session->lane->running = &call;
    nesting_.note_home(*call.session);
  }
  call.state = Call::Running{&worker, frame_.now, kStreamCredit + call.granted};
  call.last_worker = worker.id;
  call.dispatched = frame_.now;
  call.held_up = {};
  call.batch = place.size;
  ++call.attempts;
  worker.begin(call);
  if (!call.alone && worker.busy()) waiting_.placement().set_sharing(worker);
  Dispatch action;
  if (call.session) action.session = sessions_.take(worker, call);
  frame_.timers.arm(call, due(call));
  action.worker = worker.id;
  action.call = call.id;
  action.attempt = call.attempts;
  action.alone = call.alone && place.size == 0;
  action.batch = place;
  action.deadline = call.deadline;
  frame_.emit(std::move(action));
}

// The call leaves its worker; the caller decides what becomes of either.
void Runs::stop(Worker& worker, Call& call) {
  auto& run = std::get<Call::Running>(call.state);
  CHECK(run.worker == &worker);
  nesting_.abandon(call);
  Blocks::call_leaves(worker, call, frame_.now);
  calls_.judge(call);
  frame_.timers.disarm(call);
  worker.end(call);
  if (worker.running.empty()) {
    waiting_.placement().set_not_sharing(worker);
  } else if (call.batch > 0) {
    if (call.deadline == worker.batch_deadline) worker.batch_deadline = last_deadline(worker);
    rearm(worker.running.back());  // it carries the ladder now, if the call did
  }
  run.worker = nullptr;
  if (call.session) call.session->lane->running = nullptr;
}

// How much of its worker's time the call has had, if that runs as many of them as it may.
Duration Runs::worker_time(const Worker& worker, const Call& call) const {
  if (call.batch > 0) return (frame_.now - call.dispatched) / call.batch;
  const std::uint32_t beside = std::min(call.function->spec.concurrency, worker.capacity);
  return (frame_.now - call.dispatched) / (call.alone ? 1U : std::max(beside, 1U));
}

void Runs::on(const WorkerReplied& event) {
  Call* found = find(event.worker, event.call);
  if (!found) return;
  Call& call = *found;
  const auto& run = std::get<Call::Running>(call.state);
  if (run.reply) return;
  Worker& worker = *run.worker;
  Session* session = call.session;
  const bool late = frame_.now >= call.deadline || run.rung != Rung::kNone;
  const bool ran = event.started && event.kind != ReplyKind::kBadRequest &&
                   event.kind != ReplyKind::kUnknownFunction;
  const bool answered = event.kind == ReplyKind::kOk || event.kind == ReplyKind::kError;
  const Duration held = worker_time(worker, call);
  waiting_.queue().observe_service(held);
  call.function->observe_service(held);
  if (call.batch > 0 && worker.running.size() == 1) {
    call.function->observe_batch(frame_.now - call.dispatched);
  }
  if (session && ran) {
    if (!session->established && session->saved) ++frame_.counters.restored;
    session->established = true;
  }
  if (answered) quarantine_.answered(call.fingerprint);
  if (late && !event.clean && call.alone) return end_with_worker(worker, call, event);
  const bool broken_off = costs_worker(call, event);
  const bool replaced = broken_off || (late && !event.clean);
  stop(worker, call);
  waiting_.note_room(*call.function);
  const bool too_late = late && !call.told;
  if (session && ran && snapshots_.save_first(call, event, broken_off) && !too_late) {
    snapshots_.hold(call, event);
  } else {
    calls_.resolve(call, calls_.reply_ending(call, reply_of(event), late), event.result_bytes);
  }
  settle_worker(worker, event);
  // Its session's next call takes its turn among all that wait, not the worker it is standing at.
  worker.choosing = true;
  if (session) sessions_.settle(*session);
  worker.choosing = false;
  if (replaced) replacements_.replace_interrupted(worker);
  workers_.go_on(worker);
}

// What the reply means to the worker, beside that it is free.
void Runs::settle_worker(Worker& worker, const WorkerReplied& event) {
  if (worker.ending() || worker.draining()) return;
  workers_.rest(worker);
  // Threads that a library starts lazily are no reason to give up the sessions here: only a call
  // that the ladder pressed may have left old work behind. A caller's leaving costs no worker.
  const bool worn = worker.calls_max > 0 && worker.calls >= worker.calls_max;
  if (worn) replacements_.recycle(worker);
  if (event.kind == ReplyKind::kError) health_.check_after_error(worker);
  if (event.retire_reason.empty()) return;
  ++frame_.counters.retired;
  health_.note_sick(worker, fmt::format("asks to be replaced: {}", event.retire_reason));
}

// Late, and something of the call goes on in its worker: the caller hears of it when the worker is
// dead, so that what it was told to have ended has ended.
void Runs::end_with_worker(Worker& worker, Call& call, const WorkerReplied& event) {
  auto& run = std::get<Call::Running>(call.state);
  run.reply = reply_of(event);
  if (call.session) {
    static_cast<void>(snapshots_.save_first(call, event, costs_worker(call, event)));
  }
  run.rung = Rung::kKill;
  workers_.kill(worker, KillCause::kUnclean);
  rearm(call);
}

void Runs::on(const RestoreFailed& event) {
  Call* found = find(event.worker, event.call);
  if (!found) return;
  Call& call = *found;
  Worker& worker = *std::get<Call::Running>(call.state).worker;
  Session* session = call.session;
  if (UNEXPECTED(!session)) return;
  Ending ending;
  ending.effect = Effect::kNone;
  if (event.gone) {
    ending.kind = OutcomeKind::kSessionLost;
    ending.message = fmt::format("The snapshot of session \"{}\" is not usable.", session->id);
  } else if (frame_.now < call.deadline) {
    ending.kind = OutcomeKind::kCancelled;
    ending.message = "The call was cancelled while its session's snapshot was read.";
  } else {
    ending = calls_.timeout_ending(call, Effect::kNone);
    ending.breaker = Breaker::Result::kNeutral;
  }
  stop(worker, call);
  waiting_.note_room(*call.function);
  calls_.resolve(call, std::move(ending));
  workers_.rest(worker);
  worker.choosing = true;
  if (!event.gone || session->detached) {
    sessions_.settle(*session);
  } else {
    sessions_.table().set_saved(*session, false);
    sessions_.lose(*session);
  }
  worker.choosing = false;
  waiting_.offer(worker);
  workers_.go_on(worker);
}

// ---- its worker dies

Runs::Culprit Runs::culprit_of(const Worker& worker, const WorkerExited& event) const {
  // One thread runs the code of a whole batch, so nobody knows whose element it was.
  if (worker.running.front().batch > 0) return {};
  if (worker.killed()) {
    if (const Call* blocker = find(worker.id, worker.blocker)) {
      return Culprit{blocker->id, blocker->function, "blocked the event loop"};
    }
    const auto over = std::ranges::find_if(worker.running, is_over);
    if (over != worker.running.end()) {
      return Culprit{over->id, over->function, "did not end", /*overdue=*/true};
    }
  } else if (event.death.cause != "killed" && !worker.blameless && event.find(event.culprit)) {
    if (const Call* call = find(worker.id, event.culprit)) {
      return Culprit{call->id, call->function, "ended the worker"};
    }
  }
  return {};
}

void Runs::settle_deaths(Worker& worker, const WorkerExited& event, const DeathPtr& death) {
  const auto several = std::ranges::count_if(
      worker.running, [&](const Call& call) { return event.find(call.id) != nullptr; });
  const bool batch = !worker.running.empty() && worker.running.front().batch > 0;
  const Culprit culprit = several > 1 ? culprit_of(worker, event) : Culprit{};
  Again again;
  DeathPtr beside = death;  // as bystanders are told of it
  if (culprit.call) {
    Death told = *death;
    told.detail = fmt::format("call {} of function \"{}\" {}", culprit.call.value,
                              culprit.function->spec.name, culprit.deed);
    beside = std::make_shared<const Death>(std::move(told));
  }
  while (!worker.running.empty()) {
    Call& call = worker.running.front();
    const StartedCall* started = event.find(call.id);
    if (started && started->fingerprint != 0) call.fingerprint = started->fingerprint;
    Lost lost;
    lost.started = started != nullptr;
    lost.together = batch && started && several > 1;
    if (started && several > 1) {
      if (culprit.call) {
        const bool guilty = call.id == culprit.call || (culprit.overdue && is_over(call));
        lost.role = guilty ? DeathRole::kCulprit : DeathRole::kBystander;
      } else if (!worker.killed() && death->cause != "killed") {
        lost.role = DeathRole::kSuspect;
      }
    }
    settle_death(worker, call, lost, lost.role == DeathRole::kBystander ? beside : death, again);
  }
  run_again(again);
}

// Halves of a batch find the call that kills in as many steps as the batch has binary digits.
void Runs::run_again(Again& again) {
  const std::span<Call* const> suspects(again.suspects);
  const std::size_t half = (suspects.size() + 1) / 2;
  waiting_.take_back_together(suspects.first(half));
  waiting_.take_back_together(suspects.subspan(half));
  waiting_.take_back_together(again.others);
}

void Runs::settle_death(Worker& worker, Call& call, const Lost& lost, const DeathPtr& death,
                        Again& again) {
  const bool started = lost.started;
  const DeathRole role = lost.role;
  const auto run = std::get<Call::Running>(call.state);
  Session* session = call.session;
  const bool ours = worker.killed() || death->cause == "killed";
  const bool late = run.rung != Rung::kNone || frame_.now >= call.deadline;
  const bool innocent =
      role == DeathRole::kBystander || role == DeathRole::kSuspect || lost.together;
  const bool halved = lost.together && call.traits.idempotent && !run.cancelled && !late;
  if (started && !ours && role != DeathRole::kBystander && !worker.blameless) {
    if (halved) {
      ++call.batch_deaths;
    } else {
      blame(call, role);
    }
  }
  Ending late_ending = run.reply
                           ? calls_.reply_ending(call, *run.reply, true)
                           : calls_.timeout_ending(call, started ? Effect::kMaybe : Effect::kNone);
  LostAttempt attempt;
  attempt.started = started;
  attempt.has_session = session != nullptr;
  attempt.session_established = session && session->established;
  attempt.session_restorable = session && session->saved;
  attempt.idempotent = call.traits.idempotent && !call.spoke;
  attempt.innocent = innocent;
  attempt.cancelled = run.cancelled;
  attempt.quarantined = quarantine_.holds(frame_.now, call.fingerprint, frame_.quarantine_limits());
  attempt.dispatches = call.attempts;
  attempt.retries = call.retries;
  attempt.retries_max = frame_.settings.calls.retries;
  stop(worker, call);
  waiting_.note_room(*call.function);
  if (started) call.effect_min = Effect::kMaybe;
  call.last_death = death;
  if (session && started) session->established = true;
  if (late) {
    REACHED("death: of a call whose time was over");
    return calls_.resolve(call, std::move(late_ending), run.reply ? run.reply->bytes : 0);
  }
  Duration pause{0};
  AfterDeath then = decide(call, attempt, pause);
  // Nobody waits for it, and it may well be innocent.
  if (lost.together && attempt.idempotent && run.cancelled) then = AfterDeath::kCancelled;
  if (then == AfterDeath::kRetry || then == AfterDeath::kRedispatch) {
    if (then == AfterDeath::kRetry) REACHED("retry: an idempotent call that had started");
    if (then == AfterDeath::kRedispatch) REACHED("retry: a call that had not started");
    const bool in_batch = halved || (!started && call.batch_deaths > 0);
    if (in_batch && then == AfterDeath::kRedispatch) {
      if (halved) REACHED("retry: half of a batch that died");
      call.state = Call::InLane{};
      (halved ? again.suspects : again.others).push_back(&call);
      return;
    }
    return waiting_.take_back(call, then == AfterDeath::kRetry, pause);
  }
  Ending ending;
  ending.death = death;
  ending.role = role;
  ending.effect = started ? Effect::kMaybe : Effect::kNone;
  if (then == AfterDeath::kSessionLost) {
    ending.kind = OutcomeKind::kSessionLost;
    ending.message = session_over(SessionOver::kLost, session->id, {}, death.get());
  } else if (then == AfterDeath::kCancelled) {
    ending.kind = OutcomeKind::kCancelled;
    ending.message = fmt::format("The call was cancelled; its worker died {}.",
                                 started ? "while its batch ran" : "before it began");
  } else {
    ending.kind = OutcomeKind::kWorkerDied;
    ending.message = fmt::format("The worker died {} this call ({}).",
                                 started ? "while it ran" : "before it began", describe(*death));
    const bool to_blame = !ours || role == DeathRole::kCulprit;
    if (started && to_blame && !innocent) ending.breaker = Breaker::Result::kFailure;
  }
  calls_.resolve(call, std::move(ending));
}

void Runs::blame(const Call& call, DeathRole role) {
  const Quarantine::Limits limits = frame_.quarantine_limits();
  const Session* session = call.session;
  const std::string_view id = session ? session->id : std::string_view{};
  const std::string& function = call.function->spec.name;
  // Of one that is known, too, only deaths while alone count: what breaks memory may do so in the
  // midst of another call's code.
  if (role != DeathRole::kNone) {
    return quarantine_.suspect(frame_.now, call.fingerprint, function, id, limits);
  }
  quarantine_.died(frame_.now, call.fingerprint, function, id, limits, 1 + call.batch_deaths);
  if (!quarantine_.holds(frame_.now, call.fingerprint, limits)) return;
  frame_.notice(Notice::Level::kWarn,
                fmt::format("A request of function \"{}\" killed {} workers in a row and is "
                            "quarantined.",
                            call.function->spec.name, limits.deaths));
}

// What after_death() says, as far as the pool's end, the session's and the budget allow it.
AfterDeath Runs::decide(const Call& call, const LostAttempt& attempt, Duration& pause) {
  const Session* session = call.session;
  const bool overdue = frame_.phase == Phase::kOverdue;
  const AfterDeath then = after_death(attempt);
  const bool again = then == AfterDeath::kRedispatch || then == AfterDeath::kRetry;
  if (again && overdue) return AfterDeath::kFail;
  if (again && session && session->detached) return AfterDeath::kSessionLost;
  if (then != AfterDeath::kRetry) return then;
  pause = retry_pause(call.retries + 1, frame_.prng);
  const bool in_time = frame_.now + pause < call.deadline;
  if (in_time && retry_budget_.take(frame_.now, frame_.settings.calls.retry_budget)) return then;
  REACHED("retry: no time or no budget left");
  return AfterDeath::kFail;
}

void Runs::on(const CallCancelled& event) {
  Call* found = calls_.find(event.call);
  if (!found) return;
  Call& call = *found;
  if (call.told || call.in<Call::Saving>()) return;  // nobody waits, or it is done
  auto* run = call.in<Call::Running>();
  if (!run) {
    Ending ending;
    ending.kind = OutcomeKind::kCancelled;
    ending.message = "The call was cancelled while it waited.";
    return waiting_.end(call, std::move(ending));
  }
  if (run->cancelled || run->rung != Rung::kNone) return;
  if (call.key && !call.key->followers.empty()) return;  // others wait for its answer
  run->cancelled = true;
  frame_.emit(CancelCall{call.last_worker, call.id, call.dispatched});
  nesting_.cancel_children(call);
}

void Runs::on(const StreamMoved& event) {
  Call* found = find(event.worker, event.call);
  if (!found) return;
  auto& run = std::get<Call::Running>(found->state);
  run.moved = frame_.now;
  found->spoke = true;
  if (run.credit > 0) --run.credit;
}

void Runs::on(const StreamGranted& event) {
  Call* call = calls_.find(event.call);
  if (!call || !call->traits.stream || event.items == 0) return;
  call->granted += event.items;
  auto* run = call->in<Call::Running>();
  if (!run) return;
  const bool held_back = run->credit == 0;
  run->credit += event.items;
  if (!held_back || run->rung != Rung::kNone) return;
  run->moved = frame_.now;
  rearm(*call);
}

// The call was broken off, so its worker serves no other.
bool Runs::costs_worker(const Call& call, const WorkerReplied& event) const {
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

// When a silent stream is given up; nullopt: the call is none, or may be silent. A worker whose
// credit is used up is held back by its reader, who has until the call's deadline.
std::optional<Time> Runs::idle_due(const Call& call) const {
  const Duration limit = frame_.settings.calls.stream_idle;
  if (!call.traits.stream || !call.function->spec.stream || limit <= Duration{0})
    return std::nullopt;
  const auto& run = std::get<Call::Running>(call.state);
  if (run.credit == 0) return std::nullopt;
  return run.moved + limit;
}

bool Runs::is_pressed(const Call& call) {
  return std::get<Call::Running>(call.state).rung != Rung::kNone;
}

bool Runs::is_over(const Call& call) {
  const auto& run = std::get<Call::Running>(call.state);
  return run.rung == Rung::kGiveUp;
}

Time Runs::due(const Call& call) const {
  const auto& run = std::get<Call::Running>(call.state);
  if (run.rung == Rung::kNone) {
    return std::min(call.deadline, idle_due(call).value_or(call.deadline));
  }
  if (run.rung == Rung::kGiveUp) return Time::max();
  const Duration grace = frame_.settings.calls.grace;
  const Time told_by = call.told ? Time::max() : call.deadline + grace;
  if (is_pressed_by_another(call)) return told_by;
  const Time begin = call.batch > 1 ? run.worker->batch_deadline : call.deadline;
  const Time rung = paced_rung_due(next_rung(run.rung), begin, grace, run.climbed);
  return call.batch > 1 ? std::min(rung, told_by) : rung;
}

// Their own deadlines only tell the callers. The ladder begins when the last one has passed.
bool Runs::is_pressed_by_another(const Call& call) {
  const auto& run = std::get<Call::Running>(call.state);
  return call.batch > 1 && &run.worker->running.back() != &call;
}

void Runs::climb(Call& call) {
  auto& run = std::get<Call::Running>(call.state);
  if (run.rung == Rung::kNone && frame_.now < call.deadline && due(call) <= frame_.now) {
    call.limit = Call::Limit::kSilence;  // from here on its deadline is now
    call.deadline = frame_.now;
  }
  while (due(call) <= frame_.now) {
    const bool one_of_several = call.batch > 1 && run.rung != Rung::kNone;
    if (one_of_several && !call.told && frame_.now >= call.deadline + frame_.settings.calls.grace) {
      calls_.tell(call, calls_.timeout_ending(call, Effect::kMaybe));
      continue;
    }
    run.rung = next_rung(run.rung);
    run.climbed = frame_.now;
    take_rung(call, run);
  }
  rearm(call);
}

// The call's grace is over, and others run beside it: they may finish, if the worker's loop turns.
void Runs::give_up(Worker& worker, const Call& call) {
  if (worker.turned < call.deadline) {
    if (worker.block) worker.blocker = worker.block->by;
    return workers_.kill(worker, KillCause::kTimeout);
  }
  if (!worker.doomed) replacements_.doom(worker);
  workers_.end_doomed(worker);
}

void Runs::take_rung(Call& call, const Call::Running& run) {
  Worker& worker = *run.worker;
  switch (run.rung) {
    case Rung::kNone:
      break;
    case Rung::kCancel:
      nesting_.cancel_children(call);
      if (call.alone && (call.batch <= 1 || frame_.now >= worker.batch_deadline)) {
        workers_.suspect(worker);
      }
      // Of a shared one also if its caller has cancelled it: the driver asks the loop anew.
      if (!run.cancelled || !call.alone) {
        frame_.emit(CancelCall{worker.id, call.id, call.dispatched});
      }
      if (frame_.settings.calls.answer_at == AnswerAt::kDeadline) {
        calls_.tell(call, calls_.timeout_ending(call, Effect::kMaybe));
      }
      break;
    case Rung::kInterrupt:
      calls_.judge(call);
      frame_.emit(InterruptCall{worker.id, call.id});
      break;
    case Rung::kDump:
      if (call.alone || worker.running.size() == 1) frame_.emit(DumpWorker{worker.id, call.id});
      break;
    case Rung::kKill:
      if (call.alone || worker.running.size() == 1) workers_.kill(worker, KillCause::kTimeout);
      break;
    case Rung::kGiveUp:  // its end is the killed worker's, which has a timer of its own
      if (!worker.ending()) give_up(worker, call);
      if (call.told) break;
      calls_.tell(call, run.reply ? calls_.reply_ending(call, *run.reply, true)
                                  : calls_.timeout_ending(call, Effect::kMaybe));
      break;
  }
}

}  // namespace keelback::core
