// The supervisor's end of one zygote process: it imports the application once and forks workers
// (docs/protocol.md, "The zygote's order socket"). Loop thread only. Handlers must not destroy the
// client they are called by.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>

#include "base/id.h"
#include "host/event_loop.h"
#include "host/guard_client.h"
#include "host/log_lines.h"
#include "host/loop_io.h"
#include "host/worker_process.h"

namespace keelback::host {

// How the zygote tells that this application must not be forked.
struct Unsafe {
  std::string what;         // "thread", "socket", "pipe", …
  std::string module;       // to blame
  std::string detail;       // of the first reasons there are
  std::uint64_t bytes = 0;  // of memory that forked workers would share
};
// Why a start failed, in the words of Death.
struct StartFailure {
  std::string step;  // "fork", "connect", "hello", "setup"
  std::string detail;
  std::string stderr_tail;  // with the traceback, if there is one
  bool bereft = false;      // who was to fork it is gone: another may
};
// Why the guard could not start a program.
std::string why_not_run(const std::string& program, const std::string& directory,
                        const std::error_code& error);

using ForkAnswer = std::variant<pid_t, Unsafe, StartFailure>;

class ZygoteClient {
 public:
  enum class State : std::uint8_t { kStarting, kUp, kFailed, kDead };
  struct Handlers {
    // The application is imported and set up. unsafe: if it cannot be forked, why.
    std::move_only_function<void(const std::string& hello_json, double import_s,
                                 const Unsafe* unsafe)>
        ready;
    // It is gone, or could not be started; failure() says why if it never was up.
    std::move_only_function<void()> ended;
    std::move_only_function<void(const std::string& text)> notice;
    std::move_only_function<void(const std::string& line)> log_line;
    std::move_only_function<void(std::uint64_t lines)> log_dropped;  // see mark_dropped()
    std::function<Time()> now;
  };
  using OnForked = std::move_only_function<void(ForkAnswer)>;

  // `spec` is the program; its descriptors are added here. `guard` must outlive the client.
  ZygoteClient(boost::asio::io_context& loop, GuardClient& guard, std::uint64_t number,
               SpawnSpec spec, os::Fd lifeline, os::Fd shared, Handlers handlers);
  ~ZygoteClient();

  // Requires: state() == kUp. The answer comes on the loop.
  void fork(WorkerId worker, WorkerEnds ends, OnForked done);
  // Says how many of its lines the log did not take since it was last asked.
  void mark_dropped();
  void reap(pid_t pid);
  // Answers every fork that is under way; for a client that is to end.
  void cancel_forks(const ForkAnswer& answer);
  // Whether a worker that it has forked was not reaped yet.
  bool has_workers() const { return workers_ > 0; }
  // How long it has owed an answer for that worker; 0: it owes none.
  Duration owes(WorkerId worker) const;
  // It forks no more, runs what its import registered for exit, and ends; `ended` follows. It has
  // `limit` for that, then it is killed. What it forks without our knowing it waits for.
  void end(std::chrono::milliseconds limit);
  // The same at the host's end, in two steps, so that several can end at once. The second one
  // blocks until `until`.
  void begin_to_end();
  void finish_to_end(Time until);
  // SIGKILL; `ended` follows. Its workers live on under the guard.
  void kill();

  // The same, and `failure` is why it never came up. Requires: it has forked nobody.
  void give_up(StartFailure failure);

  State state() const { return state_; }
  std::uint64_t number() const { return number_; }
  // That its workers inherit.
  const std::vector<std::string>& environment() const { return environment_; }
  pid_t pid() const { return pid_; }
  const StartFailure& failure() const { return failure_; }

 private:
  void spawned(os::Result<pid_t> pid);
  void packet(std::string_view text);
  void read_log();
  void died();
  void fail(StartFailure failure);

  boost::asio::io_context& loop_;
  GuardClient& guard_;
  const std::uint64_t number_;
  const std::string interpreter_;
  const std::string directory_;
  const std::vector<std::string> environment_;
  Handlers handlers_;
  State state_ = State::kStarting;
  pid_t pid_ = 0;
  bool kill_wanted_ = false;
  bool reaped_ = false;        // or about to be: pid_ means nothing any more
  std::uint32_t workers_ = 0;  // forked for us and not reaped
  os::Pidfd pidfd_;
  os::Fd log_;
  LogLines lines_;
  StartFailure failure_;
  std::string hello_;  // its parts, until it says ready
  struct Forking {
    OnForked done;
    Time since;
  };
  std::unordered_map<std::string, Forking> forking_;
  std::unique_ptr<PacketLink> link_;
  std::unique_ptr<FdWatch> log_watch_;
  std::unique_ptr<FdWatch> death_watch_;
  boost::asio::steady_timer end_timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();  // shared with the guard's answer only
  Alive handlers_alive_;                                  // of the timer's
};

}  // namespace keelback::host
