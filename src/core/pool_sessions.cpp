// How sessions end: idle, too old, ended by an operator, or lost with their worker.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {

SessionOver Pool::Impl::ending_of(SessionTable::Verdict verdict) const {
  switch (verdict) {
    case SessionTable::Verdict::kIdleOver:
      return SessionOver::kIdle;
    case SessionTable::Verdict::kAgeOver:
      return SessionOver::kAge;
    case SessionTable::Verdict::kLost:
    case SessionTable::Verdict::kLive:
      break;
  }
  return SessionOver::kLost;
}

void Pool::Impl::tell_end(const Session& session, SessionEndReason reason) {
  if (!session.established || !session.home || !session.home->owner) return;
  const Worker& worker = *session.home->owner;
  if (worker.killed || worker.stopping) return;
  frame_.emit(EndSession{worker.id, session.id, session.birth, reason});
}

void Pool::Impl::forget(Session& session) {
  Worker* owner = session.home ? session.home->owner : nullptr;
  if (snapshots_.forget(session.birth)) {
    frame_.emit(DropSnapshot{CallId{}, session.id, session.birth, 0});
  }
  if (owner) placement_.before_change(*owner);
  sessions_.erase(session);
  if (!owner) return;
  placement_.after_change(*owner);
  maybe_stop(*owner);
}

void Pool::Impl::finish_session(Session& session, SessionEndReason reason) {
  tell_end(session, reason);
  forget(session);
}

// Ends every waiting call of the session.
void Pool::Impl::end_lane(Session& session, const Ending& ending) {
  if (!session.lane) return;
  while (!session.lane->waiting.empty()) {
    Call& call = session.lane->waiting.front();
    note_room(*call.function);
    leave_queue(call);
    resolve(call, Ending{ending});
  }
}

void Pool::Impl::end_session(Session& session, SessionTable::Verdict verdict) {
  const SessionOver why = ending_of(verdict);
  const bool lost = why == SessionOver::kLost;
  Ending ending;
  ending.kind = lost ? OutcomeKind::kSessionLost : OutcomeKind::kSessionExpired;
  if (lost && session.home) ending.death = session.home->death;
  const SessionTable::Limits& limits = sessions_.limits();
  const Duration over = why == SessionOver::kIdle ? limits.idle_ttl : limits.max_age;
  if (session.lane && !session.lane->waiting.empty()) {
    ending.message = session_over(why, session.id, over, ending.death.get());
    end_lane(session, ending);
  }
  if (!lost) ++frame_.counters.expired;  // losses are counted when the worker dies
  tombstones_.add(frame_.now, session.id, why, over, ending.death);
  if (session.lane && session.lane->running) {
    session.end_reason = SessionEndReason::kExpired;
    return sessions_.detach(session);
  }
  finish_session(session, SessionEndReason::kExpired);
}

void Pool::Impl::on(const SessionEnded& event) {
  Session* session = sessions_.find(event.session);
  if (!session) return;
  if (const auto verdict = sessions_.judge(*session, frame_.now);
      verdict != SessionTable::Verdict::kLive) {
    return end_session(*session, verdict);
  }
  Ending ending;
  ending.kind = OutcomeKind::kSessionExpired;
  ending.message =
      fmt::format("Session \"{}\" was ended by request while this call waited.", event.session);
  end_lane(*session, ending);
  ++frame_.counters.ended;
  if (session->lane && session->lane->running) {
    session->end_reason = SessionEndReason::kEnded;
    return sessions_.detach(*session);
  }
  finish_session(*session, SessionEndReason::kEnded);
}

// The worker's sessions have no worker any more: those in which something ran are lost, unless
// their state is saved; the others open elsewhere. Idle ones are only marked here: the sweep takes
// out the lost, the saved wait for their next call.
void Pool::Impl::drop_home(Worker& worker, DeathPtr death) {
  placement_.withdraw(worker);
  Home* home = std::exchange(worker.home, nullptr);
  if (!home) return;
  std::vector<Session*> reopen;
  std::size_t active = home->active.size();
  frame_.counters.lost += home->idle.size() + home->tried.size();
  sessions_.kill_home(*home, std::move(death));
  for (; active > 0; --active) {
    Session& session = home->active.front();
    if (session.lane->running) {  // its answer waits for the store: see settle_homeless()
      sessions_.unbind(session);
    } else if (session.detached) {
      snapshots_.forget(session.birth)
          ? frame_.emit(DropSnapshot{CallId{}, session.id, session.birth, 0})
          : void();
      sessions_.erase(session);
    } else if (session.established && !session.saved) {
      ++frame_.counters.lost;
      end_session(session, SessionTable::Verdict::kLost);
    } else {
      if (Call* head = session.lane->waiting.empty() ? nullptr : &session.lane->waiting.front();
          head && head->queue == &worker.queue) {
        unqueue(*head);
        head->is_head = false;
      }
      session.saved ? lay_off(session) : sessions_.unbind(session);
      reopen.push_back(&session);
    }
  }
  CHECK(worker.queue.empty());
  for (Session* session : reopen) settle_lane(*session);
}

}  // namespace keelback::core
