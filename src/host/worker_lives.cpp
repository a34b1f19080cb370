#include "host/worker_lives.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/check.h"
#include "host/log_lines.h"
#include "os/fd.h"
#include "os/process.h"
#include "wire/process.h"

namespace keelback::host {
namespace {

using Step = WorkerProcess::Step;

// From the end of its socket to the end of a process.
constexpr auto kTimeToDie = std::chrono::milliseconds(50);
// How long the end waits for the guard.
constexpr auto kGuardStopMax = std::chrono::seconds(1);

// An answer to a ping of a late call's first rung, or of LoopWatch; anything else is not worth a
// life.
// Returns whether the worker's event loop has given it.
bool take_pong(WorkerProcess& worker, std::string_view packet) {
  if (packet.size() < wire::kHeaderBytes) return false;
  const auto header = wire::parse_header(packet.substr(0, wire::kHeaderBytes),
                                         wire::Link::kSupervisorControl, wire::kPacketMax);
  if (!header) return false;
  const wire::Frame frame{*header, packet.substr(wire::kHeaderBytes)};
  const auto pong = wire::decode_pong(frame);
  if (!pong || LoopWatch::heard(worker, pong->token, CallId{pong->running})) return false;
  worker.ponged = pong->token;
  return frame.loop();
}

// The signals that Python's faulthandler writes a report of.
bool is_fatal_error(int signal) {
  return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGFPE ||
         signal == SIGILL;
}

// The step that a worker is in, by what it has said last; `forked`: its process is there.
std::string step_name(Step said, bool forked) {
  switch (said) {
    case Step::kFork:
      return forked ? "connect" : "fork";
    case Step::kConnect:
      return "hello";
    case Step::kHello:
    case Step::kReady:
      break;
  }
  return "setup";
}

}  // namespace

os::Result<void> WorkerLives::start(Launcher::Program program) {
  launcher_ = std::make_unique<Launcher>(engine_.context(), std::move(program), roster_.settings,
                                         launcher_handlers());
  oom_witness_.look(os::oom_kills());
  return launcher_->start();
}

Launcher::Handlers WorkerLives::launcher_handlers() {
  Launcher::Handlers handlers;
  handlers.hello = [this](const std::string& json) { engine_.announce(json); };
  handlers.mode = [this](bool exec) {
    engine_.feed(core::StartModeChanged{exec, std::max(1U, std::thread::hardware_concurrency())});
  };
  handlers.path = [this](const StartPath& path) {
    const Locked locked(engine_.lock);
    roster_.path = path;
  };
  handlers.load_failed = [this](const StartFailure& failure) {
    engine_.feed(core::LoadFailed{{.cause = "start_failed",
                                   .step = failure.step,
                                   .detail = failure.detail,
                                   .stderr_tail = failure.stderr_tail}});
  };
  handlers.log_line = [this](const std::string& line) {
    engine_.logger().info("[zygote] {}", line);
  };
  handlers.log_dropped = [this](std::uint64_t lines) {
    roster_.log_dropped_zygotes += lines;
    engine_.logger().warn("{}", dropped_text("The zygote", lines));
  };
  handlers.notice = [this](bool warn, const std::string& text) {
    engine_.log(warn ? core::Notice::Level::kWarn : core::Notice::Level::kInfo, text);
  };
  handlers.guard_lost = [this] { engine_.feed(core::ReloadRequested{}); };
  handlers.now = [] { return Engine::now(); };
  return handlers;
}

void WorkerLives::look() {
  oom_witness_.look(os::oom_kills());
  launcher_->mark_dropped_lines();
  const OwnUse own = {os::count_open_fds().value_or(0),
                      os::read_resident_bytes(::getpid()).value_or(0)};
  const OwnUse guard = launcher_->guard_use();
  const Locked locked(engine_.lock);
  roster_.supervisor_use = own;
  roster_.guard_use = guard;
}

void WorkerLives::stop() {
  stopping_ = true;
  std::vector<WorkerPtr> left;
  {
    const Locked locked(engine_.lock);
    left = roster_.all();
  }
  if (left.empty()) engine_.crew_gone.put(true);
  for (const WorkerPtr& worker : left) kill(worker);
}

void WorkerLives::leave_loop() {
  std::vector<WorkerPtr> left;  // that did not die
  {
    const Locked locked(engine_.lock);
    left = roster_.all();
    roster_.workers.clear();
  }
  for (const WorkerPtr& worker : left) worker->leave_loop();
  if (launcher_) launcher_->stop(kGuardStopMax);
  launcher_.reset();
}

// ---- start

void WorkerLives::start_worker(WorkerId id, bool probe, bool again) {
  std::uint32_t frame_bytes_max = 0;
  {
    const Locked locked(engine_.lock);
    frame_bytes_max = roster_.frame_bytes_max;
  }
  auto made = make_worker(id, frame_bytes_max, roster_.slab_budget);
  if (made) {
    if (auto added = reading_.add(*made->worker); !added) {
      made = std::unexpected(added.error());
    }
  }
  if (!made) {
    const std::string detail = "no descriptors for the worker: " + made.error().message();
    if (probe) return probe_ended(detail);
    Death death{.cause = "start_failed", .step = "fork", .detail = detail};
    return engine_.feed(core::WorkerExited{id, std::move(death), {}});
  }
  if (interpose_) made->ends.data = interpose_(id, std::move(made->ends.data));
  const WorkerPtr worker = made->worker;
  worker->probe = probe;
  worker->again = again;
  worker->log_watch =
      std::make_unique<FdWatch>(engine_.context(), worker->log.get(),
                                [this, worker = worker.get()] { watch_.read_log(*worker); });
  worker->control = std::make_unique<PacketLink>(
      engine_.context(), std::move(made->control),
      [this, worker = worker.get()](std::string_view packet) {
        if (take_pong(*worker, packet)) engine_.feed(core::LoopTurned{worker->id});
      },
      [] {});
  {
    const Locked locked(engine_.lock);
    roster_.workers[id] = worker;
    roster_.limit(*worker);
    worker->reader = Reader::kLoop;
  }
  reading_.arm(worker, true, false);
  auto answered = [this, worker](LaunchAnswer answer) { launched(worker, std::move(answer)); };
  if (probe) {
    probe_ = worker;
    launcher_->launch_probe(id, std::move(made->ends), std::move(answered));
  } else {
    launcher_->launch(id, std::move(made->ends), std::move(answered));
  }
}

void WorkerLives::launched(const WorkerPtr& worker, LaunchAnswer answer) {
  if (const auto* process = std::get_if<Launched>(&answer))
    return process_started(worker, *process);
  if (std::holds_alternative<ComeAgain>(answer) && !worker->kill_wanted) {
    return start_again(worker, worker->again);
  }
  if (const auto* failure = std::get_if<StartFailure>(&answer)) {
    // The next zygote forks it. Once: an application may kill its zygote at each fork.
    if (failure->bereft && !worker->kill_wanted && !worker->probe && !worker->again) {
      return start_again(worker, /*again=*/true);
    }
    return never_started(worker, *failure);
  }
  never_started(worker, {"fork", "it was to be killed before it was started", ""});
}

// With new ends, under the same id. The end of the old ones is nobody's death.
void WorkerLives::start_again(const WorkerPtr& worker, bool again) {
  worker->finished = true;
  close_worker(worker);
  start_worker(worker->id, worker->probe, again);
}

void WorkerLives::never_started(const WorkerPtr& worker, const StartFailure& failure) {
  close_worker(worker);
  if (worker->probe) return probe_ended(failure.detail);
  Death death{.cause = "start_failed",
              .step = failure.step,
              .detail = failure.detail,
              .stderr_tail = failure.stderr_tail};
  engine_.feed(core::WorkerExited{worker->id, std::move(death), {}});
}

void WorkerLives::process_started(const WorkerPtr& worker, const Launched& process) {
  // Its parent reaps on order only, so the number cannot have been reused.
  auto pidfd = os::Pidfd::open(process.pid);
  if (!pidfd) {
    ::kill(process.pid, SIGKILL);
    launcher_->reap(process);
    return never_started(worker, {"fork", "no pidfd: " + pidfd.error().message(), ""});
  }
  worker->pid = process.pid;
  worker->zygote = process.zygote;
  worker->pidfd = std::move(*pidfd);
  watch_.limit_memory(*worker);
  worker->death_watch = watch_death(
      engine_.context(), worker->pidfd,
      [this, weak = std::weak_ptr<WorkerProcess>(worker)] { process_dead(weak.lock()); });
  if (worker->kill_wanted) return kill(worker);
  if (worker->ready_said) said_ready(worker);
}

void WorkerLives::said_hello(const WorkerPtr& worker, std::string json) {
  if (worker->probe) {
    probe_hello_ = std::move(json);
    return;
  }
  bool forked = false;
  {
    const Locked locked(engine_.lock);
    forked = roster_.path.mode == "zygote";
  }
  // A zygote has said it for all its workers.
  if (!forked || !engine_.application()) engine_.announce(json);
}

void WorkerLives::said_ready(const WorkerPtr& ready) {
  WorkerProcess& worker = *ready;
  if (worker.finished) return;
  worker.ready_said = true;
  if (worker.pid == 0) return;  // process_started() comes back here
  if (worker.refused) return;
  if (watch_.refuse_limit(worker)) return kill(ready);
  if (worker.probe) {
    launcher_->commit_reload();
    engine_.announce(probe_hello_);
    kill(ready);
    probe_.reset();
    reload_committed_ = true;
    return engine_.feed(core::ReloadRequested{});
  }
  watch_.is_ready(worker);
  engine_.feed(core::WorkerReady{worker.id});
}

// ---- reload

void WorkerLives::reload(std::move_only_function<void(std::string error)> done) {
  if (reload_done_) return done("a reload is under way");
  reload_done_ = std::move(done);
  launcher_->begin_reload([this](std::string error) {
    if (!error.empty()) return probe_ended(error);
    // A slot that no pool has: the core does not know this worker.
    start_worker({kProbeSlot, ++probes_}, /*probe=*/true, /*again=*/false);
  });
}

void WorkerLives::reloaded(const std::string& error) {
  if (std::exchange(reload_committed_, false)) reload_ended(error);
}

void WorkerLives::probe_ended(const std::string& error) {
  probe_.reset();
  if (!error.empty()) launcher_->abort_reload();
  reload_ended(error);
}

void WorkerLives::reload_ended(const std::string& error) {
  if (error.empty()) {
    PoolStats stats;
    {
      const Locked locked(engine_.lock);
      stats = engine_.pool().stats(engine_.now());
    }
    const auto& leaving = stats.leaving;
    std::string text = "Reloaded: new calls meet the new code.";
    if (leaving.workers > 0) {
      text += fmt::format(" Workers that serve sessions with the old code: {}; their sessions: {}.",
                          leaving.workers, leaving.sessions);
    }
    engine_.log(core::Notice::Level::kInfo, text);
  }
  if (auto done = std::exchange(reload_done_, nullptr)) done(error);
}

// ---- death

void WorkerLives::kill(const WorkerPtr& worker) {
  worker->kill_wanted = true;
  if (worker->dead) return;
  if (worker->pid == 0) {
    if (launcher_->cancel(worker->id)) {
      never_started(worker, {"hello", "the application was not imported in time", ""});
    }
    return;  // else launched() will come back here
  }
  // Whoever has left the group is found now, while its parents still stand.
  const auto descendants = os::descendants_of(worker->pid);
  static_cast<void>(os::kill_group(worker->pid));  // ESRCH: it did not get to be a leader
  static_cast<void>(worker->pidfd.send_signal(SIGKILL));
  for (pid_t pid : descendants) ::kill(pid, SIGKILL);
}

void WorkerLives::reading_ended(const WorkerPtr& worker, const std::string& violation) {
  if (worker->finished) return;
  if (!violation.empty()) {
    if (worker->fault.empty()) worker->fault = "protocol: " + violation;
    kill(worker);
  }
  if (worker->dead) return finish_death(worker);
  if (violation.empty()) kill_if_it_lives(worker);
}

void WorkerLives::kill_if_it_lives(const WorkerPtr& worker) {
  auto timer = std::make_shared<boost::asio::steady_timer>(engine_.context(), kTimeToDie);
  timer->async_wait(engine_.guard([this, worker, timer](const boost::system::error_code& error) {
    if (error || worker->dead || worker->finished) return;
    const auto stat = os::read_stat(worker->pid);
    if (stat && stat->exiting) return kill_if_it_lives(worker);
    {
      const Locked locked(engine_.lock);
      if (worker->stop_wanted) return;
    }
    if (worker->fault.empty()) worker->fault = "it closed its socket";
    kill(worker);
  }));
}

void WorkerLives::process_dead(const WorkerPtr& worker) {
  if (worker == nullptr || worker->dead) return;
  worker->dead = true;
  worker->death_watch->stop();
  // What it has written stays readable; a grandchild that holds the other end can add nothing.
  worker->channel.shutdown_reading();
  {
    const Locked locked(engine_.lock);
    if (worker->reader == Reader::kCaller) return;  // it finds the end: reading_ended()
    worker->reader = Reader::kLoop;
  }
  finish_death(worker);
}

// Hands in everything the worker wrote. False: a caller reads it.
bool WorkerLives::read_to_the_end(const WorkerPtr& worker) {
  Effects& effects = effects_of_thread();
  std::vector<WorkerMessage> messages;
  for (bool more = true; more;) {
    messages.clear();
    Channel::Received received = Channel::Received::kEnd;
    {
      const Locked locked(engine_.lock);
      if (worker->reader == Reader::kCaller) return false;  // it was given a call meanwhile
      if (worker->drained) break;
      worker->reader = Reader::kLoop;
    }
    received = worker->channel.receive(os::Wait::kNo, messages);
    more = received == Channel::Received::kSome;
    if (received == Channel::Received::kViolation) {
      if (worker->fault.empty()) worker->fault = "protocol: " + worker->channel.violation();
      received = Channel::Received::kSome;
    }
    if (messages.empty()) continue;
    {
      const Locked locked(engine_.lock);
      reading_.take_all(worker, messages, Channel::Received::kSome, nullptr, effects);
      engine_.settle(effects);
    }
    engine_.perform(effects);
  }
  return true;
}

// Those of the dead worker's calls whose user code may have run.
std::vector<core::StartedCall> WorkerLives::started_calls(WorkerProcess& worker) {
  std::vector<core::StartedCall> started;
  const Locked locked(engine_.lock);
  if (worker.may_have_begun(worker.running)) started.push_back({worker.running});
  worker.shared.each([&](std::uint16_t, CallId call) REQUIRES(host_state) {
    if (worker.may_have_begun(call)) started.push_back({call});
  });
  return started;
}

// The call whose code the thread ran that has ended the dead worker; 0: it is not known.
CallId WorkerLives::culprit(const WorkerProcess& worker, const Death& death) {
  if (death.cause != "signal" && death.cause != "exit") return {};
  std::uint64_t thread = 0;
  if (worker.marks.ending_signal() == static_cast<std::uint64_t>(death.signal.value_or(0))) {
    thread = worker.marks.ending();
  }
  if (thread == 0 && death.signal && is_fatal_error(*death.signal)) {
    thread = worker.lines.fatal_thread();
  }
  CallId found;
  int calls = 0;
  worker.shared.each([&](std::uint16_t row, CallId call) {
    if (thread == 0 || worker.marks.thread(row) != thread) return;
    found = call;
    ++calls;
  });
  return calls == 1 ? found : CallId{};
}

// Everything the worker wrote comes first, then its death.
void WorkerLives::finish_death(const WorkerPtr& worker) {
  if (worker->finished || !read_to_the_end(worker)) return;
  // Only now does the zombie go: its number, its group and its status were safe until here.
  Death death = describe_death(*worker);
  std::vector<core::StartedCall> started = started_calls(*worker);
  for (core::StartedCall& each : started) {
    each.fingerprint = engine_.calls().print_of_victim(each.call);
  }
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    if (worker->reader == Reader::kCaller) return;  // reading_ended() comes
    roster_.workers.erase(worker->id);
    worker->finished = true;
    worker->reader = Reader::kNobody;
    engine_.calls_out().ended(worker->id, effects);
    if (!worker->probe) {
      const CallId by = culprit(*worker, death);
      engine_.step(core::WorkerExited{worker->id, std::move(death), std::move(started), by},
                   nullptr, effects);
    }
    engine_.settle(effects);
  }
  engine_.perform(effects);
  close_worker(worker);
  if (worker == probe_) {
    probe_ended(fmt::format("a worker with the new code failed: {}\n{}", worker->start_error,
                            worker->traceback));
  }
}

Death WorkerLives::describe_death(WorkerProcess& worker) {
  if (worker.death) return *worker.death;
  watch_.read_log(worker);
  const auto stat = os::read_stat(worker.pid);
  static_cast<void>(os::kill_group(worker.pid));
  launcher_->kill_left_behind(worker);
  launcher_->reap({worker.pid, worker.zygote});

  Death death;
  death.stderr_tail = worker.lines.tail();
  const bool known = stat && (stat->state == 'Z' || stat->state == 'X');
  if (known && WIFSIGNALED(stat->exit_status)) death.signal = WTERMSIG(stat->exit_status);
  if (known && WIFEXITED(stat->exit_status)) death.exit_code = WEXITSTATUS(stat->exit_status);
  const bool foreign_kill = death.signal == SIGKILL && !worker.kill_wanted;
  if (worker.said != Step::kReady || worker.refused) {
    death.cause = "start_failed";
    death.step = worker.start_step.empty() ? step_name(worker.said, true) : worker.start_step;
    if (death.stderr_tail.find(worker.traceback) == std::string::npos) {
      death.stderr_tail += worker.traceback;
    }
  } else if (!known) {
    death.cause = "unknown";
  } else if (worker.kill_wanted && death.signal == SIGKILL) {
    death.cause = "killed";
  } else if (death.signal) {
    const bool proved = foreign_kill && oom_witness_.proves(os::oom_kills());
    death.cause = proved ? "oom" : "signal";
    death.oom_suspected = foreign_kill;
  } else {
    death.cause = "exit";
  }
  death.detail = worker.fault;
  if (death.detail.empty()) death.detail = worker.start_error;
  if (death.detail.empty() && death.signal) {
    const char* meaning = ::sigdescr_np(*death.signal);
    if (meaning != nullptr) death.detail = meaning;
  }
  worker.death = death;
  return death;
}

// What belongs to the loop goes now; the channel stays as long as somebody holds the worker.
void WorkerLives::close_worker(const WorkerPtr& worker) {
  watch_.mark_dropped(*worker);
  reading_.remove(*worker);
  worker->channel.drop_slabs();
  bool gone = false;
  {
    const Locked locked(engine_.lock);
    const auto found = roster_.workers.find(worker->id);
    if (found != roster_.workers.end() && found->second == worker) roster_.workers.erase(found);
    gone = stopping_ && roster_.workers.empty();
  }
  // Not from within the handlers of what is destroyed here.
  boost::asio::post(engine_.context(), [worker] { worker->leave_loop(); });
  if (gone) engine_.crew_gone.put(true);
}

}  // namespace keelback::host
