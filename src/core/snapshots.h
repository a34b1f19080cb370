// Sessions that outlive their worker: when their state is asked for, what waits for it to be
// stored, and what is known of the store.
//
// Owns: the book of what is stored.
// Asks: Sessions to move and to settle; Calls for the outcome of a call that waits for the store;
// Workers to go on once a state is stored.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/time.h"
#include "core/call.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/session_table.h"
#include "core/snapshot_book.h"
#include "core/worker_table.h"

namespace keelback::core {

class Calls;
class Keys;
class Sessions;
class Waiting;
class Workers;

class Snapshots {
 public:
  Snapshots(Frame& frame, Calls& calls, Keys& keys, Waiting& waiting, Sessions& sessions,
            Workers& workers)
      : frame_(frame),
        calls_(calls),
        keys_(keys),
        waiting_(waiting),
        sessions_(sessions),
        workers_(workers) {}
  Snapshots(const Snapshots&) = delete;
  Snapshots& operator=(const Snapshots&) = delete;

  void on(const SessionSaved& event);
  void on(const SnapshotSettled& event);
  void on(const SessionsFound& event);

  const SnapshotBook& book() const { return book_; }
  // The session is over: what is stored of it goes.
  void forget(const Session& session);

  // ---- a call has changed its session's state
  // False: nothing is stored of the call's session, and nothing is to be. broken_off: the call
  // ended at an arbitrary line.
  bool save_first(Call& call, const WorkerReplied& event, bool broken_off);
  // The answer is in, but nobody hears it before the store has its session's state.
  void hold(Call& call, const WorkerReplied& event);
  // The store takes longer than the call has: it was done, but its state is not safe.
  void due(Call& call);

  // ---- a worker drains
  // Whether the state of a session is worth asking for. A pool that shuts down with its store in
  // memory leaves nothing behind.
  bool may_save() const;
  // As far as is known, all that the worker holds can go elsewhere.
  bool may_clear(const Worker& worker) const;
  // What a draining worker holds goes elsewhere, as far as it is saved or can be.
  void evacuate(Worker& worker);

 private:
  void keep(const Session& session, WorkerId worker, CallId call, std::uint64_t number);
  void note_unsavable(Session& session, std::string_view why);
  void ask(Worker& worker, Session& session);
  void end_saving(Call& call, Ending&& ending);
  Duration store_patience() const;

  Frame& frame_;
  Calls& calls_;
  Keys& keys_;
  Waiting& waiting_;
  Sessions& sessions_;
  Workers& workers_;
  SnapshotBook book_;
};

}  // namespace keelback::core
