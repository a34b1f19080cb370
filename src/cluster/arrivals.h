// Where a call of a session goes: to the local pool, to the node that owns the session, or back.
//
// Owns: the tickets of sessions, and the routes. Asks: Claims for sessions that are not known.
#pragma once

#include <set>
#include <string>

#include "cluster/frame.h"
#include "cluster/membership.h"
#include "cluster/routes.h"
#include "cluster/session.h"
#include "cluster/tickets.h"

namespace keelback::cluster {

class Claims;

class Arrivals {
 public:
  Arrivals(Frame& frame, const Membership& members, Sessions& sessions, Claims& claims)
      : frame_(frame), members_(members), sessions_(sessions), claims_(claims) {}
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  void on(const CallCame& event);
  // False: it is no ticket of a session.
  bool on(const HopFailed& event);
  void on(const TicketGone& event) { tickets_.remove(event.ticket); }
  void on(const ForLookup& purpose, const Reply& reply);

  // Its session may have another owner, or none, or this node: find out.
  void route(Ticket& ticket);
  // The session is owned here.
  void admit(Session& session, Waiting waiting);
  void forward(Session& session, const NodeRow& owner);
  // All that wait are refused.
  void refuse(Session& session, const Refuse& refusal);
  // Takes the first that may hear how the session ended; false: there is none.
  bool tell(Session& session, Refuse refusal);
  // Those that a hop brought are sent back, and do not wait any more.
  void send_back_hops(Session& session);
  // Those that are gone do not wait any more.
  void forget_gone(Session& session);
  // Those that want a session which exists are refused.
  void refuse_existing(Session& session);
  // Of those that wait, those that end the session. They do not wait any more.
  Waiting take_ends(Session& session);
  // They hear that the session has ended, or that there is none.
  void ended(const Waiting& ends, bool found);

  // The lease runs on: what waited for it goes on.
  void beat();
  void went_away();
  Tickets& tickets() { return tickets_; }

 private:
  bool admit(const Session& session, const Ticket& ticket);
  void forward(Ticket& ticket, const NodeRow& owner);
  void refuse(TicketId ticket, Refuse refusal);
  void not_ready(TicketId ticket, std::string message);
  void go_on();
  bool needs_lookup(const Session& session, const Ticket& ticket) const;

  static constexpr std::size_t kRoutes = 65536;

  Frame& frame_;
  const Membership& members_;
  Sessions& sessions_;
  Claims& claims_;
  Tickets tickets_;
  Routes routes_{kRoutes};
  std::set<std::string> stalled_;  // sessions of which calls wait for the lease
};

}  // namespace keelback::cluster
