#include "cluster/claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "cluster/arrivals.h"
#include "cluster/commits.h"

namespace keelback::cluster {

void Claims::look(const Ticket& ticket) {
  Session& session = sessions_[ticket.session];
  session.id = ticket.session;
  session.waiting = {ticket.id};
  look(session);
}

void Claims::look(Session& session) {
  session.serial = ++frame_.last_serial;
  session.step = Session::Step::kLooking;
  frame_.ask(Find{session.id, session.token}, ForSession{session.id, session.serial});
}

void Claims::start_over(Session& session) {
  arrivals_.forget_gone(session);
  if (session.waiting.empty()) return erase(session);
  if (!members_.is_member() || members_.is_away()) {
    return refuse(session, members_.why_not_ready());
  }
  Session fresh;
  fresh.id = session.id;
  fresh.waiting = std::move(session.waiting);
  end_restore(session);
  retries_.disarm(session.id);
  session = std::move(fresh);
  look(session);
}

void Claims::erase(Session& session) {
  end_restore(session);
  retries_.disarm(session.id);
  sessions_.erase(std::string(session.id));
}

void Claims::refuse(Session& session, std::string message) {
  Refuse refusal;
  refusal.message = std::move(message);
  refusal.retry_after = frame_.config.lease;
  arrivals_.refuse(session, refusal);
  erase(session);
}

void Claims::on(const ForSession& purpose, const Reply& reply) {
  const auto found = sessions_.find(purpose.session);
  if (found == sessions_.end() || found->second.serial != purpose.serial) return;
  Session& session = found->second;
  if (session.step == Session::Step::kClosing) return closed(session, reply);
  if (const auto* none = std::get_if<NoReply>(&reply)) return unanswered(session, *none);
  if (const auto* each = std::get_if<Found>(&reply)) {
    if (each->row && session.token != 0 && each->row->token == session.token) {
      return claimed(session, *each->row);  // the claim whose reply was lost
    }
    return stands(session, *each);
  }
  if (const auto* each = std::get_if<Claimed>(&reply)) {
    if (each->done && each->row) return claimed(session, *each->row);
    end_restore(session);
    if (++session.tries >= kTries) {
      return refuse(session, "Other nodes claim this session all the time.");
    }
    stands(session, *each);
  }
}

void Claims::unanswered(Session& session, const NoReply& reply) {
  const bool may_have_claimed = session.step == Session::Step::kClaiming && !reply.surely_none;
  if (may_have_claimed && !members_.is_away()) return look(session);
  refuse(session, "The database did not answer: " + reply.reason);
}

void Claims::stands(Session& session, const Standing& standing) {
  if (!standing.row) {
    arrivals_.ended(arrivals_.take_ends(session), false);
    arrivals_.refuse_existing(session);
    arrivals_.send_back_hops(session);
    return claim(session, nullptr);
  }
  const SessionRow& row = *standing.row;
  // This node's row, but not in its memory: a claim of its own that came late, or a state that it
  // has dropped. It takes a new token, so that what is under way for the old one is refused.
  const bool own = row.owner == members_.self();
  if (standing.owner && !own) {
    arrivals_.forward(session, *standing.owner);
    return erase(session);
  }
  if (!own) arrivals_.send_back_hops(session);
  if (drop_unowned(session, row)) return;
  if (may_claim(session, row)) claim(session, &row);
}

// Requires: its owner does not live. The row goes if nobody has claimed the session meanwhile.
// False: no ticket that waits ends a session, or the session is over, and a caller is to hear it.
bool Claims::drop_unowned(Session& session, const SessionRow& row) {
  Waiting ends = arrivals_.take_ends(session);
  if (ends.empty()) return false;
  if (row.fate != Fate::kAlive || row.exposed) {
    arrivals_.ended(ends, false);
    return false;
  }
  session.ending = std::move(ends);
  session.birth = row.birth;
  session.token = row.token;
  session.over = Over::kEnded;
  close(session);
  return true;
}

bool Claims::may_claim(Session& session, const SessionRow& row) {
  if (row.schema > kSchema + 1) {
    refuse(session, fmt::format("The session's row has version {}, and this node knows {}.",
                                row.schema, kSchema));
    return false;
  }
  if (!frame_.rules.restore_other_digest && row.number > 0 && row.digest != frame_.config.digest) {
    refuse(session, "The session's state was saved by another version of the application.");
    return false;
  }
  return true;
}

void Claims::claim(Session& session, const SessionRow* row) {
  arrivals_.forget_gone(session);
  if (session.waiting.empty()) return erase(session);
  if (members_.is_draining()) {
    Refuse refusal;
    refusal.kind = OutcomeKind::kShuttingDown;
    refusal.message = "This node drains: another one takes the session.";
    arrivals_.refuse(session, refusal);
    return erase(session);
  }
  if (row && row->number > 0 && !row->exposed && !session.restoring) {
    if (restoring_ >= frame_.config.restores_at_once) {
      session.step = Session::Step::kQueued;
      return queue_.push_back(session.id);
    }
    session.restoring = true;
    ++restoring_;
  }
  session.serial = ++frame_.last_serial;
  session.step = Session::Step::kClaiming;
  session.token = frame_.draw();
  Claim request;
  request.session = session.id;
  request.owner = members_.self();
  request.token = session.token;
  request.birth = frame_.draw();
  request.mode = arrivals_.tickets().find(session.waiting.front())->mode;
  request.commits_each_call = frame_.rules.commits_each_call;
  if (row) request.seen = Claim::Seen{row->birth, row->token};
  session.taken_over = row != nullptr;
  frame_.ask(std::move(request), ForSession{session.id, session.serial});
}

void Claims::claimed(Session& session, const SessionRow& row) {
  session.birth = row.birth;
  session.epoch = row.epoch;
  session.number = row.number;
  session.exposed = row.exposed;
  session.claimed = frame_.now;
  const bool idle = row.idle > frame_.rules.idle_ttl || row.age > frame_.rules.max_age;
  if (row.fate != Fate::kAlive || (session.taken_over && idle)) return tell_over(session, row);
  session.step = Session::Step::kOwned;
  arrivals_.forget_gone(session);
  if (session.waiting.empty() || members_.is_draining()) {  // another node may have it
    session.over = Over::kMoved;
    return close(session);
  }
  ++frame_.counters.claims;
  if (session.taken_over) ++frame_.counters.taken_over;
  Adopt adopt;
  adopt.session = session.id;
  adopt.birth = row.birth;
  adopt.epoch = row.epoch;
  adopt.mode = row.mode;
  adopt.age = row.age;
  adopt.idle = row.idle;
  adopt.state = row.state;
  adopt.answer = row.answer;
  frame_.emit(std::move(adopt));
  if (!row.state) end_restore(session);
  arrivals_.admit(session, std::exchange(session.waiting, {}));
}

// The session ended without its callers' knowledge. One of them hears it now. If this node fails
// before the row is gone, another caller hears it too: better twice than not at all.
void Claims::tell_over(Session& session, const SessionRow& row) {
  const bool lost = row.fate == Fate::kLost;
  Refuse refusal;
  refusal.kind = lost ? OutcomeKind::kSessionLost : OutcomeKind::kSessionExpired;
  refusal.message =
      lost ? fmt::format("Session \"{}\" ended with the node that had it.", session.id)
           : fmt::format("Session \"{}\" was idle for too long, or too old.", session.id);
  arrivals_.ended(arrivals_.take_ends(session), false);
  arrivals_.forget_gone(session);
  const bool renewed = !session.waiting.empty();
  const bool told = arrivals_.tell(session, std::move(refusal));
  if (told) ++(lost ? frame_.counters.sessions_lost : frame_.counters.sessions_expired);
  session.step = Session::Step::kOwned;
  // Nobody is left to hear it: the next caller does. (A call that wants a new session needs none.)
  session.over = told || renewed ? Over::kEnded : lost ? Over::kLost : Over::kExpired;
  close(session);
}

// ---- restores

void Claims::on(const SessionOpened& event) {
  if (Session* session = owned(event.session, event.birth)) end_restore(*session);
}

void Claims::end_restore(Session& session) {
  if (!std::exchange(session.restoring, false)) return;
  --restoring_;
}

// Rows may have changed while their sessions waited: they are read again. The place is taken before
// that: a place is given once.
void Claims::start_restores() {
  while (restoring_ < frame_.config.restores_at_once && !queue_.empty()) {
    const std::string id = std::move(queue_.front());
    queue_.pop_front();
    auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.step != Session::Step::kQueued) continue;
    start_over(found->second);
    found = sessions_.find(id);
    if (found == sessions_.end()) continue;  // nobody waits for it any more
    found->second.restoring = true;
    ++restoring_;
  }
}

// ---- the end

Session* Claims::owned(const std::string& session, std::uint64_t birth) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end() || found->second.birth != birth) return nullptr;
  return found->second.step == Session::Step::kOwned ? &found->second : nullptr;
}

void Claims::on(const SessionOver& event) {
  Session* session = owned(event.session, event.birth);
  if (!session || session->over) return;
  session->over = event.how;
  close(*session);
}

void Claims::close(Session& session) {
  if (!session.over || !session.commits.empty() || !session.vouches.empty()) return;
  end_restore(session);
  session.step = Session::Step::kClosing;
  session.serial = ++frame_.last_serial;
  if (*session.over == Over::kEnded) {
    frame_.ask(Drop{session.id, session.birth, session.token},
               ForSession{session.id, session.serial});
    return;
  }
  const Fate fate = *session.over == Over::kExpired ? Fate::kExpired
                    : *session.over == Over::kLost  ? Fate::kLost
                                                    : Fate::kAlive;
  frame_.ask(Release{session.id, session.birth, session.token, fate},
             ForSession{session.id, session.serial});
}

// Refused: it took effect before, or the row is not this node's any more.
void Claims::closed(Session& session, const Reply& reply) {
  const auto* written = std::get_if<Written>(&reply);
  if (!written) return retries_.arm(session.id, frame_.soon());
  Waiting ending = std::exchange(session.ending, {});
  if (written->done || !written->row) {
    arrivals_.ended(ending, true);
  } else {  // another node has claimed it
    session.waiting.insert(session.waiting.begin(), ending.begin(), ending.end());
  }
  start_over(session);
}

void Claims::forget(Session& session, std::string_view reason, bool may_be_kept) {
  ++frame_.counters.forgotten;
  frame_.emit(ForgetSession{session.id, session.birth, std::string(reason), may_be_kept});
  start_over(session);
}

void Claims::retired() {
  while (!sessions_.empty()) {
    Session& session = sessions_.begin()->second;
    commits_.orphan(session);
    if (session.step == Session::Step::kOwned && !session.over) {
      forget(session, "This node was retired.");  // refuses what waits: it is no member
    } else {
      refuse(session, members_.why_not_ready());
    }
  }
  queue_.clear();
}

void Claims::release_all() {
  for (auto& [id, session] : sessions_) {
    if (session.step != Session::Step::kOwned || session.over) continue;
    session.over = Over::kMoved;
    close(session);
  }
}

void Claims::went_away() {
  Refuse refusal;
  refusal.message = members_.why_not_ready();
  refusal.retry_after = frame_.config.lease;
  std::vector<Session*> queued;  // nobody waits for them any more
  for (auto& [id, session] : sessions_) {
    const bool closing = session.step == Session::Step::kClosing || session.over;
    if (session.step == Session::Step::kQueued) queued.push_back(&session);
    if (closing || session.step == Session::Step::kQueued) arrivals_.refuse(session, refusal);
  }
  for (Session* session : queued) erase(*session);
}

void Claims::again(Session& session) {
  if (session.step == Session::Step::kClosing) return close(session);
  commits_.go_on(session);
}

void Claims::tick() {
  while (const std::optional<std::string> due = retries_.take(frame_.now)) {
    const auto found = sessions_.find(*due);
    if (found != sessions_.end()) again(found->second);
  }
  start_restores();
}

}  // namespace keelback::cluster
