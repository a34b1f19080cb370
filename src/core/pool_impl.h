// The pool's insides: it owns the small deciders and moves calls, workers and sessions between
// them. Private to pool*.cpp.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/call_queue.h"
#include "core/carried_bytes.h"
#include "core/crash_loop.h"
#include "core/ending.h"
#include "core/frame.h"
#include "core/function_table.h"
#include "core/id_index.h"
#include "core/idempotency.h"
#include "core/placement.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/retry.h"
#include "core/session_table.h"
#include "core/snapshot_book.h"
#include "core/tombstones.h"
#include "core/worker_table.h"

namespace keelback::core {

class Pool::Impl {
 public:
  Impl(Settings settings, std::uint64_t seed);
  ~Impl();

  void handle(Time now, const Event& event, Actions& out);
  std::optional<Time> next_deadline() const;
  Stats stats(Time now) const;
  std::vector<WorkerView> workers(Time now) const;
  SessionPage sessions(Time now, std::string_view after, std::size_t limit) const;
  std::vector<QuarantineView> quarantine(Time now) const;
  const Settings& config() const { return frame_.settings; }
  void check_invariants() const;

 private:
  // ---- pool.cpp: the frame
  void advance();  // everything that is due
  void sweep(std::size_t count);

  // ---- pool_submit.cpp: whether a call comes in
  void on(const CallSubmitted& event);
  std::optional<Refusal> check_request(const CallSubmitted& event, Function*& function);
  std::optional<Refusal> check_attachments(const CallSubmitted& event);
  std::optional<Refusal> check_function(const CallSubmitted& event, Function& function);
  std::optional<Refusal> check_session(const CallSubmitted& event, Session*& session);
  std::optional<Refusal> check_live_session(const CallSubmitted& event, Session& session);
  std::optional<Refusal> check_queue(const CallSubmitted& event, Function& function,
                                     const Session* session);
  void refuse(const CallSubmitted& event, Refusal&& refusal);
  void accept(const CallSubmitted& event, Function& function, Session* session);
  Call& make_call(const CallSubmitted& event, Function& function);
  Duration time_limit(const Function& function, Duration caller_limit) const;
  void set_deadline(Call& call);

  // ---- pool_keys.cpp: idempotency keys
  // False: the key has taken the call over, or `refusal` says why not.
  bool check_key(const CallSubmitted& event, Function& function, std::optional<Refusal>& refusal);
  void join(const CallSubmitted& event, Function& function, IdempotencyEntry& entry);
  void settle_key(IdempotencyEntry& entry, OutcomeKind kind, Effect effect);
  Call* hand_key_on(Call& leader);
  void replay(Call& follower, CallId of, OutcomeKind kind, Effect effect);
  void leave_key(Call& follower);
  void forget_outcomes();
  void discard(Call& call);

  // ---- pool_calls.cpp: what becomes of a call that is in
  void on(const CallCancelled& event);
  void on(const WorkerReplied& event);
  void end_with_worker(Worker& worker, Call& call, const WorkerReplied& event);
  void on(const StreamMoved& event);
  void on(const StreamGranted& event);
  void place(Call& head);  // to a worker, to a queue, or into its function's bulkhead
  void unqueue(Call& head);
  void occupy(Worker& worker);
  void dispatch(Worker& worker, Call& call);
  void take_session(Worker& worker, Call& call, std::optional<SessionTicket>& ticket);
  void offer(Worker& worker);  // a worker may be free: give it work or make it idle
  void note_room(Function& function);
  void use_room();
  void unpark(Function& function);
  void leave_queue(Call& call);
  void end_waiting(Call& call, Ending&& ending);
  // It waited while others like it killed workers: it ends instead of running. False: it may run.
  bool end_if_quarantined(Call& head);
  std::string quarantine_words(std::uint64_t fingerprint) const;
  void stop_running(Worker& worker, Call& call);
  void call_due(Call& call);
  void climb(Call& call);
  Time running_due(const Call& call) const;
  std::optional<Time> idle_due(const Call& call) const;

  // ---- pool_endings.cpp: how it ends
  void resolve(Call& call, Ending&& ending);
  // The caller hears now, and the call runs on.
  void tell(Call& call, Ending&& ending);
  // Counts how the call ends for its caller, and says so.
  Resolve report(Call& call, Ending&& ending);
  void settle_lane(Session& session);
  void settle_after_death(Worker& worker, Call& call, bool started, const DeathPtr& death);
  void hand_back(Call& call, bool retry, Duration pause);
  Ending timeout_ending(const Call& call, Effect effect) const;
  Ending reply_ending(const Call& call, ReplyKind kind, bool late) const;

  // ---- pool_sessions.cpp: how sessions end
  void on(const SessionEnded& event);
  void end_session(Session& session, SessionTable::Verdict verdict);
  void end_lane(Session& session, const Ending& ending);
  void tell_end(const Session& session, SessionEndReason reason);
  void finish_session(Session& session, SessionEndReason reason);
  void forget(Session& session);
  void drop_home(Worker& worker, DeathPtr death);
  bool restorable(const Session& session) const { return session.saved; }
  SessionOver ending_of(SessionTable::Verdict verdict) const;

  // ---- pool_snapshots.cpp: sessions that outlive their worker
  void on(const SessionSaved& event);
  void on(const SnapshotSettled& event);
  void on(const RestoreFailed& event);
  void on(const SessionsFound& event);
  void keep_snapshot(const Session& session, WorkerId worker, CallId call, std::uint64_t number);
  void note_unsavable(Session& session, std::string_view why);
  // False: nothing is stored of the call's session, and nothing is to be.
  bool save_first(Call& call, const WorkerReplied& event);
  void hold(Call& call, const WorkerReplied& event);
  void end_saving(Call& call, Ending&& ending);
  void saving_due(Call& call);
  Duration store_patience() const;
  bool may_save() const;
  void settle_homeless(Session& session);
  void lay_off(Session& session);
  void move_out(Session& session);
  bool is_leaving(const Session& session) const;
  void evacuate(Worker& worker);
  void leave_worker(Worker& worker);

  // ---- pool_workers.cpp: the life of workers
  void on(const StartModeChanged& event);
  void on(const WorkerReady& event);
  void become_ready(Worker& worker);
  void on(const WorkerExited& event);
  void on(const RecycleRequested& event);
  void on(const ReloadRequested& event);
  void refill(Slot& slot, Duration pause);
  void start(Slot& slot);
  void pump_starts();
  bool start_wanted(const Slot& slot) const;
  void worker_due(Worker& worker);
  void arm(Worker& worker);
  void recycle(Worker& worker);
  bool costs_worker(const Call& call, const WorkerReplied& event) const;
  void replace_interrupted(Worker& worker);
  void end_drain(Worker& worker);
  void finish_reload();
  bool serves_old_code() const;
  void drain_worker(Worker& worker);
  void maybe_stop(Worker& worker);
  void stop(Worker& worker);
  void kill(Worker& worker, EndCause cause);
  void hold_heads(Worker& worker);
  void abandon(Worker& worker);
  void remove(Worker& worker, Duration pause);
  void refresh_readiness();
  Refusal not_ready() const;
  std::optional<Time> next_start() const;
  std::string describe_start_failure() const;

  // ---- pool_health.cpp: workers that live and are broken
  void on(const WorkerChecked& event);
  bool checks_health() const;
  void want_check(Worker& worker);
  void begin_check(Worker& worker);
  void check_after_error(Worker& worker);
  void schedule_check(Worker& worker);
  void schedule_checks();
  void note_sick(Worker& worker, std::string why);
  void withhold(Worker& worker);
  void let_serve(Worker& worker);
  void let_all_serve();
  void advance_healing();
  void replacement_failed(Slot& slot, std::string_view why);
  void replacement_serves(Slot& slot, const Worker& old);

  // ---- pool_config.cpp: operators
  void on(const ConfigChanged& event);
  void on(const FunctionsAnnounced& event);
  void on(const DrainRequested& event);
  void on(const DeathOrdered& event);
  void on(const QuarantineReleased& event) { quarantine_.release(event.fingerprint); }
  void on(const Tick&) {}
  void resize();
  void drain_due();
  void advance_drain();
  // Every call in flight, in id order; ids, because ending one call may end others.
  std::vector<CallId> calls_in_order() const;
  // The call, if it is still there and waits for a worker: not running, not joined to another.
  Call* find_waiting(CallId id) const;

  Frame frame_;
  bool begun_ = false;

  Timer drain_timer_{TimerKind::kPool};
  Timer heal_timer_{TimerKind::kHealing};  // the pause after a replacement that failed
  Slab<Call> call_slab_;
  CarriedBytes carried_;
  IdIndex<Call> calls_;
  FunctionTable functions_;
  std::vector<FunctionSpec> announced_;
  std::vector<Function*> room_;  // functions that may have room for parked calls; see use_room()
  CallQueue queue_;
  SessionTable sessions_;
  Tombstones tombstones_;
  WorkerTable workers_;
  Placement placement_;
  CrashLoop crash_loop_;
  RetryBudget retry_budget_;
  Quarantine quarantine_;
  Idempotency idempotency_;
  SnapshotBook snapshots_;
  std::uint64_t reply_bytes_ = 0;  // of the reply that is being handled

  bool has_health_ = false;          // the application has health functions
  Slot* healing_ = nullptr;          // whose broken worker's replacement is being tried
  std::uint32_t heal_failures_ = 0;  // replacements that failed, in a row
  std::uint32_t heal_young_ = 0;  // broken workers that had been ready for a short time, in a row
  bool exec_ = false;
  std::uint32_t exec_concurrency_ = 1;
  std::deque<Slot*> start_queue_;
  std::uint32_t code_ = 0;      // reloads asked for
  std::uint32_t reloaded_ = 0;  // of those, the last one that is over
  DeathPtr start_failure_;      // of the last start, while none has succeeded since
  DeathPtr last_exit_;          // of the last ready worker that ended without our doing
  bool not_ready_ = false;
  bool loaded_ = false;  // a worker has been ready
  bool draining_ = false;
  bool drain_over_ = false;  // its limit has passed
  bool drained_ = false;
};

}  // namespace keelback::core
