// Who owns a session: reading its row, claiming it, giving it up.
//
// A session is never claimed from a node that lives. A claim whose reply was lost is read again: if
// the row has its token, it took effect. Sessions with a state are restored `restores_at_once` at a
// time, so that a node that takes over many serves the first of them soon.
//
// Owns: the table of sessions. Asks: Arrivals for the calls that wait; Commits before a session is
// given up.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "cluster/frame.h"
#include "cluster/membership.h"
#include "cluster/retries.h"
#include "cluster/session.h"
#include "cluster/tickets.h"

namespace keelback::cluster {

class Arrivals;
class Commits;

class Claims {
 public:
  Claims(Frame& frame, const Membership& members, Sessions& sessions, Arrivals& arrivals,
         Commits& commits)
      : frame_(frame),
        members_(members),
        sessions_(sessions),
        arrivals_(arrivals),
        commits_(commits) {}
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  // Nothing is known of the ticket's session.
  void look(const Ticket& ticket);
  void on(const ForSession& purpose, const Reply& reply);
  void on(const SessionOpened& event);
  void on(const SessionOver& event);

  // Whether this is a session that the node owns.
  Session* owned(const std::string& session, std::uint64_t birth);
  // It is not this node's, or its state here is not the row's: the pool drops it.
  // `may_be_kept`: its last commit may have taken effect, and nobody can say.
  void forget(Session& session, std::string_view reason, bool may_be_kept = false);
  // The commits of a session that is over are settled: it is released or dropped.
  void close(Session& session);
  // This node was retired: no session is its own any more.
  void retired();
  // The pool is empty: what is left is released.
  void release_all();
  void went_away();
  void tick();
  std::size_t restoring() const { return restoring_; }
  std::optional<Time> next_deadline() const { return retries_.next(); }
  // Asks again for what the session waits for, a little later.
  void try_later(const Session& session) { retries_.arm(session.id, frame_.soon()); }

 private:
  void look(Session& session);
  void stands(Session& session, const Standing& standing);
  void claim(Session& session, const SessionRow* row);
  void claimed(Session& session, const SessionRow& row);
  bool may_claim(Session& session, const SessionRow& row);
  bool drop_unowned(Session& session, const SessionRow& row);
  void tell_over(Session& session, const SessionRow& row);
  void unanswered(Session& session, const NoReply& reply);
  void closed(Session& session, const Reply& reply);
  void refuse(Session& session, std::string message);
  void erase(Session& session);
  // Looks again for the calls that wait, or erases the entry.
  void start_over(Session& session);
  void again(Session& session);
  void end_restore(Session& session);
  void start_restores();

  static constexpr std::uint32_t kTries = 5;  // claims that came too late, one after another

  Frame& frame_;
  const Membership& members_;
  Sessions& sessions_;
  Arrivals& arrivals_;
  Commits& commits_;
  Retries retries_;
  std::size_t restoring_ = 0;
  std::deque<std::string> queue_;  // wait until fewer are being restored
};

}  // namespace keelback::cluster
