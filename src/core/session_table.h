// Which worker holds a session's state, and until when. A session is live until it has been idle
// for idle_ttl, until it is max_age old, or until its worker is gone; judge() is the only place
// that says so, from times that never include a TTL, so a changed setting rules at once.
//
// Lists keep the sessions in the order in which they fall due, so a sweep costs what it ends. A
// worker's death marks its home dead in one step; its idle sessions are taken out a few at a time.
// Those whose state is saved stay with the dead home, live, until somebody calls them.
//
// Invariants (check_invariants()):
//   I1  a session has at most one home, and is in exactly one list of it
//   I2  a session without calls is established or saved, and in the idle list; with calls it is
//       not in it
//   I3  the idle list is ordered by idle_since, the age list by opened_at
//   I4  every attached session is in the index once; a detached one has a running call
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/id.h"
#include "base/time.h"
#include "core/action.h"
#include "core/call.h"
#include "core/name_index.h"
#include "core/slab.h"
#include "keelback/call.h"
#include "keelback/outcome.h"

namespace keelback::core {

struct Home;

// Whether a worker that drains has been asked for a session's state.
enum class Asking : std::uint8_t {
  kNot,
  kAsked,      // … and has not answered, or the store has not
  kUnsavable,  // … and had none to give
};

// Two cache lines: at a million sessions every line that a call touches is a miss.
struct alignas(64) Session {
  std::string id;
  boost::intrusive::list_member_hook<> idle_hook;
  Time idle_since;       // meaningful while idle
  Home* home = nullptr;  // null: waits for its first dispatch

  Lane* lane = nullptr;  // null: no call waits or runs
  Time opened_at;
  std::uint64_t birth = 0;
  std::uint32_t epoch = 1;
  Affinity mode = Affinity::kStrictQueue;
  bool established : 1 = false;  // user code may have run for it at its home
  bool detached : 1 = false;     // over, but for the call that still runs
  bool saved : 1 = false;        // the store has the state after its last acknowledged call
  Asking asking : 2 = Asking::kNot;
  bool watched : 1 = false;                                  // its end is told by SessionGone
  SessionEndReason end_reason = SessionEndReason::kExpired;  // of a detached one
  boost::intrusive::list_member_hook<> age_hook;
  boost::intrusive::list_member_hook<> home_hook;

  std::string_view name() const { return id; }
};

static_assert(sizeof(Session) == 128);

// A worker, as its sessions see it. Outlives the worker until its last session is taken out.
struct Home {
  using List = boost::intrusive::list<
      Session, boost::intrusive::member_hook<Session, boost::intrusive::list_member_hook<>,
                                             &Session::home_hook>>;
  WorkerId worker;
  Worker* owner = nullptr;  // null once dead
  bool alive = true;
  std::shared_ptr<const Death> death;  // shared with the tombstones of its sessions
  List idle;
  List safe;    // idle, and their state is saved
  List tried;   // idle, and not to be asked for their state (again)
  List active;  // with calls
  boost::intrusive::list_member_hook<> dead_hook;

  std::size_t sessions() const { return idle.size() + safe.size() + tried.size() + active.size(); }
};

class SessionTable {
 public:
  struct Limits {
    Duration idle_ttl;
    Duration max_age;
  };
  enum class Verdict : std::uint8_t { kLive, kIdleOver, kAgeOver, kLost };

  SessionTable(Limits limits, std::uint64_t seed);
  ~SessionTable();
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  // Whatever it is by now: ask judge().
  Session* find(std::string_view id) const { return index_.find(id); }
  // The one predicate of expiry and loss. Lookup, sweep, statistics and listings all use it.
  Verdict judge(const Session& session, Time now) const;
  // Changes what judge() says from now on; the caller has swept under the old limits.
  void set_limits(Limits limits) { limits_ = limits; }
  const Limits& limits() const { return limits_; }

  // Requires: !find(id). The new session has a lane and no home.
  Session& open(Time now, std::string_view id, Affinity mode, std::uint64_t birth);
  // A call joins a session: it is not idle any more.
  void enter(Session& session);
  // Its last call has left: idle from `now` on. Requires: established or saved, lane empty.
  void leave(Session& session, Time now);
  // Restarts the idle countdown. Requires: idle.
  void touch(Session& session, Time now);
  void bind(Session& session, Home& home);
  void unbind(Session& session);
  // What is known of its state, wherever it is.
  void set_saved(Session& session, bool saved);
  void set_asking(Session& session, Asking asking);
  // Left by others: idle, saved, without a home. Requires: !find(id). A series of `count` is
  // followed by settle_adopted(count).
  Session& adopt(std::string_view id, Affinity mode, std::uint64_t birth, Time opened_at,
                 Time idle_since);
  void settle_adopted(std::size_t count);
  // Out of lookup and listings; ends with the call that runs. Requires: a running call.
  void detach(Session& session);
  // Gone. Requires: no calls.
  void erase(Session& session);

  Home& make_home(WorkerId worker, Worker* owner);
  // The worker is gone: its unsaved sessions are lost from now on. O(1). The caller empties
  // `active`; the idle ones come out of next_due() one by one.
  void kill_home(Home& home, std::shared_ptr<const Death> death);

  // A session that judge() calls over (not merely detached), if there is one; then erase() or
  // detach() it. O(1).
  Session* next_due(Time now);
  std::optional<Time> next_deadline(Time now) const;

  // Attached sessions, those due at `now` not counted. O(due).
  std::uint64_t live(Time now) const { return index_.size() - count_due(now); }
  std::uint64_t count_due(Time now) const;            // expired and not yet swept
  std::uint64_t backlog() const { return backlog_; }  // lost and not yet taken out
  std::size_t attached() const { return index_.size(); }
  // Attached sessions, oldest first. `visit` gets each one that is live at `now`. O(n).
  template <class Visit>
  void each_live(Time now, Visit visit) const {
    for (const Session& session : by_age_) {
      if (judge(session, now) == Verdict::kLive) visit(session);
    }
  }
  std::size_t index_bytes() const { return index_.bytes(); }
  void check_invariants(Time now) const;

 private:
  using IdleList = boost::intrusive::list<
      Session, boost::intrusive::member_hook<Session, boost::intrusive::list_member_hook<>,
                                             &Session::idle_hook>>;
  using AgeList = boost::intrusive::list<
      Session, boost::intrusive::member_hook<Session, boost::intrusive::list_member_hook<>,
                                             &Session::age_hook>>;
  using DeadHomes = boost::intrusive::list<
      Home,
      boost::intrusive::member_hook<Home, boost::intrusive::list_member_hook<>, &Home::dead_hook>>;
  Home::List& list_of(const Session& session) const;
  void leave_home(Session& session);
  void drop_if_empty(Home& home);

  Limits limits_;
  NameIndex<Session> index_;
  IdleList by_idle_;  // I3
  AgeList by_age_;    // I3; attached sessions only
  DeadHomes dead_homes_;
  std::uint64_t backlog_ = 0;  // idle sessions in dead homes
  Slab<Session> slab_;
  Slab<Lane> lanes_;
  Slab<Home> homes_;
  std::size_t detached_ = 0;
};

}  // namespace keelback::core
