#include "cluster/commits.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "cluster/claims.h"

namespace keelback::cluster {
namespace {

std::string owner_of(const Standing& standing) {
  if (standing.owner) return standing.owner->name;
  return standing.row && standing.row->owner ? standing.row->owner->node : std::string();
}

}  // namespace

void Commits::on(const CommitWanted& event) {
  Session* session = claims_.owned(event.session, event.birth);
  if (!session) return find_owner(event.commit, event.session);
  Pending pending;
  pending.commit = event.commit;
  pending.epoch = std::max(event.epoch, session->epoch);
  pending.state = event.state;
  pending.exposed = event.exposed || !event.state;
  pending.used = frame_.now - event.idle;
  pending.answer = event.answer;
  session->commits.push_back(std::move(pending));
  if (session->commits.size() == 1) go_on(*session);
}

void Commits::on(const VouchWanted& event) {
  Session* session = claims_.owned(event.session, event.birth);
  if (!session) return find_owner(event.commit, event.session);
  if (!session->exposed) {  // first the row says that states are not stored any more
    Pending pending;
    pending.commit = event.commit;
    pending.epoch = session->epoch;
    pending.exposed = true;
    pending.used = frame_.now;
    session->commits.push_back(std::move(pending));
    if (session->commits.size() == 1) go_on(*session);
    return;
  }
  acknowledge(*session, event.commit);
}

// If the row is exposed, another owner gives the session up for lost. So an answer that comes after
// the lease waits until a beat shows that there is none.
void Commits::acknowledge(Session& session, CommitId commit) {
  if (!session.exposed || members_.holds()) return settle(commit, Settle::How::kKept);
  session.vouches.push_back(commit);
  vouching_.insert(session.id);
}

void Commits::beat() {
  for (const std::string& id : std::exchange(vouching_, {})) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) continue;
    Session& session = found->second;
    if (!session.vouches.empty() && !members_.holds()) {
      vouching_.insert(id);
      continue;
    }
    for (const CommitId commit : std::exchange(session.vouches, {})) {
      settle(commit, Settle::How::kKept);
    }
    claims_.close(session);
  }
}

void Commits::go_on(Session& session) {
  if (session.commits.empty() || session.asked != Session::Asked::kNot) return;
  Pending& first = session.commits.front();
  if (first.number == 0) {
    first.since = frame_.now;
    first.number = session.number + 1;
  }
  const ForCommit purpose{first.commit,  session.id,   session.serial,
                          session.token, first.number, first.exposed};
  if (frame_.now - first.since > frame_.config.patience()) return unknown(session);
  if (std::exchange(session.read_first, false)) {
    session.asked = Session::Asked::kRead;
    frame_.ask(Find{session.id}, purpose);
    return;
  }
  session.asked = Session::Asked::kCommit;
  Commit request;
  request.session = session.id;
  request.birth = session.birth;
  request.epoch = first.epoch;
  request.token = session.token;
  request.after = session.number;
  request.number = first.number;
  request.state = first.state;
  request.exposed = first.exposed;
  request.digest = frame_.config.digest;
  request.idle = frame_.now - first.used;
  request.owner = members_.self();
  request.answer = first.answer;
  frame_.ask(std::move(request), purpose);
}

void Commits::on(const ForCommit& purpose, const Reply& reply) {
  const auto found = sessions_.find(purpose.session);
  if (found == sessions_.end() || found->second.serial != purpose.serial) {
    return settle_late(purpose, reply);
  }
  Session& session = found->second;
  const Session::Asked asked = std::exchange(session.asked, Session::Asked::kNot);
  if (session.commits.empty()) return;
  if (const auto* none = std::get_if<NoReply>(&reply)) {
    // A read says nothing of what was asked before it: that is still to be read.
    session.read_first = asked == Session::Asked::kRead || !none->surely_none;
    return claims_.try_later(session);
  }
  if (const auto* written = std::get_if<Written>(&reply)) {
    if (written->done) return kept(session);
    return judge(session, *written);
  }
  if (const auto* read = std::get_if<Found>(&reply)) return judge(session, *read);
}

// The session was dropped while the commit, or the reading of it, was under way.
void Commits::settle_late(const ForCommit& purpose, const Reply& reply) {
  const auto* written = std::get_if<Written>(&reply);
  // What is not stored may have been given up for lost already.
  if (written && written->done && !purpose.exposed) {
    return settle(purpose.commit, Settle::How::kKept);
  }
  const Standing* standing = written;
  if (!standing) standing = std::get_if<Found>(&reply);
  if (!standing) return settle(purpose.commit, Settle::How::kUnknown);
  const std::optional<SessionRow>& row = standing->row;
  const bool ours = row && row->token == purpose.token;
  const bool committed = ours && row->number == purpose.number;
  if (committed && !purpose.exposed) return settle(purpose.commit, Settle::How::kKept);
  // A commit that is read as not done may still come, as long as nobody has claimed the session.
  if (ours && !written) return settle(purpose.commit, Settle::How::kUnknown);
  settle(purpose.commit, Settle::How::kLost, owner_of(*standing));
}

void Commits::judge(Session& session, const Standing& standing) {
  const Pending& first = session.commits.front();
  const std::optional<SessionRow>& row = standing.row;
  if (!row || row->birth != session.birth || row->token != session.token) {
    return lost(session, standing);
  }
  if (row->number == first.number) return kept(session);  // it took effect before
  if (row->number < session.number) {
    went_back(session, row->number);
  } else if (row->number > session.number || row->epoch > first.epoch) {
    return unknown(session);  // nothing of ours wrote that
  }
  go_on(session);
}

void Commits::kept(Session& session) {
  Pending first = std::move(session.commits.front());
  session.commits.pop_front();
  session.number = first.number;
  session.epoch = std::max(session.epoch, first.epoch);
  session.exposed = first.exposed;
  session.read_first = false;
  ++frame_.counters.commits_kept;
  acknowledge(session, first.commit);
  if (session.commits.empty()) return claims_.close(session);
  go_on(session);
}

void Commits::lost(Session& session, const Standing& standing) {
  give_up(session, Settle::How::kLost, owner_of(standing), "Another node owns the session now.");
}

void Commits::unknown(Session& session) {
  give_up(session, Settle::How::kUnknown, {},
          "The call was done, but whether its session's state is stored is not known: the database "
          "did not say.");
}

// The pool drops the state before it hears of the answers: no call starts in between.
void Commits::give_up(Session& session, Settle::How how, const std::string& owner,
                      std::string_view reason) {
  const std::deque<Pending> commits = std::exchange(session.commits, {});
  const std::vector<CommitId> vouches = std::exchange(session.vouches, {});
  claims_.forget(session, reason, how == Settle::How::kUnknown);
  for (const Pending& each : commits) settle(each.commit, how, owner);
  for (const CommitId commit : vouches) settle(commit, how, owner);
}

void Commits::settle(CommitId commit, Settle::How how, std::string owner) {
  if (commit == 0) return;
  if (how == Settle::How::kLost) ++frame_.counters.commits_lost;
  if (how == Settle::How::kUnknown) ++frame_.counters.commits_unknown;
  frame_.emit(Settle{commit, how, std::move(owner)});
}

// ---- of sessions that this node has lost

void Commits::orphan(Session& session) {
  const bool under_way = session.asked != Session::Asked::kNot && !session.commits.empty();
  if (under_way) session.commits.pop_front();
  for (const Pending& each : std::exchange(session.commits, {})) {
    find_owner(each.commit, session.id);
  }
  for (const CommitId commit : std::exchange(session.vouches, {})) find_owner(commit, session.id);
}

void Commits::find_owner(CommitId commit, const std::string& session) {
  if (commit != 0) frame_.ask(Find{session}, ForOrphan{commit});
}

void Commits::on(const ForOrphan& purpose, const Reply& reply) {
  const auto* found = std::get_if<Found>(&reply);
  settle(purpose.commit, Settle::How::kLost, found ? owner_of(*found) : std::string());
}

// ---- reading a state

void Commits::on(const FetchWanted& event) {
  const Session* session = claims_.owned(event.session, event.birth);
  if (!session) return frame_.emit(Fetched{event.fetch, true, std::nullopt});
  frame_.ask(Find{session->id, session->token}, ForFetch{event.fetch, session->token});
}

void Commits::on(const ForFetch& purpose, const Reply& reply) {
  const auto* found = std::get_if<Found>(&reply);
  if (!found) return frame_.emit(Fetched{purpose.fetch, false, std::nullopt});
  const bool ours = found->row && found->row->token == purpose.token;
  std::optional<State> state = ours ? found->row->state : std::nullopt;
  frame_.emit(Fetched{purpose.fetch, !state, state});
}

// ---- the database has lost what it had acknowledged

void Commits::went_back(Session& session, std::uint64_t number) {
  ++frame_.counters.went_back;
  frame_.notice(Notice::Level::kError,
                fmt::format("The database went back: it has call {} of session \"{}\" as the last "
                            "one, and call {} was committed.",
                            number, session.id, session.number));
  const std::uint64_t last = session.number;
  session.number = number;
  if (!session.commits.empty()) {
    Pending& first = session.commits.front();
    if (first.number == 0) first.since = frame_.now;
    first.number = last + 1;
    return;
  }
  Pending pending;  // what is stored is out of date
  pending.epoch = session.epoch;
  pending.exposed = true;
  pending.used = frame_.now;
  pending.number = last + 1;
  pending.since = frame_.now;
  session.commits.push_back(std::move(pending));
  go_on(session);
}

}  // namespace keelback::cluster
