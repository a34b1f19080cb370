// How sessions open, take their calls one after another, move, and end: idle, too old, ended by an
// operator, or lost with their worker.
//
// Owns: the sessions, their lanes and homes, and the tombstones of those that are over.
// Asks: Waiting to place and to end their calls; Snapshots what is stored of them; Workers whether
// a worker that has lost one may stop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/action.h"
#include "core/call.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/session_table.h"
#include "core/tombstones.h"
#include "core/worker_table.h"

namespace keelback::core {

class Snapshots;
class Waiting;
class Workers;

class Sessions {
 public:
  struct Seeds {
    std::uint64_t table, tombstones;
  };
  Sessions(Frame& frame, Waiting& waiting, Snapshots& snapshots, Workers& workers, Seeds seeds);
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;

  SessionTable& table() { return table_; }
  const SessionTable& table() const { return table_; }
  Tombstones& tombstones() { return tombstones_; }
  std::optional<Time> next_deadline() const;
  void set_limits();  // from the settings

  void on(const SessionEnded& event);
  void on(const SessionTaken& event);

  // ---- calls
  // The session, if it is live; what is over by now ends here, and an idle one leaves a home that
  // is on its way out.
  Session* find_live(std::string_view id);
  // A call that comes in joins its session's lane. null: it opens the session.
  void enter(const CallSubmitted& event, Session* session, Call& call);
  // The call goes to `worker`, and its session with it: what the worker must know of that.
  SessionTicket take(Worker& worker, Call& call);
  // A call has left the lane: the next one becomes its head, not placed yet, or the session has
  // nothing to do.
  Call* next_head(Session& session);
  // The same, and places the head.
  void settle(Session& session);
  // An answer that waited for the store is out. Its worker may have gone meanwhile.
  void settle_homeless(Session& session);

  // ---- homes
  // It has no home from now on.
  void leave_home(Session& session);
  // Its state is saved and its home is gone or left behind: the next call makes its state anew
  // elsewhere, in a new epoch. Whoever demanded the old epoch is told.
  void lay_off(Session& session);
  // A saved session leaves a home that is on its way out, with what waits in it.
  void move_out(Session& session);
  // The worker's sessions have no worker any more: those in which something ran are lost, unless
  // their state is saved; the others open elsewhere. Idle ones are only marked here: the sweep
  // takes out the lost, the saved wait for their next call.
  void drop_home(Worker& worker, DeathPtr death);

  // ---- ends
  void end(Session& session, SessionTable::Verdict verdict);
  // Its state is gone, and nothing usable is stored.
  void lose(Session& session);
  // Ends those that are over, `count` of them at most.
  void sweep(std::size_t count);

 private:
  void go_idle(Session& session);
  void end_lane(Session& session, const Ending& ending);
  void tell_end(const Session& session, SessionEndReason reason);
  void tell_gone(const Session& session, SessionGone::How how);
  void finish(Session& session, SessionEndReason reason, SessionGone::How how);
  void forget(Session& session, SessionGone::How how);
  // It cannot stay where it is, and need not: its state is saved.
  bool is_leaving(const Session& session) const;

  Frame& frame_;
  Waiting& waiting_;
  Snapshots& snapshots_;
  Workers& workers_;
  SessionTable table_;
  Tombstones tombstones_;
};

}  // namespace keelback::core
