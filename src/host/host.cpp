#include "host/host.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <filesystem>
#include <random>
#include <thread>
#include <utility>

#include "base/check.h"
#include "host/environment.h"
#include "host/host_impl.h"
#include "host/install.h"
#include "host/log_lines.h"
#include "wire/frame.h"

extern char** environ;

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

// How long the destructor waits for killed processes, and then for the guard.
constexpr auto kStopMax = 2s;
constexpr auto kGuardStopMax = 1s;

std::uint64_t seed_or_random(std::uint64_t seed) {
  if (seed != 0) return seed;
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

std::vector<std::string> own_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

// SAVED carries an answer and a state; attachments have frames of their own.
std::uint32_t frame_bytes_of(const Settings& settings) {
  return frame_bytes_for(
      std::max(settings.calls.payload_max.count + settings.sessions.snapshot_max.count,
               settings.attachments.max.count));
}

}  // namespace

std::expected<std::unique_ptr<Driver>, StartError> Host::start(HostConfig config) {
  auto host = std::make_unique<HostImpl>(std::move(config));
  if (auto started = host->start(); !started) return std::unexpected(started.error());
  return host;
}

HostImpl::HostImpl(HostConfig config)
    : config_(std::move(config)),
      slab_budget_(std::make_shared<SlabBudget>(config_.settings.attachments.budget.count)),
      logger_(config_.logger ? config_.logger : spdlog::default_logger()),
      loop_(config_.loop->context()),
      pool_(config_.settings, seed_or_random(config_.seed)),
      frame_bytes_max_(0),
      payload_max_(config_.settings.calls.payload_max.count),
      snapshot_max_(config_.settings.sessions.snapshot_max.count),
      attached_max_(config_.settings.attachments.max.count),
      settings_(config_.settings) {
  frame_bytes_max_ = frame_bytes_of(settings_);
  store_ = make_store();
}

std::expected<Launcher::Program, StartError> HostImpl::find_programs() const {
  Launcher::Program program;
  program.backend = settings_.pool.backend;
  program.app = config_.app;
  program.expose = config_.expose;
  program.guard = find_program("keelback-guard");
  if (program.guard.empty()) return std::unexpected(StartError{"keelback-guard is not installed"});
  if (program.backend == Backend::kFake) {
    program.fake_worker = find_program("keelback-fakeworker");
    if (program.fake_worker.empty()) {
      return std::unexpected(StartError{"keelback-fakeworker is not installed"});
    }
  }
  const std::string python = find_python_directory();
  if (program.backend == Backend::kPython && python.empty()) {
    return std::unexpected(StartError{"the Python package keelback is not installed"});
  }
  program.start = python + "/keelback/start.py";
  std::error_code error;
  program.directory =
      config_.directory.empty() ? std::filesystem::current_path(error).string() : config_.directory;
  program.environment =
      worker_environment(own_environment(), config_.environment, python, owner_of_this_process());
  if (program.backend == Backend::kPython) {
    // 0 would mean: no seed.
    const std::uint32_t hash_seed = std::max(1U, std::random_device()());
    add_python_defaults(program.environment, settings_.workers.blas_threads, hash_seed);
  }
  return program;
}

Launcher::Handlers HostImpl::launcher_handlers() {
  Launcher::Handlers handlers;
  handlers.hello = [this](const std::string& json) { announce(json); };
  handlers.mode = [this](bool exec) {
    feed(core::StartModeChanged{exec, std::max(1U, std::thread::hardware_concurrency())});
  };
  handlers.path = [this](const StartPath& path) {
    const Locked lock(lock_);
    path_ = path;
  };
  handlers.log_line = [this](const std::string& line) { logger_->info("[zygote] {}", line); };
  handlers.log_dropped = [this](std::uint64_t lines) {
    log_dropped_zygotes_ += lines;
    logger_->warn("{}", dropped_text("The zygote", lines));
  };
  handlers.notice = [this](bool warn, const std::string& text) {
    log(warn ? core::Notice::Level::kWarn : core::Notice::Level::kInfo, text);
  };
  handlers.guard_lost = [this] { feed(core::ReloadRequested{}); };
  handlers.now = [this] { return now(); };
  return handlers;
}

std::expected<void, StartError> HostImpl::start() {
  std::expected<void, StartError> started;
  config_.loop->run([&] { started = start_on_loop(); });
  started_ = started.has_value();
  return started;
}

std::expected<void, StartError> HostImpl::start_on_loop() {
  auto program = find_programs();
  if (!program) return std::unexpected(program.error());
  auto epoll = os::Epoll::create();
  if (!epoll) return std::unexpected(StartError{"no epoll: " + epoll.error().message()});
  epoll_ = std::move(*epoll);
  epoll_watch_ = std::make_unique<FdWatch>(loop_, epoll_.get(), [this] { sockets_ready(); });
  launcher_ =
      std::make_unique<Launcher>(loop_, std::move(*program), settings_, launcher_handlers());
  if (auto started = launcher_->start(); !started) {
    return std::unexpected(StartError{"the guard does not start: " + started.error().message()});
  }
  take_found_sessions();
  boost::asio::post(loop_, alive_.guard([this] {
    feed(core::Tick{});
    oom_witness_.look(os::oom_kills());
    schedule_sampling();
    if (config_.sweep) sweep_orphans(owner_of_this_process());
  }));
  return {};
}

HostImpl::~HostImpl() {
  CHECK(!on_loop_thread());
  if (started_) {
    boost::asio::post(loop_, alive_.guard([this] { stop_workers(); }));
    const Time until = now() + kStopMax;
    while (workers_gone_ == 0 && now() < until) {
      os::futex_wait_for(workers_gone_, 0, until - now());
    }
    store_->close();
  }
  config_.loop->run([this] { leave_loop(); });
  end_remaining_calls();
}

// The host's last turn of the loop. What is booked by now - the last outcomes - is still performed.
void HostImpl::leave_loop() {
  if (started_) empty_inbox();
  alive_.end();
  timer_.cancel();
  sampling_timer_.cancel();
  epoll_watch_.reset();
  std::vector<WorkerPtr> left;  // that did not die
  {
    const Locked lock(lock_);
    for (auto& [id, worker] : std::exchange(workers_, {})) left.push_back(std::move(worker));
  }
  for (const WorkerPtr& worker : left) worker->leave_loop();
  if (launcher_) launcher_->stop(kGuardStopMax);
  launcher_.reset();
}

// On the loop: every call gets its outcome from the core, every worker is killed.
void HostImpl::stop_workers() {
  stopping_ = true;
  sampling_timer_.cancel();
  feed(core::DrainRequested{0s});
  std::vector<WorkerPtr> left;
  {
    const Locked lock(lock_);
    for (const auto& [id, worker] : workers_) left.push_back(worker);
    if (left.empty()) workers_gone_ = 1;
  }
  for (const WorkerPtr& worker : left) kill_worker(worker);
  os::futex_wake(&workers_gone_);
}

// After the loop: an abandoned process may have kept calls from ending.
void HostImpl::end_remaining_calls() {
  std::vector<CallRecord*> left;
  {
    const Locked lock(lock_);
    calls_.each([&](CallRecord& record) { left.push_back(&record); });
    for (const CallRecord* record : left) calls_.erase(*record);
  }
  for (CallRecord* record : left) {
    CHECK(!record->blocking);  // a driver outlives the calls it was given
    const std::unique_ptr<CallRecord> owned(record);
    {
      const Locked lock(lock_);
      if (owned->told) continue;
      owned->outcome.effect = owned->worker ? Effect::kMaybe : Effect::kNone;
    }
    owned->outcome.kind = OutcomeKind::kShuttingDown;
    owned->outcome.message = "The pool was stopped.";
    owned->done(std::move(owned->outcome));
  }
}

// ---- what operators see and do

PoolInfo HostImpl::info() {
  const store::Status store = store_->status();
  const Locked lock(lock_);
  return {pool_.stats(now()),  path_, store, slab_budget_->used(), log_dropped_workers_,
          log_dropped_zygotes_};
}

std::vector<WorkerInfo> HostImpl::workers() {
  std::vector<WorkerInfo> list;
  {
    const Locked lock(lock_);
    for (core::WorkerView& view : pool_.workers(now())) {
      WorkerInfo info;
      static_cast<core::WorkerView&>(info) = std::move(view);
      if (const WorkerPtr worker = find(info.worker)) {
        info.pid = worker->pid;
        info.log_dropped_lines = worker->log_dropped_lines;
      }
      list.push_back(std::move(info));
    }
  }
  for (WorkerInfo& info : list) {
    if (info.pid != 0) {
      info.rss_bytes = os::read_resident_bytes(static_cast<pid_t>(info.pid)).value_or(0);
    }
  }
  return list;
}

core::Pool::SessionPage HostImpl::sessions(std::string_view after, std::size_t limit) {
  const Locked lock(lock_);
  return pool_.sessions(now(), after, limit);
}

Driver::Application HostImpl::application() {
  const Locked lock(lock_);
  return application_;
}

std::vector<core::QuarantineView> HostImpl::quarantine() {
  const Locked lock(lock_);
  return pool_.quarantine(now());
}

bool HostImpl::apply(const core::Event& event) {
  Effects& effects = effects_of_thread();
  {
    const Locked lock(lock_);
    if (!pool_.knows(now(), event)) return false;
    step(event, nullptr, effects);
    settle(effects);
  }
  perform(effects);
  return true;
}

void HostImpl::configure(const Settings& settings) {
  {
    const Locked lock(lock_);
    payload_max_ = settings.calls.payload_max.count;
    snapshot_max_ = settings.sessions.snapshot_max.count;
    attached_max_ = settings.attachments.max.count;
    frame_bytes_max_ = frame_bytes_of(settings);
    slab_budget_->set_limit(settings.attachments.budget.count);
    for (const auto& [id, worker] : workers_) {
      worker->marks.set_result_max(payload_max_);
      worker->marks.set_snapshot_max(snapshot_max_);
      worker->marks.set_attached_max(attached_max_);
      worker->channel.set_attached_max(attached_max_);
      worker->channel.set_frame_max(frame_bytes_max_);
    }
  }
  store_->set_bytes_max(settings.sessions.store_max.count);
  feed(core::ConfigChanged{settings});
  boost::asio::post(loop_, alive_.guard([this, settings] {
    settings_ = settings;
    launcher_->configure(settings);
  }));
}

void HostImpl::reload(std::move_only_function<void(std::string error)> done) {
  boost::asio::post(loop_, alive_.guard([this, done = std::move(done)]() mutable {
    if (reload_done_) return done("a reload is under way");
    reload_done_ = std::move(done);
    launcher_->begin_reload([this](std::string error) {
      if (!error.empty()) return probe_ended(error);
      // A slot that no pool has: the core does not know this worker.
      start_worker({UINT32_MAX, ++probes_}, /*probe=*/true);
    });
  }));
}

void HostImpl::drain(Duration limit, std::move_only_function<void()> done) {
  boost::asio::post(loop_, alive_.guard([this, limit, done = std::move(done)]() mutable {
    if (drained_) return done();
    on_drained_.push_back(std::move(done));
    feed(core::DrainRequested{limit});
  }));
}

}  // namespace keelback::host
