#include "core/sessions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "core/snapshots.h"
#include "core/waiting.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

SessionTable::Limits session_limits(const Settings& settings) {
  return {settings.sessions.idle_ttl, settings.sessions.max_age};
}

Tombstones::Limits stone_limits(const Settings& settings) {
  return {settings.sessions.tombstone_ttl, settings.sessions.max};
}

SessionOver why_over(SessionTable::Verdict verdict) {
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

SessionGone::How gone_by(SessionEndReason reason) {
  return reason == SessionEndReason::kExpired ? SessionGone::How::kExpired
                                              : SessionGone::How::kEnded;
}

}  // namespace

Sessions::Sessions(Frame& frame, Waiting& waiting, Snapshots& snapshots, Workers& workers,
                   Seeds seeds)
    : frame_(frame),
      waiting_(waiting),
      snapshots_(snapshots),
      workers_(workers),
      table_(session_limits(frame.settings), seeds.table),
      tombstones_(stone_limits(frame.settings), seeds.tombstones) {}

std::optional<Time> Sessions::next_deadline() const {
  const std::optional<Time> session = table_.next_deadline(frame_.now);
  const std::optional<Time> stone = tombstones_.next_deadline();
  return session && stone ? std::min(session, stone) : session ? session : stone;
}

void Sessions::set_limits() {
  table_.set_limits(session_limits(frame_.settings));
  tombstones_.set_limits(stone_limits(frame_.settings));
}

// ---- calls

Session* Sessions::find_live(std::string_view id) {
  Session* session = table_.find(id);
  if (!session) return nullptr;
  const auto verdict = table_.judge(*session, frame_.now);
  if (verdict != SessionTable::Verdict::kLive) {
    end(*session, verdict);
    return nullptr;
  }
  if (!session->lane && is_leaving(*session)) move_out(*session);
  return session;
}

void Sessions::enter(const CallSubmitted& event, Session* session, Call& call) {
  if (session) {
    table_.enter(*session);
  } else {
    tombstones_.remove(event.session);
    const Affinity mode = event.affinity.value_or(frame_.settings.sessions.mode);
    const std::uint64_t birth = event.birth != 0 ? event.birth : frame_.prng.next();
    session = &table_.open(frame_.now, event.session, mode, birth);
    session->watched = event.birth != 0;
    ++frame_.counters.opened;
  }
  call.session = session;
  call.birth = session->birth;
  call.epoch = session->epoch;
  waiting_.queue().append(*session->lane, call);
}

SessionTicket Sessions::take(Worker& worker, Call& call) {
  Session* session = call.session;
  Worker* old = session->home ? session->home->owner : nullptr;
  if (old && old != &worker) {
    if (session->established) {
      tell_end(*session, SessionEndReason::kMoved);
      ++session->epoch;
      ++frame_.counters.moved;
      session->established = false;
    }
    if (session->asking == Asking::kAsked) table_.set_asking(*session, Asking::kNot);
    leave_home(*session);
    workers_.maybe_stop(*old);
  }
  if (!session->home) {
    waiting_.placement().before_change(worker);
    table_.bind(*session, *worker.home);
    waiting_.placement().after_change(worker);
  }
  call.birth = session->birth;
  call.epoch = session->epoch;
  SessionTicket ticket{session->id, session->birth, session->epoch};
  ticket.opens = !session->established && !session->saved;
  ticket.saves = frame_.settings.sessions.snapshot == SnapshotMode::kEachCall;
  if (!session->established && session->saved) {
    ticket.restore = snapshots_.book().usable(session->birth);
  }
  return ticket;
}

Call* Sessions::next_head(Session& session) {
  Lane& lane = *session.lane;
  if (lane.running) return nullptr;
  if (session.detached) {
    finish(session, session.end_reason, gone_by(session.end_reason));
  } else if (!lane.waiting.empty()) {
    Call& head = lane.waiting.front();
    if (!head.in<Call::InLane>()) return nullptr;  // it is head already, or backs off
    waiting_.queue().make_head(head, &lane, frame_.now);
    return &head;
  } else if (session.established || session.saved) {
    go_idle(session);
  } else {
    ++frame_.counters.ended;  // nothing ever ran in it
    forget(session, SessionGone::How::kEnded);
  }
  return nullptr;
}

// It has no calls any more.
void Sessions::go_idle(Session& session) {
  const bool dead = session.home && !session.home->alive;
  if (dead && !session.saved) return end(session, SessionTable::Verdict::kLost);
  if (dead) lay_off(session);
  table_.leave(session, frame_.now);
}

void Sessions::settle(Session& session) {
  if (Call* head = next_head(session)) waiting_.place(*head);
}

void Sessions::settle_homeless(Session& session) {
  if (!session.home && !session.detached && session.established) {
    if (!session.saved) return lose(session);
    lay_off(session);
  }
  settle(session);
}

// ---- homes

void Sessions::leave_home(Session& session) {
  Worker* owner = session.home ? session.home->owner : nullptr;
  if (owner) waiting_.placement().before_change(*owner);
  table_.unbind(session);
  if (owner) waiting_.placement().after_change(*owner);
}

void Sessions::lay_off(Session& session) {
  CHECK(session.saved);
  leave_home(session);
  session.established = false;
  ++session.epoch;
  if (!session.lane) return;
  for (auto each = session.lane->waiting.begin(); each != session.lane->waiting.end();) {
    Call& call = *each++;
    if (!call.traits.fenced) continue;
    Ending ending;
    ending.kind = OutcomeKind::kStaleEpoch;
    ending.message = fmt::format(
        "Session \"{}\" was restored in epoch {} while this call waited for an earlier one.",
        session.id, session.epoch);
    waiting_.end_in_lane(call, std::move(ending));
  }
}

void Sessions::move_out(Session& session) {
  CHECK(session.home && (!session.lane || !session.lane->running));
  if (Worker* owner = session.home->owner) {
    waiting_.release_head(session, *owner);
    tell_end(session, SessionEndReason::kDrained);
  }
  lay_off(session);
}

bool Sessions::is_leaving(const Session& session) const {
  if (!session.saved || !session.home) return false;
  const Worker* owner = session.home->owner;
  return !owner || owner->shown() == WorkerState::kDraining;
}

void Sessions::drop_home(Worker& worker, DeathPtr death) {
  waiting_.withdraw(worker);
  Home* home = std::exchange(worker.home, nullptr);
  if (!home) return;
  std::vector<Session*> reopen;
  std::size_t active = home->active.size();
  frame_.counters.lost += home->idle.size() + home->tried.size();
  table_.kill_home(*home, std::move(death));
  for (; active > 0; --active) {
    Session& session = home->active.front();
    if (session.lane->running) {  // its answer waits for the store: see settle_homeless()
      table_.unbind(session);
    } else if (session.detached) {
      tell_gone(session, gone_by(session.end_reason));
      snapshots_.forget(session);
      table_.erase(session);
    } else if (session.established && !session.saved) {
      lose(session);
    } else {
      waiting_.release_head(session, worker);
      session.saved ? lay_off(session) : table_.unbind(session);
      reopen.push_back(&session);
    }
  }
  CHECK(worker.queue.empty());
  for (Session* session : reopen) settle(*session);
}

// ---- ends

void Sessions::sweep(std::size_t count) {
  while (count-- > 0) {
    Session* session = table_.next_due(frame_.now);
    if (!session) return;
    end(*session, table_.judge(*session, frame_.now));
  }
}

void Sessions::on(const SessionEnded& event) {
  Session* session = table_.find(event.session);
  if (!session) return;
  if (const auto verdict = table_.judge(*session, frame_.now);
      verdict != SessionTable::Verdict::kLive) {
    return end(*session, verdict);
  }
  Ending ending;
  ending.kind = OutcomeKind::kSessionExpired;
  ending.message =
      fmt::format("Session \"{}\" was ended by request while this call waited.", event.session);
  end_lane(*session, ending);
  ++frame_.counters.ended;
  if (session->lane && session->lane->running) {
    session->end_reason = SessionEndReason::kEnded;
    return table_.detach(*session);
  }
  finish(*session, SessionEndReason::kEnded, SessionGone::How::kEnded);
}

void Sessions::on(const SessionTaken& event) {
  Session* session = table_.find(event.session);
  if (!session || (event.birth != 0 && event.birth != session->birth)) return;
  Ending ending;
  ending.kind = OutcomeKind::kSessionLost;
  ending.message = event.detail;
  end_lane(*session, ending);
  ++frame_.counters.lost;
  if (session->lane && session->lane->running) {
    session->lane->taken_by = event.detail;
    session->lane->may_be_kept = event.may_be_kept;
    session->end_reason = SessionEndReason::kMoved;
    return table_.detach(*session);
  }
  finish(*session, SessionEndReason::kMoved, SessionGone::How::kEnded);
}

void Sessions::end(Session& session, SessionTable::Verdict verdict) {
  const SessionOver why = why_over(verdict);
  const bool lost = why == SessionOver::kLost;
  Ending ending;
  ending.kind = lost ? OutcomeKind::kSessionLost : OutcomeKind::kSessionExpired;
  if (lost && session.home) ending.death = session.home->death;
  const SessionTable::Limits& limits = table_.limits();
  const Duration over = why == SessionOver::kIdle ? limits.idle_ttl : limits.max_age;
  if (session.lane && !session.lane->waiting.empty()) {
    ending.message = session_over(why, session.id, over, ending.death.get());
    end_lane(session, ending);
  }
  if (!lost) ++frame_.counters.expired;  // losses are counted when the worker dies
  tombstones_.add(frame_.now, session.id, why, over, ending.death);
  if (session.lane && session.lane->running) {
    session.end_reason = SessionEndReason::kExpired;
    return table_.detach(session);
  }
  finish(session, SessionEndReason::kExpired,
         lost ? SessionGone::How::kLost : SessionGone::How::kExpired);
}

// Ends every waiting call of the session.
void Sessions::end_lane(Session& session, const Ending& ending) {
  if (!session.lane) return;
  while (!session.lane->waiting.empty()) {
    Call& call = session.lane->waiting.front();
    waiting_.end_in_lane(call, Ending{ending});
  }
}

void Sessions::tell_end(const Session& session, SessionEndReason reason) {
  if (!session.established || !session.home || !session.home->owner) return;
  const Worker& worker = *session.home->owner;
  if (worker.ending()) return;
  frame_.emit(EndSession{worker.id, session.id, session.birth, reason});
}

void Sessions::tell_gone(const Session& session, SessionGone::How how) {
  if (session.watched) frame_.emit(SessionGone{session.id, session.birth, how});
}

void Sessions::finish(Session& session, SessionEndReason reason, SessionGone::How how) {
  tell_end(session, reason);
  forget(session, how);
}

void Sessions::forget(Session& session, SessionGone::How how) {
  tell_gone(session, how);
  Worker* owner = session.home ? session.home->owner : nullptr;
  snapshots_.forget(session);
  if (owner) waiting_.placement().before_change(*owner);
  table_.erase(session);
  if (!owner) return;
  waiting_.placement().after_change(*owner);
  workers_.maybe_stop(*owner);
}

void Sessions::lose(Session& session) {
  ++frame_.counters.lost;
  end(session, SessionTable::Verdict::kLost);
}

}  // namespace keelback::core
