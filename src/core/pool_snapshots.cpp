// Sessions that outlive their worker: when their state is asked for, what waits for it to be
// stored, and how they come to another home.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

// Sessions whose state a draining worker is asked for before it has answered.
constexpr std::uint32_t kSavesAtOnce = 64;

}  // namespace

void Pool::Impl::keep_snapshot(const Session& session, WorkerId worker, CallId call,
                               std::uint64_t number) {
  KeepSnapshot action;
  action.worker = worker;
  action.call = call;
  action.session = session.id;
  action.birth = session.birth;
  action.epoch = session.epoch;
  action.number = number;
  action.mode = session.mode;
  action.age = frame_.now - session.opened_at;
  frame_.emit(std::move(action));
}

void Pool::Impl::note_unsavable(Session& session, std::string_view why) {
  ++frame_.counters.snapshots_failed;
  if (session.unsavable) return;  // said once a session
  sessions_.set_asked(session, false, true);
  frame_.notice(Notice::Level::kWarn,
                fmt::format("The state of session \"{}\" cannot be saved: {}", session.id, why));
}

// ---- a call has changed its session's state

bool Pool::Impl::save_first(Call& call, const WorkerReplied& event) {
  Session& session = *call.session;
  if (event.snapshot == Snapshot::kNone && !snapshots_.knows(session.birth)) return false;
  if (session.detached) return false;  // it ends with this call
  // The state that an interrupt left is not acknowledged: the last acknowledged one moves.
  if (costs_worker(call, event) && session.saved && event.snapshot != Snapshot::kNone) return false;
  const std::uint64_t number = snapshots_.begin(session.birth);
  sessions_.set_saved(session, false);
  if (event.snapshot == Snapshot::kTaken) {
    sessions_.set_asked(session, false, false);
    keep_snapshot(session, event.worker, call.id, number);
  } else {
    if (event.snapshot == Snapshot::kFailed) note_unsavable(session, event.snapshot_error);
    frame_.emit(DropSnapshot{call.id, session.id, session.birth, number});
  }
  return true;
}

// The answer is in, but nobody hears it before the store has its session's state.
void Pool::Impl::hold(Call& call, const WorkerReplied& event) {
  call.state = CallState::kSaving;
  call.reply = event.kind;
  call.reply_bytes = event.result_bytes;
  call.session->lane->running = &call;
  frame_.timers.arm(call, call.told ? frame_.now + store_patience() : call.deadline);
}

// How long a call that nobody waits for any more waits for the store.
Duration Pool::Impl::store_patience() const {
  return std::max<Duration>(frame_.settings.calls.grace, std::chrono::seconds(1));
}

void Pool::Impl::end_saving(Call& call, Ending&& ending) {
  Session* session = call.session;
  frame_.timers.disarm(call);
  session->lane->running = nullptr;
  reply_bytes_ = call.reply_bytes;
  resolve(call, std::move(ending));
  reply_bytes_ = 0;
  settle_homeless(*session);
}

// A store that takes longer than the call has: it was done, but its state is not safe.
void Pool::Impl::saving_due(Call& call) {
  const bool tell_now = !call.told && frame_.settings.calls.answer_at == AnswerAt::kDeadline;
  Ending ending = timeout_ending(call, tell_now ? Effect::kMaybe : Effect::kDone);
  ending.breaker = Breaker::Result::kNeutral;
  ending.message =
      "The call was done, but the deadline passed before its session's state was stored.";
  if (!tell_now) return end_saving(call, std::move(ending));
  tell(call, std::move(ending));
  frame_.timers.arm(call, frame_.now + store_patience());
}

// Its worker may have gone while the answer was held.
void Pool::Impl::settle_homeless(Session& session) {
  if (session.home || session.detached || !session.established) return settle_lane(session);
  if (session.saved) {
    lay_off(session);
    return settle_lane(session);
  }
  ++frame_.counters.lost;
  end_session(session, SessionTable::Verdict::kLost);
}

void Pool::Impl::on(const SnapshotSettled& event) {
  Session* session = sessions_.find(event.session);
  if (session && session->birth != event.birth) session = nullptr;
  const bool latest = snapshots_.settle(event.birth, event.number, event.kept);
  if (event.kept) ++frame_.counters.snapshots_kept;
  if (event.failed) ++frame_.counters.snapshots_failed;
  if (latest && session && sessions_.judge(*session, frame_.now) != SessionTable::Verdict::kLost) {
    sessions_.set_saved(*session, event.kept);
  }
  if (Call* found = calls_.find(event.call.value); found && found->state == CallState::kSaving) {
    Call& call = *found;
    Worker* home = call.session->home ? call.session->home->owner : nullptr;
    end_saving(call, reply_ending(call, call.reply, call.told));
    if (home) leave_worker(*home);
  }
  if (Worker* worker = workers_.find(event.worker)) {
    if (session && latest) sessions_.set_asked(*session, false, !event.kept);
    if (worker->saves > 0) --worker->saves;
    leave_worker(*worker);
  }
}

void Pool::Impl::on(const RestoreFailed& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker || !worker->running || worker->running->id != event.call) return;
  Call& call = *worker->running;
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
    ending = timeout_ending(call, Effect::kNone);
    ending.breaker = Breaker::Result::kNeutral;
  }
  stop_running(*worker, call);
  note_room(*call.function);
  resolve(call, std::move(ending));
  if (!worker->killed &&
      (worker->state == WorkerState::kSuspect || worker->state == WorkerState::kBusy)) {
    workers_.set_state(*worker, worker->at_rest());
  }
  worker->choosing = true;
  if (!event.gone || session->detached) {
    settle_lane(*session);
  } else {
    sessions_.set_saved(*session, false);
    ++frame_.counters.lost;
    end_session(*session, SessionTable::Verdict::kLost);
  }
  worker->choosing = false;
  offer(*worker);
  leave_worker(*worker);
}

// ---- from home to home

// Its home is gone or left behind: the next call makes its state anew elsewhere, in a new epoch.
// Whoever demanded the old epoch is told.
void Pool::Impl::lay_off(Session& session) {
  CHECK(session.saved);
  if (session.home) {
    Worker* owner = session.home->owner;
    if (owner) placement_.before_change(*owner);
    sessions_.unbind(session);
    if (owner) placement_.after_change(*owner);
  }
  session.established = false;
  ++session.epoch;
  if (!session.lane) return;
  for (auto each = session.lane->waiting.begin(); each != session.lane->waiting.end();) {
    Call& call = *each++;
    if (!call.fenced) continue;
    Ending ending;
    ending.kind = OutcomeKind::kStaleEpoch;
    ending.message = fmt::format(
        "Session \"{}\" was restored in epoch {} while this call waited for an earlier one.",
        session.id, session.epoch);
    note_room(*call.function);
    leave_queue(call);
    resolve(call, std::move(ending));
  }
}

// A saved session leaves a home that is on its way out, with what waits in it.
void Pool::Impl::move_out(Session& session) {
  CHECK(session.home && (!session.lane || !session.lane->running));
  if (session.home->owner && session.lane && !session.lane->waiting.empty()) {
    Call& head = session.lane->waiting.front();
    if (head.queue == &session.home->owner->queue) {
      unqueue(head);
      head.is_head = false;
    }
  }
  if (session.home->owner) tell_end(session, SessionEndReason::kDrained);
  lay_off(session);
}

// It cannot stay where it is, and need not: its state is saved.
bool Pool::Impl::is_leaving(const Session& session) const {
  if (!session.saved || !session.home) return false;
  const Worker* owner = session.home->owner;
  return !owner || owner->state == WorkerState::kDraining;
}

// Whether the state of a session is worth asking for. A pool that shuts down with its store in
// memory leaves nothing behind.
bool Pool::Impl::may_save() const {
  if (frame_.settings.sessions.snapshot == SnapshotMode::kOff || drain_over_) return false;
  return !draining_ || frame_.settings.sessions.store != "memory";
}

// What a draining worker holds goes elsewhere, as far as it is saved or can be.
void Pool::Impl::evacuate(Worker& worker) {
  if (worker.state != WorkerState::kDraining || worker.stopping || worker.killed ||
      worker.running || worker.checking || !worker.home) {
    return;
  }
  const bool may_ask = may_save();
  std::vector<Session*> moving;
  const auto ask = [&](Session& session) {
    sessions_.set_asked(session, true, false);
    ++worker.saves;
    frame_.emit(SaveSession{worker.id, session.id, session.birth, session.epoch});
  };
  for (Session& session : worker.home->active) {
    if (session.lane->running || session.detached) continue;
    if (session.saved) {
      moving.push_back(&session);
    } else if (may_ask && session.established && !session.asked && !session.unsavable &&
               worker.saves < kSavesAtOnce) {
      ask(session);
    }
  }
  while (may_ask && worker.saves < kSavesAtOnce && !worker.home->idle.empty()) {
    ask(worker.home->idle.front());
  }
  if (worker.saves > 0) hold_heads(worker);  // a hinted session would move without its state
  for (Session* session : moving) {
    move_out(*session);
    settle_lane(*session);
  }
}

void Pool::Impl::on(const SessionSaved& event) {
  Worker* worker = workers_.find(event.worker);
  if (!worker) return;
  Session* session = sessions_.find(event.session);
  const bool here = session && session->birth == event.birth && session->asked && session->home &&
                    session->home->owner == worker;
  if (here && session->saved) {  // what its last call had left behind has arrived meanwhile
    sessions_.set_asked(*session, false, false);
  } else if (here && event.taken) {
    keep_snapshot(*session, worker->id, CallId{}, snapshots_.begin(session->birth));
    return;  // the worker takes no call of it before it is stored
  }
  if (here && !session->saved) note_unsavable(*session, event.error);
  if (worker->saves > 0) --worker->saves;
  leave_worker(*worker);
}

// Something that held a draining worker up is over.
void Pool::Impl::leave_worker(Worker& worker) {
  evacuate(worker);
  offer(worker);
  maybe_stop(worker);
}

// ---- from run to run

void Pool::Impl::on(const SessionsFound& event) {
  for (const FoundSession& found : event.sessions) {
    if (sessions_.find(found.id) || sessions_.attached() >= frame_.settings.sessions.max) {
      ++frame_.counters.evicted;
      frame_.emit(DropSnapshot{CallId{}, found.id, found.birth, 0});
      continue;
    }
    Session& session = sessions_.adopt(found.id, found.mode, found.birth, frame_.now - found.age,
                                       frame_.now - found.idle);
    session.epoch = found.epoch + 1;
    snapshots_.find(found.birth, found.number);
    if (found.key.empty() || frame_.settings.calls.idempotency_ttl <= Duration{0} ||
        idempotency_.full() || idempotency_.find(frame_.now, found.key, Duration::max())) {
      if (found.answered) frame_.emit(ForgetOutcome{found.answered});
      continue;
    }
    IdempotencyEntry& entry = idempotency_.lead(found.key, found.fingerprint, found.answered);
    idempotency_.keep(entry, frame_.now - found.idle, found.kind, Effect::kDone,
                      found.answer_bytes);
  }
  for (const std::string& id : event.lost) {
    if (sessions_.find(id)) continue;
    ++frame_.counters.lost;
    tombstones_.add(frame_.now, id, SessionOver::kLost, Duration{0}, nullptr);
  }
  sessions_.settle_adopted();
}

}  // namespace keelback::core
