// A legal driver without processes, for tests: it performs the pool's actions on paper, notes what
// the pool asked for and may not (`wrongs`; a test fails if there are any at the end), and writes
// every action down as a line.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/action.h"
#include "core/event.h"
#include "core/pool.h"

namespace keelback::core {

// The standard settings with that many workers.
inline Settings pool_of(std::uint32_t workers) {
  Settings settings;
  settings.pool.workers = workers;
  return settings;
}

struct ModelCall {
  std::string function;
  std::string session;
  bool resolved = false;  // its caller has an outcome
  bool told = false;      // at its deadline, while it ran on
  bool over = false;      // the pool has forgotten it
  // Its function was broken off, and the state that it left was not stored: the one before is the
  // last one.
  bool interrupted = false;
  std::uint64_t order = 0;         // of submission
  std::optional<WorkerId> worker;  // where it runs
  bool alone = true;               // in that worker, or with its batch
  std::uint32_t dispatches = 0;
  bool started = false;  // an attempt of it had, when its worker died
  std::uint64_t birth = 0;
  bool saves = false;         // its answer brings the session's state
  bool restores = false;      // it restores its session's state first
  std::uint64_t version = 0;  // of its session's state after it; 0: no answer yet, or nothing ran
  Time accepted;
  std::optional<Duration> limit;  // the caller's
  Priority priority = Priority::kNormal;
  std::string batch_key;
  Resolve outcome;               // what its caller heard
  std::optional<Resolve> ended;  // how a call ended whose caller had heard before
};

struct ModelWorker {
  bool ready = false;
  bool stopping = false;
  bool killed = false;
  bool abandoned = false;
  bool exiting = false;  // it is dead, and the pool is just being told
  bool checking = false;
  std::map<std::uint64_t, Time> calls;  // that it runs, and when it was given each
  CallId batch;                         // the first call of the batch that it got last
  BatchPlace batch_place;               // … and how far that has come
};

// The snapshots, as numbers: a session's state is the count of calls that have changed it.
struct ModelStore {
  struct Asked {
    bool save = false;   // a worker is asked, else the store
    bool keeps = false;  // to keep, else to drop
    std::uint64_t version = 0;
    SnapshotSettled event;
  };
  struct Kept {
    std::uint64_t number = 0;
    std::uint64_t version = 0;
  };
  bool answers_at_once = true;  // false: settle() does it
  std::deque<Asked> asked;
  // All by birth.
  std::map<std::uint64_t, Kept> kept;
  std::map<std::uint64_t, std::uint64_t> versions;      // at its home
  std::map<std::uint64_t, std::uint64_t> acknowledged;  // what a caller was told of last
};

class ModelDriver {
 public:
  explicit ModelDriver(Settings settings = {}, std::uint64_t seed = 1);
  ~ModelDriver();
  ModelDriver(const ModelDriver&) = delete;
  ModelDriver& operator=(const ModelDriver&) = delete;

  // ---- events; each checks the pool's invariants afterwards
  void handle(const Event& event);
  // Time passes, with a Tick whenever the pool asked for one.
  void advance(Duration by) { advance_to(now + by); }
  void advance_to(Time until);

  CallSubmitted request(std::string_view function = "f", std::string_view session = {});
  CallId submit(const CallSubmitted& event);
  CallId submit(std::string_view function = "f", std::string_view session = {}) {
    return submit(request(function, session));
  }
  void announce(std::vector<FunctionSpec> functions);
  void announce(std::initializer_list<std::string_view> names);
  void ready(WorkerId worker);
  // Announces "f" and makes every starting worker ready.
  void warm_up();
  // savable: of a call whose answer is to bring its session's state.
  void reply(CallId call, ReplyKind kind = ReplyKind::kOk, bool clean = true, bool savable = true,
             bool interrupted = false, std::string_view retire_reason = {});
  // The worker answers without having begun the call.
  void refuse(CallId call, ReplyKind kind);
  // The snapshot that the running call restores is not to be had, or (not gone) not in time.
  void fail_restore(CallId call, bool gone = true);
  // The worker, or the store, answers what it was asked first. works: as it should.
  void settle(bool works = true);
  // The answer to the pool's question whether it is well.
  void checked(WorkerId worker, bool healthy = true, bool over = true);
  // The worker dies of `cause`; started: its mark names the call it has.
  void exit(WorkerId worker, bool started = true, std::string cause = "signal");
  // The marks name these of its calls; culprit: the thread that dies runs this one's code.
  void exit_with(WorkerId worker, const std::set<std::uint64_t>& started,
                 std::string cause = "signal", CallId culprit = {});
  void fail_start(WorkerId worker, std::string step = "setup");
  void configure(const Settings& settings) { handle(ConfigChanged{settings}); }

  // ---- what came of it
  bool resolved(CallId call) const { return calls.at(call.value).resolved; }
  // The outcome's word, "waiting" or "running".
  std::string fate(CallId call) const;
  const Resolve& outcome(CallId call) const;
  WorkerId worker_of(CallId call) const;
  std::vector<WorkerId> with(bool ready) const;  // living workers, starting or ready
  std::vector<WorkerId> living() const;
  // Lines of the actions since the last take().
  std::vector<std::string> take();
  std::size_t count(std::string_view prefix) const;  // lines so far that begin so

  Time now{};
  Pool pool;
  std::map<std::uint64_t, ModelCall> calls;
  std::map<WorkerId, ModelWorker> workers;
  std::vector<std::string> log;
  std::vector<Notice> notices;
  std::set<std::uint64_t> retained;  // outcomes kept for replays
  std::vector<std::string> wrongs;
  ModelStore store;
  Duration grace_max = std::chrono::hours(1);  // tests that know calls.grace set it
  std::string if_never_started;                // what the last TellCaller says in that case
  bool drained = false;
  bool health = false;  // what is announced from now on has health functions

 private:
  void perform(const Action& action);
  void on(const Dispatch& action);
  void on(const TellCaller& action);
  void on(const Resolve& action);
  void on(const ReplayOutcome& action);
  void bury(const WorkerExited& event);
  void must(bool right, const Action& action, std::string_view why);
  ModelWorker& alive(WorkerId worker);

  // Whether the worker may run this call beside those that it runs.
  bool fits(const ModelWorker& worker, const ModelCall& call, bool alone) const;
  bool runs_shared(const ModelWorker& worker) const;
  void on_batch(const Dispatch& action, ModelWorker& worker);

  std::map<std::string, std::uint32_t> concurrency_;  // of the functions
  std::map<std::string, std::uint32_t> batch_;
  // By idempotency key and fingerprint: the function and the session that were asked for.
  std::map<std::pair<std::string, std::uint64_t>, std::pair<std::string, std::string>> keyed_;
  std::uint64_t next_call_ = 1;
  std::size_t taken_ = 0;
  std::set<WorkerId> gone_;
  std::map<std::string, std::uint64_t> last_started_;  // session -> submission order
  struct Place {
    WorkerId worker;
    std::uint32_t epoch = 0;
  };
  std::map<std::uint64_t, Place> places_;  // birth -> where it was last dispatched
};

std::string to_line(const Action& action);
std::string to_text(WorkerId worker);

}  // namespace keelback::core
