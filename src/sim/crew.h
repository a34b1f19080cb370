// The model workers: they do what the core's actions tell them to, take the time that the model
// says, fail as often as it says, and say what a real worker's bytes and pidfd would say. They keep
// the worker's half of the contract and abort when the core breaks its own: a dispatch to a worker
// that is not ready, or that cannot run the call beside those that it runs, or a session's call on
// a worker without that session's state.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/id.h"
#include "base/prng.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "sim/model.h"
#include "sim/schedule.h"

namespace keelback::sim {

// What a worker says, or what is said of it.
struct Said {
  enum class Kind : std::uint8_t {
    kNothing,
    kReady,
    kItem,
    kNested,  // a call makes a call
    kReplied,
    kTurned,
    kBlocked,
    kExited,
  };
  Kind kind = Kind::kNothing;
  WorkerId worker;
  CallId call;  // of kItem, kNested, kReplied, kBlocked
  Call nested;  // of kNested
  core::ReplyKind reply = core::ReplyKind::kOk;
  bool clean = true;
  bool interrupted = false;  // of kReplied: an interrupt ended it
  std::string payload;       // of kItem, and of kReplied ok
  Attachments attachments;   // of kReplied ok
  PythonError python;        // of kReplied otherwise
  // Of kReplied: the session's state, if it was to come along.
  core::Snapshot snapshot = core::Snapshot::kNone;
  SessionState state;
  Time since;                              // of kBlocked
  Duration lag{0};                         // of kBlocked: since then
  Death death;                             // of kExited
  std::vector<core::StartedCall> started;  // of kExited: the calls that its marks name
  CallId culprit;                          // of kExited, if it is known
};

class Crew {
 public:
  // `schedule` must outlive the crew.
  Crew(ModelSettings model, std::uint64_t seed, Schedule& schedule);

  void start(Time now, WorkerId worker);
  // The state of the session, as the worker would send it; nullopt: the worker is gone.
  std::optional<SessionState> state_of(WorkerId worker, const std::string& session) const;
  // Aborts unless the worker is ready, can run the call beside those that it runs, and holds the
  // session's state. restored: the state that the call's session is restored from, if it is.
  void dispatch(Time now, const core::Dispatch& dispatch, const Call& call, bool stream,
                const SessionState* restored);
  void cancel(Time now, WorkerId worker, CallId call);
  void interrupt(Time now, WorkerId worker, CallId call);
  // The worker says kTurned when its event loop turns: at once, unless a call blocks it.
  void ping_loop(Time now, WorkerId worker);
  // The stacks as text; "unavailable: …" where there are none to be had.
  std::string dump(Time now, WorkerId worker, CallId call) const;
  // The stack of the event loop; empty: nothing blocks it.
  std::string loop_stack(Time now, WorkerId worker) const;
  // ours: the core wants it. Otherwise it is a fault from outside, SIGKILL without an author.
  void kill(Time now, WorkerId worker, bool ours);
  void stop(Time now, WorkerId worker);
  void end_session(WorkerId worker, const std::string& session, std::uint64_t birth);
  // More items of the stream may be sent.
  void grant(Time now, WorkerId worker, CallId call, std::uint32_t items);
  // The call that `call` has made has ended so.
  void nested_ended(Time now, WorkerId worker, CallId call, const Outcome& outcome);
  // SIGSTOP now, SIGCONT after `spell`: nothing happens in between but SIGKILL.
  void freeze(Time now, WorkerId worker, Duration spell);

  // What a due entry of a worker makes it say.
  Said fire(const Due& due);

  const Application& application() const { return application_; }
  // The functions are those of the model's settings from now on; they must be announced.
  void reload() { application_.set_concurrency(model_.concurrency); }
  void set_result_max(std::uint64_t bytes) { result_max_ = bytes; }
  // workers.loop_lag_warn
  void set_loop_lag_warn(Duration limit) { loop_lag_warn_ = limit; }
  // The slot's worker of the highest generation; generation 0: none.
  WorkerId newest(std::uint32_t slot) const;
  std::int64_t pid(WorkerId worker) const;  // 0: no such process
  ModelSettings& model() { return model_; }
  Prng& prng() { return prng_; }
  std::size_t living() const { return workers_.size(); }

 private:
  // A call that a worker runs.
  struct Task {
    CallId call;
    bool alone = true;  // in its worker, or with its batch
    core::BatchPlace batch{};
    bool blocked = false;  // a stream without credit, or it waits for the call that it has made
    bool saves = false;    // its answer brings along the state of `session`
    std::string function;
    std::string session;
    Time mark_at;             // when it starts: from then on its mark names it
    Time step_at;             // when the plan's next step is due
    std::uint64_t token = 0;  // of the plan; entries of older plans are void
    std::uint32_t credit = 0;
    Script script;
    core::ReplyKind cut_short = core::ReplyKind::kOk;  // kCancelled: the ladder ended the call
    bool interrupted = false;                          // … by its interrupt
  };
  struct Worker {
    WorkerId id;
    bool ready = false;
    bool leaving = false;  // exits when its call is over
    bool killed = false;
    std::vector<Task> tasks;  // one that runs alone, a batch, or several that do not
    std::uint64_t plans = 0;
    std::uint64_t exit_token = 0;  // of the exit
    Time exit_at = Time::max();
    Time frozen_until = Time::min();
    CallId blocker;                    // the last call that blocks the event loop
    Time blocked_until = Time::min();  // … so long
    Death death;
    CallId culprit;  // of that death, if it is known
    std::map<std::string, SessionState, std::less<>> sessions;
  };

  Worker* find(WorkerId worker);
  const Worker* find(WorkerId worker) const;
  static Task* find(Worker& worker, CallId call);
  // When something that is due at `at` can happen: not while the process stands still, and for a
  // task of the event loop not while another call blocks that.
  static Time possible(const Worker& worker, const Task& task, Time at);
  void check_room(const Worker& worker, const core::Dispatch& dispatch, const Call& call) const;
  SessionState* session_of(Worker& worker, const core::SessionTicket& ticket,
                           const SessionState* restored);
  void plan(Worker& worker, Task& task, Time at);
  void exit(Worker& worker, Time at, Death death);
  void cut_short(Time now, Worker& worker, Task& task, Duration delay);
  void draw_fate(Time now, Worker& worker, Task& task);
  // The next time that the call, which blocks the event loop, is noticed.
  void plan_notice(const Worker& worker, const Task& task, Duration lag);
  Said notice(Time now, const Worker& worker, CallId call);
  void run_batch(Time now, Worker& worker);
  Said step(Time now, Worker& worker, Task& task);
  Said reply(Time now, Worker& worker, Task& task);
  Said gone(Time now, const Worker& worker);

  ModelSettings model_;
  Application application_;
  Prng prng_;
  Schedule& schedule_;
  std::uint64_t result_max_ = 16 << 20;
  Duration loop_lag_warn_ = std::chrono::milliseconds(100);
  std::map<std::uint32_t, Worker> workers_;  // by generation
};

}  // namespace keelback::sim
