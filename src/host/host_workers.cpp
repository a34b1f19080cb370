// The life of worker processes, on the loop thread: start, first words, log, death.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "host/hello.h"
#include "host/host_impl.h"
#include "host/log_lines.h"
#include "host/started_mark.h"

namespace keelback::host {
namespace {

using Step = WorkerProcess::Step;

constexpr auto kSamplingPeriod = std::chrono::seconds(1);
// From the end of its socket to the end of a process.
constexpr auto kTimeToDie = std::chrono::milliseconds(50);
// What a worker needs to take a call at all: the stack of its control thread, and buffers.
constexpr std::uint64_t kRoomOfAWorker = 16 << 20;

// An answer to the ping that a late call's first rung sent; anything else is not worth a life.
void take_pong(WorkerProcess& worker, std::string_view packet) {
  if (packet.size() < wire::kHeaderBytes) return;
  const auto header = wire::parse_header(packet.substr(0, wire::kHeaderBytes),
                                         wire::Link::kSupervisorControl, wire::kPacketMax);
  if (!header) return;
  const auto pong = wire::decode_pong({*header, packet.substr(wire::kHeaderBytes)});
  if (pong) worker.ponged = pong->token;
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

// ---- start

void HostImpl::start_worker(WorkerId id, bool probe, bool again) {
  std::uint32_t frame_bytes_max = 0;
  {
    const Locked lock(lock_);
    frame_bytes_max = frame_bytes_max_;
  }
  auto made = make_worker(id, frame_bytes_max, slab_budget_);
  if (made) {
    if (auto added =
            epoll_.add(made->worker->channel.fd(), std::uint64_t{id.slot} << 32 | id.generation);
        !added) {
      made = std::unexpected(added.error());
    }
  }
  if (!made) {
    const std::string detail = "no descriptors for the worker: " + made.error().message();
    if (probe) return probe_ended(detail);
    Death death{.cause = "start_failed", .step = "fork", .detail = detail};
    return feed(core::WorkerExited{id, std::move(death), {}});
  }
  if (config_.interpose) made->ends.data = config_.interpose(id, std::move(made->ends.data));
  const WorkerPtr worker = made->worker;
  worker->probe = probe;
  worker->again = again;
  worker->log_watch = std::make_unique<FdWatch>(
      loop_, worker->log.get(), [this, worker = worker.get()] { read_log(*worker); });
  worker->control = std::make_unique<PacketLink>(
      loop_, std::move(made->control),
      [worker = worker.get()](std::string_view packet) { take_pong(*worker, packet); }, [] {});
  {
    const Locked lock(lock_);
    workers_[id] = worker;
    worker->marks.set_result_max(payload_max_);
    worker->marks.set_snapshot_max(snapshot_max_);
    worker->marks.set_attached_max(attached_max_);
    worker->channel.set_attached_max(attached_max_);
    worker->reader = Reader::kLoop;
  }
  arm(worker, true, false);
  auto answered = [this, worker](LaunchAnswer answer) { launched(worker, std::move(answer)); };
  if (probe) {
    probe_ = worker;
    launcher_->launch_probe(id, std::move(made->ends), std::move(answered));
  } else {
    launcher_->launch(id, std::move(made->ends), std::move(answered));
  }
}

void HostImpl::launched(const WorkerPtr& worker, LaunchAnswer answer) {
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
void HostImpl::start_again(const WorkerPtr& worker, bool again) {
  worker->finished = true;
  close_worker(worker);
  start_worker(worker->id, worker->probe, again);
}

void HostImpl::never_started(const WorkerPtr& worker, const StartFailure& failure) {
  close_worker(worker);
  if (worker->probe) return probe_ended(failure.detail);
  Death death{.cause = "start_failed",
              .step = failure.step,
              .detail = failure.detail,
              .stderr_tail = failure.stderr_tail};
  feed(core::WorkerExited{worker->id, std::move(death), {}});
}

void HostImpl::process_started(const WorkerPtr& worker, const Launched& process) {
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
  limit_memory(*worker);
  worker->death_watch = watch_death(
      loop_, worker->pidfd,
      [this, weak = std::weak_ptr<WorkerProcess>(worker)] { process_dead(weak.lock()); });
  if (worker->kill_wanted) return kill_worker(worker);
  if (worker->ready_said) process_said(Ready{worker});
}

void HostImpl::limit_memory(WorkerProcess& worker) {
  const std::uint64_t limit = settings_.workers.memory_limit.count;
  if (limit == 0 || refuse_limit(worker)) return;
  if (const auto limited = os::limit_data(worker.pid, limit); !limited) {
    log(core::Notice::Level::kError, fmt::format("worker {} has no memory limit: {}",
                                                 to_string(worker.id), limited.error().message()));
  }
}

// True: workers.memory_limit leaves it so little that it might not even be able to say what it
// lacks. It is killed, and that is why its start has failed.
bool HostImpl::refuse_limit(WorkerProcess& worker) {
  const std::uint64_t limit = settings_.workers.memory_limit.count;
  if (limit == 0) return false;
  const auto used = os::read_data_bytes(worker.pid);
  if (!used || *used + kRoomOfAWorker <= limit) return false;
  worker.refused = true;
  worker.kill_wanted = true;
  worker.start_error = fmt::format(
      "workers.memory_limit is {} bytes; the worker has allocated {} before its first call, and "
      "needs {} beside them",
      limit, *used, kRoomOfAWorker);
  return true;
}

void HostImpl::process_said(Hello& hello) {
  if (hello.worker->probe) {
    probe_hello_ = std::move(hello.json);
    return;
  }
  bool known = false;
  {
    const Locked lock(lock_);
    // A zygote has said it for all its workers.
    known = application_.known && path_.mode == "zygote";
  }
  if (!known) announce(hello.json);
}

void HostImpl::process_said(const Ready& ready) {
  WorkerProcess& worker = *ready.worker;
  if (worker.finished) return;
  worker.ready_said = true;
  if (worker.pid == 0) return;  // process_started() comes back here
  if (worker.refused) return;
  if (refuse_limit(worker)) return kill_worker(ready.worker);
  if (worker.probe) {
    launcher_->commit_reload();
    announce(probe_hello_);
    kill_worker(ready.worker);
    probe_.reset();
    reload_committed_ = true;
    return feed(core::ReloadRequested{});
  }
  if (settings_.workers.max_rss.count > 0) {
    if (const auto memory = os::read_memory_use(worker.pid)) {
      worker.own_bytes_at_ready = memory->own;
    }
  }
  feed(core::WorkerReady{worker.id});
}

void HostImpl::probe_ended(const std::string& error) {
  probe_.reset();
  if (!error.empty()) launcher_->abort_reload();
  reload_ended(error);
}

void HostImpl::reload_ended(const std::string& error) {
  if (error.empty()) {
    const auto leaving = info().stats.leaving;
    std::string text = "Reloaded: new calls meet the new code.";
    if (leaving.workers > 0) {
      text += fmt::format(" Workers that serve sessions with the old code: {}; their sessions: {}.",
                          leaving.workers, leaving.sessions);
    }
    log(core::Notice::Level::kInfo, text);
  }
  if (auto done = std::exchange(reload_done_, nullptr)) done(error);
}

// ---- log

void HostImpl::read_log(WorkerProcess& worker) {
  std::string piece(kLogPerTurn, '\0');
  const auto got = os::read_some(worker.log.get(), piece.data(), piece.size());
  std::vector<std::string> lines;
  if (got && *got > 0) {
    worker.lines.feed(now(), std::string_view(piece).substr(0, *got), lines);
  } else if (got) {  // errors pass; the end does not
    worker.lines.finish(now(), lines);
    worker.log_watch->stop();
  }
  log_lines(worker, lines);
  const std::uint64_t before = worker.log_dropped_lines.exchange(worker.lines.dropped());
  log_dropped_workers_ += worker.lines.dropped() - before;
}

void HostImpl::mark_dropped(WorkerProcess& worker) {
  const LogLines::Flood flood = worker.lines.take_flood();
  if (flood.dropped > 0) {
    logger_->warn("{}", dropped_text("Worker " + to_string(worker.id), flood.dropped));
  }
  log_lines(worker, flood.held);
}

void HostImpl::log_lines(const WorkerProcess& worker, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) logger_->info("[{}] {}", to_string(worker.id), line);
}

// Once a second, so that a flood which never ends leaves marks, and not a flood of them.
void HostImpl::mark_dropped_lines() {
  std::vector<WorkerPtr> all;
  {
    const Locked lock(lock_);
    for (const auto& [id, worker] : workers_) all.push_back(worker);
  }
  for (const WorkerPtr& worker : all) mark_dropped(*worker);
  launcher_->mark_dropped_lines();
}

// ---- death

void HostImpl::kill_worker(const WorkerPtr& worker) {
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

void HostImpl::reading_ended(const WorkerPtr& worker, const std::string& violation) {
  if (worker->finished) return;
  if (!violation.empty()) {
    if (worker->fault.empty()) worker->fault = "protocol: " + violation;
    kill_worker(worker);
  }
  if (worker->dead) return finish_death(worker);
  if (violation.empty()) kill_if_it_lives(worker);
}

// A dying process closes its socket a moment before its pidfd tells of the death. One that does not
// die is of no use without a socket, unless it is on its way out on our order.
void HostImpl::kill_if_it_lives(const WorkerPtr& worker) {
  auto timer = std::make_shared<boost::asio::steady_timer>(loop_, kTimeToDie);
  timer->async_wait(alive_.guard([this, worker, timer](const boost::system::error_code& error) {
    if (error || worker->dead || worker->finished) return;
    const auto stat = os::read_stat(worker->pid);
    if (stat && stat->exiting) return kill_if_it_lives(worker);
    {
      const Locked lock(lock_);
      if (worker->stop_wanted) return;
    }
    if (worker->fault.empty()) worker->fault = "it closed its socket";
    kill_worker(worker);
  }));
}

void HostImpl::process_dead(const WorkerPtr& worker) {
  if (worker == nullptr || worker->dead) return;
  worker->dead = true;
  worker->death_watch->stop();
  // What it has written stays readable; a grandchild that holds the other end can add nothing.
  worker->channel.shutdown_reading();
  {
    const Locked lock(lock_);
    if (worker->reader == Reader::kCaller) return;  // it finds the end: reading_ended()
    worker->reader = Reader::kLoop;
  }
  finish_death(worker);
}

// Hands in everything the worker wrote, then its death.
void HostImpl::finish_death(const WorkerPtr& worker) {
  if (worker->finished) return;
  Effects& effects = effects_of_thread();
  std::vector<WorkerMessage> messages;
  for (bool more = true; more;) {
    messages.clear();
    Channel::Received received = Channel::Received::kEnd;
    {
      const Locked lock(lock_);
      if (worker->reader == Reader::kCaller) return;  // it was given a call meanwhile
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
      const Locked lock(lock_);
      take_all(worker, messages, Channel::Received::kSome, nullptr, effects);
      settle(effects);
    }
    perform(effects);
  }
  // Only now does the zombie go: its number, its group and its status were safe until here.
  Death death = describe_death(*worker);
  const MarksAtDeath marks{worker->marks.started(), worker->marks.ended()};
  const std::uint64_t print = print_of_victim(*worker);
  {
    const Locked lock(lock_);
    if (worker->reader == Reader::kCaller) return;  // reading_ended() comes
    workers_.erase(worker->id);
    worker->finished = true;
    worker->reader = Reader::kNobody;
    const CallId started =
        may_have_started(worker->running, worker->last_ok, marks) ? worker->running : CallId{};
    if (!worker->probe)
      step(core::WorkerExited{worker->id, std::move(death), started, print}, nullptr, effects);
    settle(effects);
  }
  perform(effects);
  close_worker(worker);
  if (worker == probe_) {
    probe_ended(fmt::format("a worker with the new code failed: {}\n{}", worker->start_error,
                            worker->traceback));
  }
}

Death HostImpl::describe_death(WorkerProcess& worker) {
  if (worker.death) return *worker.death;
  read_log(worker);
  const auto stat = os::read_stat(worker.pid);
  static_cast<void>(os::kill_group(worker.pid));
  launcher_->kill_left_behind(worker.id, worker.marks.inode());
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

// ---- memory

// Workers whose private memory has grown by more than workers.max_rss since they were ready are
// replaced. Looked at between calls only: what a call uses while it runs is its own affair.
void HostImpl::sample_memory() {
  const std::uint64_t growth_max = settings_.workers.max_rss.count;
  if (growth_max == 0) return;
  std::vector<WorkerPtr> idle;
  {
    const Locked lock(lock_);
    for (const auto& [id, worker] : workers_) {
      if (!worker->running && worker->said == Step::kReady && !worker->probe) {
        idle.push_back(worker);
      }
    }
  }
  for (const WorkerPtr& worker : idle) {
    const auto memory = os::read_memory_use(worker->pid);
    if (!memory || worker->own_bytes_at_ready == 0 || worker->recycle_asked) continue;
    if (memory->own < worker->own_bytes_at_ready + growth_max) continue;
    worker->recycle_asked = true;
    logger_->info("worker {} is replaced: its private memory grew by {} bytes",
                  to_string(worker->id), memory->own - worker->own_bytes_at_ready);
    feed(core::RecycleRequested{worker->id.slot});
  }
}

// The call that dies with this worker, if it carries attachments: from now on every byte of it and
// of its like counts.
std::uint64_t HostImpl::print_of_victim(WorkerProcess& worker) {
  std::shared_ptr<const Attachments> attachments;
  std::uint64_t quick = 0;
  {
    const Locked lock(lock_);
    const CallRecord* record = worker.running ? find(worker.running) : nullptr;
    if (record == nullptr || record->attachments == nullptr) return 0;
    attachments = record->attachments;
    quick = record->quick_print;
    suspects_.add(quick);
  }
  return full_print(quick, *attachments);
}

// Slabs that no call has used for attachments.keep.
void HostImpl::shrink_slabs() {
  if (slab_budget_->used() == 0) return;
  const Time limit = now() - settings_.attachments.keep;
  Effects& effects = effects_of_thread();
  Slabs::Dropped dropped;
  {
    const Locked lock(lock_);
    for (const auto& [id, worker] : workers_) {
      if (worker->running || worker->said != Step::kReady) continue;
      auto theirs = worker->channel.shrink_slabs(limit);
      if (theirs.empty()) continue;
      effects.flush.push_back(worker);
      std::ranges::move(theirs, std::back_inserter(dropped));
    }
  }
  for (const auto& slab : dropped) slab->empty();
  perform(effects);
}

void HostImpl::schedule_sampling() {
  sampling_timer_.expires_after(kSamplingPeriod);
  sampling_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (error) return;
    oom_witness_.look(os::oom_kills());
    sample_memory();
    shrink_slabs();
    mark_dropped_lines();
    schedule_sampling();
  }));
}

// What belongs to the loop goes now; the channel stays as long as somebody holds the worker.
void HostImpl::close_worker(const WorkerPtr& worker) {
  mark_dropped(*worker);
  epoll_.remove(worker->channel.fd());
  worker->channel.drop_slabs();
  {
    const Locked lock(lock_);
    const auto found = workers_.find(worker->id);
    if (found != workers_.end() && found->second == worker) workers_.erase(found);
    if (stopping_ && workers_.empty()) {
      workers_gone_ = 1;
      os::futex_wake(&workers_gone_);
    }
  }
  // Not from within the handlers of what is destroyed here.
  boost::asio::post(loop_, [worker] { worker->leave_loop(); });
}

}  // namespace keelback::host
