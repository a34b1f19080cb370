#include "host/launcher.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <utility>

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

constexpr int kSharedNumber = 7;
constexpr std::size_t kSharedBytes = 64 * 1024;

std::vector<std::string> with_shared(std::vector<std::string> environment) {
  environment.push_back(fmt::format("KEELBACK_SHARED_FD={}", kSharedNumber));
  return environment;
}

std::string describe(const Unsafe& why) {
  std::string text = fmt::format("not safe to fork: {}", why.what);
  if (!why.module.empty()) text += fmt::format(" from module {}", why.module);
  if (!why.detail.empty()) text += fmt::format(" ({})", why.detail);
  text += ". Remedy: make it in a function marked @keelback.worker_setup (docs/start-modes.md)";
  return text;
}

// The same, and what it costs to start by exec.
std::string describe_fallback(const Unsafe& why) {
  constexpr std::uint64_t kMiB = 1 << 20;
  return fmt::format(
      "{}. Until then each worker imports the application itself: {} MiB of memory "
      "each, which forked workers would share",
      describe(why), (why.bytes + kMiB - 1) / kMiB);
}

// Why a pool that keeps no worker does not serve this application.
std::string describe_refusal(const Unsafe& why) {
  return "pool.workers or pool.min_ready is 0, so workers must be forked, and the application is " +
         describe(why);
}

}  // namespace

Launcher::Launcher(boost::asio::io_context& loop, Program program, const Settings& settings,
                   Handlers handlers)
    : loop_(loop),
      program_(std::move(program)),
      settings_(settings),
      handlers_(std::move(handlers)),
      restart_timer_(loop),
      guard_timer_(loop),
      import_timer_(loop) {}

Launcher::~Launcher() { stop(1000ms); }

os::Result<void> Launcher::start() {
  auto lifeline = os::make_pipe();
  if (!lifeline) return std::unexpected(lifeline.error());
  lifeline_read_ = std::move(lifeline->read);
  lifeline_write_ = std::move(lifeline->write);
  auto shared = os::make_sealed_memfd("keelback-shared", kSharedBytes);
  if (!shared) return std::unexpected(shared.error());
  shared_ = std::move(*shared);
  if (auto started = start_guard(); !started) return started;
  handlers_.mode(exec_mode());
  const std::string missing = program_.cgroups.missing(settings_);
  if (!missing.empty()) {
    handlers_.notice(true, missing);
  } else if (program_.cgroups.directory().empty() && settings_.workers.cgroup != CgroupMode::kOff) {
    handlers_.notice(false, "workers have no control groups: " + program_.cgroups.why_not());
  }
  if (exec_mode()) {
    set_path("up", "");
  } else {
    start_zygote();
  }
  return {};
}

os::Result<void> Launcher::start_guard() {
  auto guard = GuardClient::start(
      loop_, program_.guard, [this] { guard_died(); }, program_.cgroups.directory());
  if (!guard) return std::unexpected(guard.error());
  guard_ = std::move(*guard);
  return {};
}

bool Launcher::zygote_possible() const {
  return program_.backend == Backend::kPython && settings_.workers.zygote != ZygoteMode::kOff;
}

void Launcher::set_path(std::string state, std::string reason) {
  path_.mode = program_.backend == Backend::kFake ? "fake" : exec_mode() ? "exec" : "zygote";
  path_.state = std::move(state);
  path_.reason = std::move(reason);
  path_.zygote_pid = zygote_ ? zygote_->pid() : 0;
  handlers_.path(path_);
}

// ---- programs

// What the processes that run the application have in common.
SpawnSpec Launcher::program_spec() {
  SpawnSpec spec;
  spec.argv = {settings_.workers.python, program_.start, "keelback.zygote", "--app", program_.app};
  if (!program_.expose.empty()) {
    spec.argv.push_back("--expose");
    spec.argv.push_back(fmt::format("{}", fmt::join(program_.expose, ",")));
  }
  spec.directory = directory();
  spec.user = program_.user;
  return spec;
}

SpawnSpec Launcher::zygote_spec() {
  SpawnSpec spec = program_spec();
  spec.environment = with_shared(program_.environment.of_zygote(settings_));
  return spec;
}

// An application with an absolute path starts without its working directory. Then it starts where
// its file is: where releases are replaced as a whole, that is the directory's successor.
std::string Launcher::directory() {
  namespace fs = std::filesystem;
  std::error_code error;
  const bool was_gone = directory_gone_;
  directory_gone_ = !fs::is_directory(program_.directory, error);
  const fs::path app(program_.app);
  // An application that is looked for in a directory that is gone is gone, too: the start says so.
  if (!directory_gone_ || !app.is_absolute()) return program_.directory;
  const fs::path other = fs::is_directory(app.parent_path(), error) ? app.parent_path() : "/";
  if (!was_gone) {
    handlers_.notice(true,
                     fmt::format("the working directory {} is gone; new processes start in {}",
                                 program_.directory, other.string()));
  }
  return other.string();
}

SpawnSpec Launcher::worker_spec(WorkerId worker) {
  SpawnSpec spec = program_spec();
  spec.environment = with_shared(program_.environment.of_worker(settings_, worker));
  if (program_.backend == Backend::kFake) {
    spec.argv = {program_.fake_worker, "--app", program_.app};
  } else {
    spec.argv[2] = "keelback.worker";
  }
  spec.argv.push_back("--worker");
  spec.argv.push_back(to_string(worker));
  spec.environment.push_back("KEELBACK_WORKER=" + to_string(worker));
  spec.numbers = {0, 1, 2, 3, 4, 5, 6, kSharedNumber};
  return spec;
}

// ---- starting workers

void Launcher::launch(WorkerId worker, WorkerEnds ends, OnLaunched done) {
  ends.place = program_.cgroups.place_of(worker, settings_);
  if (exec_mode()) return exec(worker, std::move(ends), std::move(done));
  if (zygote_ && zygote_->state() == ZygoteClient::State::kUp) {
    return fork(*zygote_, worker, std::move(ends), std::move(done));
  }
  waiting_.push_back({worker, std::move(ends), std::move(done)});
  if (!zygote_ && restart_timer_.expiry() <= std::chrono::steady_clock::now()) start_zygote();
}

bool Launcher::cancel(WorkerId worker) {
  for (std::vector<Waiting>* starts : {&waiting_, &waiting_for_end_}) {
    const auto found = std::ranges::find(*starts, worker, &Waiting::worker);
    if (found == starts->end()) continue;
    starts->erase(found);
    return true;
  }
  for (ZygoteClient* zygote : {zygote_.get(), next_zygote_.get()}) {
    if (zygote == nullptr || zygote->state() != ZygoteClient::State::kUp) continue;
    // The start's own clock began a little earlier.
    if (zygote->owes(worker) <= settings_.workers.start_timeout / 2) continue;
    handlers_.notice(true, "the zygote does not answer; it is killed");
    zygote->kill();
  }
  return false;
}

void Launcher::prepare_fork(ZygoteClient& zygote, WorkerId worker, WorkerEnds& ends) {
  if (program_.user) os::give_pipe(ends.log.get(), program_.user);
  ends.environment = changes_between(
      zygote.environment(), with_shared(program_.environment.of_worker(settings_, worker)));
}

void Launcher::fork(ZygoteClient& zygote, WorkerId worker, WorkerEnds ends, OnLaunched done) {
  prepare_fork(zygote, worker, ends);
  zygote.fork(worker, std::move(ends),
              [this, number = zygote.number(), done = std::move(done)](ForkAnswer forked) mutable {
                answer(done, number, std::move(forked));
              });
}

void Launcher::answer(OnLaunched& done, std::uint64_t zygote, ForkAnswer forked) {
  if (const auto* pid = std::get_if<pid_t>(&forked)) {
    if (guard_) guard_->watch(*pid);
    return done(Launched{*pid, zygote});
  }
  if (const auto* unsafe = std::get_if<Unsafe>(&forked)) {
    if (settings_.workers.zygote == ZygoteMode::kForce) {
      return done(StartFailure{"fork", describe(*unsafe), ""});
    }
    fall_back(*unsafe);
    return done(ComeAgain{});
  }
  done(std::get<StartFailure>(std::move(forked)));
}

void Launcher::exec(WorkerId worker, WorkerEnds ends, OnLaunched done) {
  if (exec_waits_for_ != 0) {
    waiting_for_end_.push_back({worker, std::move(ends), std::move(done)});
    return;
  }
  auto null = os::open_null();
  auto log_copy = os::duplicate(ends.log.get());
  auto lifeline = os::duplicate(lifeline_read_.get());
  auto shared = os::duplicate(shared_.get());
  if (!null || !log_copy || !lifeline || !shared || !guard_) {
    const char* why = guard_ ? "no descriptors for the worker" : "there is no guard at the moment";
    return boost::asio::post(
        loop_, [why, done = std::move(done)]() mutable { done(StartFailure{"fork", why, ""}); });
  }
  std::vector<os::Fd> fds;
  fds.push_back(std::move(*null));
  fds.push_back(std::move(ends.log));
  fds.push_back(std::move(*log_copy));
  fds.push_back(std::move(ends.data));
  fds.push_back(std::move(ends.control));
  fds.push_back(std::move(ends.marks));
  fds.push_back(std::move(*lifeline));
  fds.push_back(std::move(*shared));
  SpawnSpec spec = worker_spec(worker);
  spec.kin = ends.kin;
  spec.place = std::move(ends.place);
  guard_->spawn(spec, std::move(fds),
                [program = spec.argv.front(), directory = spec.directory,
                 done = std::move(done)](os::Result<pid_t> pid) mutable {
                  if (pid) return done(Launched{*pid, 0});
                  done(StartFailure{"fork", why_not_run(program, directory, pid.error()), ""});
                });
}

void Launcher::reap(const Launched& process) {
  for (ZygoteClient* zygote : {zygote_.get(), next_zygote_.get()}) {
    if (zygote != nullptr && zygote->number() == process.zygote) zygote->reap(process.pid);
  }
  for (const auto& zygote : retired_) {
    if (zygote->number() != process.zygote) continue;
    zygote->reap(process.pid);
    end_if_unused(*zygote);
  }
  if (guard_) guard_->reap(process.pid);
}

void Launcher::kill_left_behind(const WorkerProcess& worker) {
  if (!guard_) return;
  guard_->kill_marked("KEELBACK_WORKER=" + to_string(worker.id), worker.marks.inode(), worker.kin);
}

// ---- the zygote

std::unique_ptr<ZygoteClient> Launcher::make_zygote(bool aside) {
  auto lifeline = os::duplicate(lifeline_read_.get());
  auto shared = os::duplicate(shared_.get());
  const std::uint64_t number = ++zygotes_;
  ZygoteClient::Handlers handlers;
  handlers.ready = [this, aside, number](const std::string& hello, double import_s,
                                         const Unsafe* unsafe) {
    ZygoteClient* zygote = aside && next_zygote_ ? next_zygote_.get() : zygote_.get();
    if (zygote == nullptr || zygote->number() != number) return;
    if (unsafe != nullptr && must_fork()) {
      return zygote->give_up({"fork", describe_refusal(*unsafe), ""});
    }
    zygote_ready(*zygote, hello, import_s);
  };
  handlers.ended = [this, number] { zygote_ended(number); };
  handlers.notice = [this](const std::string& text) { handlers_.notice(false, text); };
  handlers.log_line = [this](const std::string& line) { handlers_.log_line(line); };
  handlers.log_dropped = [this](std::uint64_t lines) { handlers_.log_dropped(lines); };
  handlers.now = handlers_.now;
  SpawnSpec spec = zygote_spec();
  spec.place = program_.cgroups.place_of_zygote(number);
  return std::make_unique<ZygoteClient>(
      loop_, *guard_, number, std::move(spec), lifeline ? std::move(*lifeline) : os::Fd(),
      shared ? std::move(*shared) : os::Fd(), std::move(handlers));
}

void Launcher::mark_dropped_lines() {
  for (ZygoteClient* zygote : {zygote_.get(), next_zygote_.get()}) {
    if (zygote != nullptr) zygote->mark_dropped();
  }
  for (const auto& zygote : retired_) zygote->mark_dropped();
}

void Launcher::start_zygote() {
  if (stopped_ || !guard_) return;
  zygote_ = make_zygote(/*aside=*/false);
  set_path("starting", "");
  import_timer_.expires_after(settings_.workers.start_timeout);
  import_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (error || !zygote_ || zygote_->state() != ZygoteClient::State::kStarting) return;
    zygote_->give_up(
        {"hello", "the application was not imported within workers.start_timeout", ""});
  }));
}

void Launcher::zygote_ready(ZygoteClient& zygote, const std::string& hello, double import_s) {
  path_.import_s = import_s;
  if (&zygote == next_zygote_.get()) {
    if (auto done = std::exchange(reload_done_, nullptr)) done("");
    return;
  }
  import_timer_.cancel();
  set_path("up", "");
  handlers_.hello(hello);
  for (Waiting& start : std::exchange(waiting_, {})) {
    fork(zygote, start.worker, std::move(start.ends), std::move(start.done));
  }
}

void Launcher::zygote_ended(std::uint64_t number) {
  const auto retired = std::ranges::find_if(
      retired_, [&](const auto& zygote) { return zygote->number() == number; });
  if (retired != retired_.end()) {
    bury(std::move(*retired));
    retired_.erase(retired);
    if (exec_waits_for_ != number) return;
    exec_waits_for_ = 0;
    for (Waiting& start : std::exchange(waiting_for_end_, {})) {
      exec(start.worker, std::move(start.ends), std::move(start.done));
    }
    return;
  }
  if (next_zygote_ && next_zygote_->number() == number) {
    const StartFailure failure = next_zygote_->failure();
    bury(std::move(next_zygote_));
    if (auto done = std::exchange(reload_done_, nullptr)) {
      done(failure.detail + (failure.stderr_tail.empty() ? "" : "\n" + failure.stderr_tail));
    }
    return;
  }
  if (!zygote_ || zygote_->number() != number) return;
  import_timer_.cancel();
  const bool was_up = zygote_->state() == ZygoteClient::State::kDead;
  const StartFailure failure = zygote_->failure();
  bury(std::move(zygote_));
  if (stopped_ || exec_mode()) return;
  if (was_up) {
    set_path("down", "the zygote died; it is being brought back");
    handlers_.notice(true, path_.reason);
    restart_later();
  } else {
    // The core paces further attempts: the next launch starts a new zygote.
    set_path("down", failure.detail);
    if (waiting_.empty()) handlers_.load_failed(failure);
    fail_waiting(failure);
  }
}

void Launcher::restart_later() {
  restart_timer_.expires_after(zygote_pace_.after_death(handlers_.now()));
  restart_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (!error && !zygote_ && !exec_mode()) start_zygote();
  }));
}

void Launcher::fail_waiting(const StartFailure& failure) {
  for (Waiting& start : std::exchange(waiting_, {})) start.done(failure);
}

void Launcher::fall_back(const Unsafe& why) {
  if (fallen_back_) return;
  fallen_back_ = true;
  auto zygote = std::move(zygote_);
  if (zygote && !zygote->has_workers()) exec_waits_for_ = zygote->number();
  fallen_back_why_ = describe_fallback(why);
  set_path("fallback", fallen_back_why_);
  handlers_.notice(true, "workers are started by exec: " + path_.reason);
  handlers_.mode(true);
  if (zygote) zygote->cancel_forks(why);
  retire(std::move(zygote));
  for (Waiting& start : std::exchange(waiting_, {})) {
    exec(start.worker, std::move(start.ends), std::move(start.done));
  }
}

void Launcher::retire(std::unique_ptr<ZygoteClient> zygote) {
  if (!zygote) return;
  retired_.push_back(std::move(zygote));
  end_if_unused(*retired_.back());
}

void Launcher::end_if_unused(ZygoteClient& zygote) {
  if (!zygote.has_workers()) zygote.end(end_limit());
}

// As long as a worker has for its exit functions.
std::chrono::milliseconds Launcher::end_limit() const {
  return std::chrono::ceil<std::chrono::milliseconds>(settings_.calls.grace);
}

void Launcher::guard_died() {
  if (stopped_) return;
  handlers_.notice(true, "the guard died; a new one takes over and the workers are replaced");
  // Its children have new parents that reap at will, so their zombies may be gone at any time:
  // nothing of the old tree can be ordered any more.
  const StartFailure lost{"fork", "the guard died", "", /*bereft=*/true};
  // Starts that come again find no guard, and wait. The zygotes' clients still refer to it.
  auto old = std::move(guard_);
  retired_.push_back(std::move(zygote_));
  retired_.push_back(std::move(next_zygote_));
  for (auto& zygote : std::exchange(retired_, {})) {
    if (!zygote) continue;
    zygote->kill();
    zygote->cancel_forks(lost);
    bury(std::move(zygote));
  }
  exec_waits_for_ = 0;
  for (Waiting& start : std::exchange(waiting_for_end_, {})) start.done(lost);
  if (reload_done_) {
    if (auto done = std::exchange(reload_done_, nullptr)) done("the guard died");
  }
  boost::asio::post(loop_, [old = std::move(old)] {});
  set_path("down", "the guard died; it is being brought back");
  guard_timer_.expires_after(guard_pace_.after_death(handlers_.now()));
  guard_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (!error) bring_guard_back();
  }));
}

void Launcher::bring_guard_back() {
  if (stopped_ || guard_) return;
  if (auto started = start_guard(); !started) {
    const std::string why = "there is no guard: " + started.error().message();
    handlers_.notice(true, why);
    set_path("down", why);
    fail_waiting({"fork", why, ""});
    guard_timer_.expires_after(guard_pace_.after_failure(handlers_.now()));
    guard_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
      if (!error) bring_guard_back();
    }));
    return;
  }
  if (exec_mode()) {
    set_path(fallen_back_ ? "fallback" : "up", fallen_back_why_);
  } else {
    start_zygote();
  }
  handlers_.guard_lost();
}

// ---- reload

void Launcher::begin_reload(std::move_only_function<void(std::string error)> done) {
  if (reload_done_ || next_zygote_) return done("a reload is under way");
  if (!zygote_possible()) return done("");
  if (!guard_) return done("there is no guard");
  reload_done_ = std::move(done);
  next_zygote_ = make_zygote(/*aside=*/true);
}

void Launcher::launch_probe(WorkerId worker, WorkerEnds ends, OnLaunched done) {
  ends.place = program_.cgroups.place_of(worker, settings_);
  if (!next_zygote_) return exec(worker, std::move(ends), std::move(done));
  const std::uint64_t number = next_zygote_->number();
  prepare_fork(*next_zygote_, worker, ends);
  next_zygote_->fork(worker, std::move(ends),
                     [this, number, done = std::move(done)](ForkAnswer forked) mutable {
                       if (const auto* pid = std::get_if<pid_t>(&forked)) {
                         if (guard_) guard_->watch(*pid);
                         return done(Launched{*pid, number});
                       }
                       if (const auto* unsafe = std::get_if<Unsafe>(&forked)) {
                         if (settings_.workers.zygote == ZygoteMode::kForce) {
                           return done(StartFailure{"fork", describe(*unsafe), ""});
                         }
                         if (must_fork()) {
                           return done(StartFailure{"fork", describe_refusal(*unsafe), ""});
                         }
                         // The new code is served by exec.
                         next_unsafe_why_ = describe_fallback(*unsafe);
                         exec_waits_for_ = number;
                         retire(std::move(next_zygote_));
                         return done(ComeAgain{});
                       }
                       done(std::get<StartFailure>(std::move(forked)));
                     });
}

void Launcher::commit_reload() {
  if (!zygote_possible()) return;
  if (auto old = std::move(zygote_)) {
    old->cancel_forks(StartFailure{"fork", "new code was loaded meanwhile", ""});
    retire(std::move(old));
  }
  zygote_ = std::move(next_zygote_);
  fallen_back_ = zygote_ == nullptr;
  handlers_.mode(exec_mode());
  fallen_back_why_ = fallen_back_ ? next_unsafe_why_ : "";
  set_path(fallen_back_ ? "fallback" : "up", fallen_back_why_);
}

void Launcher::abort_reload() {
  if (next_zygote_) next_zygote_->cancel_forks(StartFailure{"fork", "the reload has failed", ""});
  retire(std::move(next_zygote_));
}

template <typename T>
void Launcher::bury(std::unique_ptr<T> object) {
  if (object) boost::asio::post(loop_, [object = std::move(object)] {});
}

void Launcher::stop(std::chrono::milliseconds limit) {
  stopped_ = true;
  alive_.end();
  restart_timer_.cancel();
  guard_timer_.cancel();
  import_timer_.cancel();
  const Time until = handlers_.now() + end_limit();
  auto ending = std::exchange(retired_, {});
  ending.push_back(std::move(zygote_));
  ending.push_back(std::move(next_zygote_));
  std::erase(ending, nullptr);
  for (const auto& zygote : ending) zygote->begin_to_end();
  for (const auto& zygote : ending) zygote->finish_to_end(until);
  ending.clear();
  if (guard_) guard_->stop(limit);
  // The guard has done so, unless it had to be killed.
  const std::string& groups = program_.cgroups.directory();
  if (!groups.empty()) static_cast<void>(os::end_cgroup(groups, static_cast<int>(limit.count())));
}

}  // namespace keelback::host
