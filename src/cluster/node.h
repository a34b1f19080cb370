// The decisions of one node of a cluster, as a state machine that touches nothing: events in,
// actions out, time is an argument. Which node owns a session, whether a call may start here now,
// what the reply to a commit means, and whether this node is a member at all.
//
// What is exclusive is the commit, not the running code. While a paused node's workers still run a
// call, another node may serve the session. Only one of the two can commit its state.
//
// The local pool (core::Pool) knows nothing of this. A call of a session, or with an idempotency
// key, comes here first; the pool gets it with Admit. An answer of it comes here before its caller
// hears it. Calls without a session and without a key never come here.
//
// What the driver owes:
//   1  It performs the actions of one handle() in order, and does not call handle() from within.
//   2  Time never goes back; it is a clock that goes on while the process or the machine stands
//      still. handle(now, Tick{}) comes no later than next_deadline(). `now` is read just before
//      handle(), not when the event was queued.
//   3  The seed comes from the operating system's randomness: two nodes never have the same.
//   4  Each Ask is answered by exactly one Replied, at the latest after its patience. Join, Beat
//      and Leave wait for no other request: they have a connection of their own.
//   5  TicketIds and CommitIds are not 0 and never used again. For each CallCame or KeyedCallCame
//      one of Admit, Forward, Replay, Refuse, Ended, Misdirected follows, unless TicketGone comes
//      first.
//   6  Each Forward is answered by exactly one HopFailed or TicketGone. After HopFailed, 5 holds
//      again: there may be a second Forward, never a third. The call goes to the other node with
//      the mark of a hop, the cluster's signature and the milliseconds that are left to it. The
//      other node hands it in with hop = true.
//   7  After Adopt the pool takes the session in with that birth and epoch; its own epochs go on
//      from there. It says SessionOpened when the state has been restored, or cannot be. If the
//      pool does not take it (its table is full), SessionOver follows with kMoved.
//   8  An Admit whose session's birth the pool does not have (any more) is handed in again, as a
//      CallCame with a new ticket.
//   9  While the pool has a session, each state that is to outlive its worker comes as a
//      CommitWanted, in the order of its calls. Each answer of a session's call that ran and is not
//      committed comes as a VouchWanted. Both are answered by exactly one Settle, and no caller
//      hears the answer before. With Rules::commits_each_call every call's state is committed, with
//      exposed = false. A save on drain has exposed = false too: no call follows it here.
//  10  SessionOver comes when the pool has nothing of the session any more, after all Settles of
//      it. After ForgetSession none is needed.
//  11  KeyedCallEnded comes once for each call that was admitted with a key and no session; the
//      caller hears the answer after its Settle.
//  12  FetchWanted is answered by exactly one Fetched. It comes for a session without a
//  CommitWanted
//      that is not settled.
//  13  ObeySettings is answered by RulesChanged.
//  14  After DrainRequested come the sessions' last CommitWanted and SessionOver, then Drained.
//      The driver may stop to wait for Left at any time, if the database does not answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/time.h"
#include "cluster/action.h"
#include "cluster/event.h"
#include "cluster/frame.h"
#include "cluster/status.h"

namespace keelback::cluster {

class Node {
 public:
  Node(Config config, std::uint64_t seed);
  ~Node();
  Node(Node&&) noexcept;
  Node& operator=(Node&&) noexcept;

  // Appends to `out`; clears nothing. Total: every event is legal in every state. The first call
  // (a Tick will do) makes the node join.
  void handle(Time now, const Event& event, Actions& out);
  // When handle(Tick) next has something to do; nullopt: never, unless something happens.
  std::optional<Time> next_deadline() const;

  Status status(Time now) const;
  // Whether this node owns the session, as far as it knows.
  bool owns(const std::string& session) const;
  // Aborts on a violation; O(everything). The simulation calls it after each event.
  void check_invariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelback::cluster
