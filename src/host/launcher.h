// How a worker process comes to be: forked by the zygote, or executed by the guard. Owns both, and
// brings them back when they die. Loop thread only.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/settings.h"
#include "host/driver.h"
#include "host/environment.h"
#include "host/event_loop.h"
#include "host/guard_client.h"
#include "host/restart_pace.h"
#include "host/worker_cgroups.h"
#include "host/worker_process.h"
#include "host/zygote_client.h"

namespace keelback::host {

struct Launched {
  pid_t pid = 0;
  std::uint64_t zygote = 0;  // which zygote is its parent; 0: the guard
};
// The zygote refused and the application has fallen back to exec: the ends are spent, come again
// with new ones.
struct ComeAgain {};
using LaunchAnswer = std::variant<Launched, ComeAgain, StartFailure>;
using OnLaunched = std::move_only_function<void(LaunchAnswer)>;

class Launcher {
 public:
  struct Program {
    Backend backend = Backend::kPython;
    std::string app;
    std::vector<std::string> expose;
    WorkerEnvironment environment;
    std::string directory;
    std::string start;        // path of keelback/start.py, for Backend::kPython
    std::string guard;        // path of keelback-guard
    std::string fake_worker;  // path of keelback-fakeworker, for Backend::kFake
    WorkerCgroups cgroups;
    os::User user;  // of the application; none: ours
  };
  struct Handlers {
    std::move_only_function<void(const std::string& hello_json)> hello;  // the zygote's
    std::move_only_function<void(bool exec)> mode;                       // StartModeChanged
    std::move_only_function<void(const StartPath&)> path;                // it has changed
    // The application could not be loaded, and no start waits that would say so.
    std::move_only_function<void(const StartFailure&)> load_failed;
    std::move_only_function<void(const std::string& line)> log_line;  // the zygote printed
    std::move_only_function<void(std::uint64_t lines)> log_dropped;   // of the zygote's
    std::move_only_function<void(bool warn, const std::string& text)> notice;
    // The guard was killed and there is a new one: workers of the old are no longer guarded.
    std::move_only_function<void()> guard_lost;
    std::function<Time()> now;
  };

  Launcher(boost::asio::io_context& loop, Program program, const Settings& settings,
           Handlers handlers);
  ~Launcher();

  // Starts the guard, and the zygote if there is to be one.
  os::Result<void> start();
  void configure(const Settings& settings) { settings_ = settings; }

  // `done` is called once, on the loop, also after cancel() answered false.
  void launch(WorkerId worker, WorkerEnds ends, OnLaunched done);
  // True: it had not begun, and `done` will not be called. A zygote that it has waited for most of
  // workers.start_timeout is stuck (stopped, or in a lock): it is killed, and a new one comes.
  bool cancel(WorkerId worker);
  // Its status has been read.
  void reap(const Launched& process);
  OwnUse guard_use() { return guard_ ? guard_->use() : OwnUse{}; }
  // What the dead worker has left outside its group.
  void kill_left_behind(const WorkerProcess& worker);

  // A reload: `done` gets an empty string when a second zygote is up (or none is needed), and
  // launch_probe() starts a worker from it; then commit_reload() or abort_reload().
  void begin_reload(std::move_only_function<void(std::string error)> done);
  void launch_probe(WorkerId worker, WorkerEnds ends, OnLaunched done);
  void commit_reload();
  void abort_reload();

  // Tells log_dropped how many lines of zygotes the log did not take since it was last told.
  void mark_dropped_lines();

  const StartPath& path() const { return path_; }
  // Zygotes get calls.grace for what their import registered for exit; then the guard kills
  // everything that is left, in about `limit`. Blocks the loop for as long.
  void stop(std::chrono::milliseconds limit);

 private:
  struct Waiting {
    WorkerId worker;
    WorkerEnds ends;
    OnLaunched done;
  };
  bool exec_mode() const { return !zygote_possible() || fallen_back_; }
  bool zygote_possible() const;
  SpawnSpec program_spec();
  SpawnSpec zygote_spec();
  SpawnSpec worker_spec(WorkerId worker);
  // Where programs start: where we were started, or, when that is gone, where they still can.
  std::string directory();
  std::unique_ptr<ZygoteClient> make_zygote(bool aside);
  void start_zygote();
  void zygote_ready(ZygoteClient& zygote, const std::string& hello, double import_s);
  // The pool keeps no worker, so it needs a zygote.
  bool must_fork() const { return settings_.pool.ready_from() == 0; }
  void zygote_ended(std::uint64_t number);
  void restart_later();
  void prepare_fork(ZygoteClient& zygote, WorkerId worker, WorkerEnds& ends);
  void fork(ZygoteClient& zygote, WorkerId worker, WorkerEnds ends, OnLaunched done);
  void exec(WorkerId worker, WorkerEnds ends, OnLaunched done);
  void answer(OnLaunched& done, std::uint64_t zygote, ForkAnswer answer);
  void fall_back(const Unsafe& why);
  void retire(std::unique_ptr<ZygoteClient> zygote);
  void end_if_unused(ZygoteClient& zygote);
  std::chrono::milliseconds end_limit() const;
  void fail_waiting(const StartFailure& failure);
  void guard_died();
  void bring_guard_back();
  os::Result<void> start_guard();
  void set_path(std::string state, std::string reason);
  template <typename T>
  void bury(std::unique_ptr<T> object);  // destroyed from the loop, not from within its handlers

  boost::asio::io_context& loop_;
  Program program_;
  Settings settings_;
  Handlers handlers_;
  StartPath path_;
  os::Fd lifeline_read_;
  os::Fd lifeline_write_;  // ours alone: when we are gone, it is
  // Memory that the application's workers may share, over zygotes and reloads (docs/protocol.md).
  // We never look inside.
  os::Fd shared_;
  std::unique_ptr<GuardClient> guard_;
  std::unique_ptr<ZygoteClient> zygote_;
  std::unique_ptr<ZygoteClient> next_zygote_;  // of a reload
  // They fork no more, and live until their last worker has ended: what their end does must not
  // happen while a worker still uses it.
  std::vector<std::unique_ptr<ZygoteClient>> retired_;
  // Starts by exec that wait until the zygote which proved unsafe has ended: their own imports may
  // need what it holds. Its number; 0: none.
  std::uint64_t exec_waits_for_ = 0;
  std::vector<Waiting> waiting_for_end_;
  std::move_only_function<void(std::string)> reload_done_;
  std::vector<Waiting> waiting_;  // for the zygote
  std::uint64_t zygotes_ = 0;
  bool fallen_back_ = false;
  std::string fallen_back_why_;
  std::string next_unsafe_why_;  // why the new code of a reload cannot be forked
  bool stopped_ = false;
  bool directory_gone_ = false;  // the log says so
  RestartPace zygote_pace_, guard_pace_;
  boost::asio::steady_timer restart_timer_;
  boost::asio::steady_timer guard_timer_;
  boost::asio::steady_timer import_timer_;
  Alive alive_;  // of the timers' handlers
};

}  // namespace keelback::host
