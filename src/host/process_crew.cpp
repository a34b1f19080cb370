#include "host/process_crew.h"

#include <signal.h>

#include <filesystem>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/overloaded.h"
#include "base/settings_schema.h"
#include "host/environment.h"
#include "host/install.h"
#include "host/worker_user.h"
#include "os/process.h"
#include "wire/process.h"

extern char** environ;

namespace keelback::host {
namespace {

constexpr auto kSamplingPeriod = std::chrono::seconds(1);

constexpr std::string_view kSilent =
    " Its control thread answered no ping: the GIL is held, or it is stopped.";
constexpr std::string_view kBlocked =
    " Its event loop answered no ping: a call blocks it, or the GIL is held, or it is stopped.";

wire::SessionEnd wire_reason(core::SessionEndReason reason) {
  switch (reason) {
    case core::SessionEndReason::kExpired:
      return wire::SessionEnd::kExpired;
    case core::SessionEndReason::kEnded:
      return wire::SessionEnd::kEnded;
    case core::SessionEndReason::kDrained:
      return wire::SessionEnd::kDrained;
    case core::SessionEndReason::kMoved:
      return wire::SessionEnd::kMoved;
  }
  return wire::SessionEnd::kEnded;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

}  // namespace

ProcessCrew::ProcessCrew(Engine& engine, const HostConfig& config)
    : engine_(engine),
      config_(config),
      roster_(config.settings),
      reading_(engine, roster_,
               {.ended =
                    [this](const WorkerPtr& worker, const std::string& violation) {
                      lives_.reading_ended(worker, violation);
                    },
                .broken = [this](const WorkerPtr& worker) { lives_.kill_if_it_lives(worker); }}),
      watch_(engine, roster_, reading_),
      lives_(engine, roster_, reading_, watch_, config.interpose),
      second_(engine.context()) {
  const Locked locked(engine_.lock);
  roster_.limit(config.settings);
}

std::expected<Launcher::Program, StartError> ProcessCrew::find_programs() const {
  Launcher::Program program;
  program.backend = roster_.settings.pool.backend;
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
  auto user = find_worker_user(roster_.settings.workers.user);
  if (!user) return std::unexpected(StartError{user.error()});
  program.user = std::move(*user);
  WorkerEnvironment::Parts parts{.inherited = own_environment(),
                                 .given = config_.environment,
                                 .python_directory = python,
                                 .owner = owner_of_this_process(),
                                 .user = program.user};
  // 0 would mean: no seed.
  if (program.backend == Backend::kPython) parts.hash_seed = std::max(1U, std::random_device()());
  program.environment = WorkerEnvironment(std::move(parts));
  const std::string taken = program.environment.taken_device_variable();
  if (!taken.empty() && !roster_.settings.workers.devices.empty()) {
    return std::unexpected(StartError{device_conflict("the program", taken).why});
  }
  return program;
}

std::expected<void, StartError> ProcessCrew::start() {
  auto program = find_programs();
  if (!program) return std::unexpected(program.error());
  program->cgroups = WorkerCgroups(roster_.settings, owner_of_this_process(), program->user);
  if (roster_.settings.workers.cgroup == CgroupMode::kRequire) {
    const std::string missing = program->cgroups.missing(roster_.settings);
    if (!missing.empty()) {
      if (!program->cgroups.directory().empty()) os::remove_cgroup(program->cgroups.directory());
      return std::unexpected(StartError{missing + "; workers.cgroup is require"});
    }
  }
  if (auto started = reading_.start(); !started) {
    return std::unexpected(StartError{"no epoll: " + started.error().message()});
  }
  if (auto started = lives_.start(std::move(*program)); !started) {
    return std::unexpected(StartError{"the guard does not start: " + started.error().message()});
  }
  every_second();
  if (config_.sweep) engine_.post([] { sweep_orphans(owner_of_this_process()); });
  return {};
}

void ProcessCrew::every_second() {
  second_.expires_after(kSamplingPeriod);
  second_.async_wait(engine_.guard([this](const boost::system::error_code& error) {
    if (error) return;
    lives_.look();
    watch_.look();
    every_second();
  }));
}

void ProcessCrew::configure(const Settings& settings) {
  roster_.settings = settings;
  lives_.configure(settings);
}

void ProcessCrew::reload(std::move_only_function<void(std::string error)> done) {
  lives_.reload(std::move(done));
}

void ProcessCrew::stop() {
  second_.cancel();
  lives_.stop();
}

void ProcessCrew::leave_loop() {
  second_.cancel();
  watch_.loops().leave_loop();
  reading_.leave_loop();
  lives_.leave_loop();
}

// ---- on the loop: the core's orders, and what the workers' readers have left for it

void ProcessCrew::perform(core::Action& any) {
  const auto worker_named = [this](WorkerId id) {
    const Locked locked(engine_.lock);
    return roster_.find(id);
  };
  std::visit(Overloaded{
                 [&](core::StartWorker& action) { lives_.start_worker(action.worker); },
                 [&](core::KillWorker& action) {
                   if (const WorkerPtr worker = worker_named(action.worker)) lives_.kill(worker);
                 },
                 [&](core::AbandonWorker& action) {
                   engine_.log(core::Notice::Level::kError,
                               "worker " + to_string(action.worker) +
                                   " does not die; its slot is refilled");
                 },
                 [&](core::CancelCall& action) { climb(any, action.worker, action.call); },
                 [&](core::InterruptCall& action) { climb(any, action.worker, action.call); },
                 [&](core::DumpWorker& action) { climb(any, action.worker, action.call); },
                 [&](core::CheckWorker& action) { watch_.check_health(action.worker); },
                 [&](core::Notice& action) { watch_.loops().log_with_stack(action); },
                 [&](auto&) { CHECK(false); },  // the engine keeps the others
             },
             any);
}

void ProcessCrew::heard(CrewNews& news) {
  const WorkerPtr worker = std::static_pointer_cast<WorkerProcess>(news.worker);
  switch (static_cast<WorkerReading::News>(news.kind)) {
    case WorkerReading::News::kDrained:
      return lives_.reading_ended(worker, news.text);
    case WorkerReading::News::kBlocked:
      return reading_.flush(worker);
    case WorkerReading::News::kHello:
      return lives_.said_hello(worker, std::move(news.text));
    case WorkerReading::News::kReady:
      return lives_.said_ready(worker);
    case WorkerReading::News::kShares:
      return watch_.loops().begin();
  }
}

// ---- under the lock: frames for the workers

void ProcessCrew::encode(const CallRecord& record, const core::Dispatch& dispatch,
                         std::uint16_t row, std::string& frame) {
  wire::CallMessage message;
  message.call = record.id.value;
  message.row = row;
  message.deadline_ns = dispatch.deadline.time_since_epoch().count();
  message.attempt = dispatch.attempt;
  message.stream = record.streaming;
  message.attached = record.attachments != nullptr;
  message.function = record.call.function;
  message.trace = record.call.traceparent;
  if (dispatch.session) {
    message.session = dispatch.session->id;
    message.birth = dispatch.session->birth;
    message.epoch = dispatch.session->epoch;
    message.opens = dispatch.session->opens;
    message.restores = dispatch.session->restore != 0;
    message.saves = dispatch.session->saves;
  }
  message.payload = record.large_payload ? *record.large_payload : record.call.payload;
  frame.clear();
  frame.reserve(256 + (record.large_payload ? 0 : message.payload.size()));
  // The core admits no name of more than 256 bytes, and no payload beyond payload_max.
  CHECK(wire::append_call_head(frame, message));
  if (!record.large_payload) frame.append(message.payload);
}

void ProcessCrew::dispatch(const core::Dispatch& action, CallRecord& record, CallRecord* self,
                           Effects& effects) {
  const WorkerPtr worker = roster_.find(action.worker);
  // The core looks at its timers before it hears an event: it may choose the very worker whose end
  // that event tells. It takes the call back in the same step.
  if (worker == nullptr) return;
  record.worker = worker;
  std::uint16_t row = 0;
  if (action.alone) {
    worker->running = action.call;
  } else {
    row = worker->shared.begin(action.call);
    const bool beside = action.batch.size == 0;  // a batch does not run on the event loop
    if (beside && !std::exchange(roster_.loops_watched, true)) {
      reading_.hear_sharing(worker, effects);
    }
  }
  if (action.batch.size > 0 && action.batch.index == 0) {
    worker->batch = action.call;
    std::string frame;
    wire::append_batch(frame, action.call.value, action.batch.size);
    worker->channel.push(std::move(frame));
  }
  if (action.session && action.session->restore != 0) {
    // The loop reads its answer: the caller waits for the store and for the worker, here or there.
    reading_.read_between_calls(worker, effects);
    return restore(action, row, worker, record, effects);
  }
  encode(record, action, row, effects.frame);
  effects.frame = worker->channel.push(record.id.value, std::move(effects.frame),
                                       record.large_payload, record.attachments, row != 0);
  if (record.granted > 0) {
    std::string frame;
    wire::append_credit(frame, action.call.value, record.granted);
    worker->channel.push(std::move(frame));
  }
  effects.flush.push_back(worker);
  // Of calls that run beside each other the loop reads all answers.
  if (!record.blocking || row != 0) return reading_.read_between_calls(worker, effects);
  CHECK(record.reading == nullptr);
  worker->reader = Reader::kCaller;
  record.reading = worker;
  if (&record != self) effects.wake.push_back(&record.word);
  record.word.fetch_or(CallRecord::kRead, std::memory_order_release);
}

void ProcessCrew::stop_worker(const core::StopWorker& action, Effects& effects) {
  const WorkerPtr worker = roster_.find(action.worker);
  if (worker == nullptr) return;
  std::string frame;
  wire::append_shutdown(frame);
  worker->stop_wanted = true;
  worker->channel.push(std::move(frame));
  effects.flush.push_back(worker);
}

void ProcessCrew::end_session(const core::EndSession& action, Effects& effects) {
  const WorkerPtr worker = roster_.find(action.worker);
  if (worker == nullptr) return;
  std::string frame;
  CHECK(
      wire::append_session_end(frame, {action.birth, wire_reason(action.reason), action.session}));
  worker->channel.push(std::move(frame));
  effects.flush.push_back(worker);
}

void ProcessCrew::save_session(const core::SaveSession& action, Effects& effects) {
  const WorkerPtr worker = roster_.find(action.worker);
  if (UNEXPECTED(worker == nullptr)) return;
  std::string frame;
  CHECK(wire::append_save(frame, {action.birth, action.epoch, action.session}));
  worker->channel.push(std::move(frame));
  effects.flush.push_back(worker);
  ++worker->saves;
  reading_.read_between_calls(worker, effects);
}

std::optional<ParkedState> ProcessCrew::take_parked(WorkerId id, CallId call, std::uint64_t birth) {
  const WorkerPtr worker = roster_.find(id);
  return worker != nullptr ? worker->take_parked(call, birth) : std::nullopt;
}

void ProcessCrew::grant(const CallRecord& record, std::uint32_t items, Effects& effects) {
  if (record.worker == nullptr) return;
  WorkerProcess& worker = static_cast<WorkerProcess&>(*record.worker);
  // Else it is sent behind the call.
  if (!worker.runs(record.id) || worker.unsent.contains(record.id)) return;
  std::string frame;
  wire::append_credit(frame, record.id.value, items);
  worker.channel.push(std::move(frame));
  effects.flush.push_back(record.worker);
}

void ProcessCrew::tell_outcome(const Providers::Asker& asker, bool ok, std::string json,
                               Effects& effects) {
  const WorkerPtr worker = roster_.find(asker.worker);
  if (worker == nullptr || !worker->runs(asker.call)) return;
  std::string frame;
  wire::append_outcome_head(
      frame, {.parent = asker.call.value, .request = asker.request, .ok = ok, .json = json});
  if (json.size() > kCopyMax) {
    worker->channel.push(std::move(frame), std::make_shared<const std::string>(std::move(json)));
  } else {
    worker->channel.push(frame.append(json));
  }
  effects.flush.push_back(worker);
}

void ProcessCrew::end_reading(CallRecord& record) {
  static_cast<WorkerProcess&>(*record.reading).channel.shutdown_reading();
}

void ProcessCrew::mark_cancelled(const core::CancelCall& action) {
  const WorkerPtr worker = roster_.find(action.worker);
  if (worker == nullptr || !worker->runs(action.call)) return;
  if (const std::uint16_t row = worker->shared.row_of(action.call)) {
    return worker->marks.cancel_row(row, action.call.value);
  }
  const auto dispatched = action.dispatched.time_since_epoch();
  worker->marks.set_cancel(action.call.value, static_cast<std::uint64_t>(dispatched.count()));
}

// A worker writes the started mark and then looks at the cancel mark, which is set by now. So it
// sees it, or we see the started mark, if neither processor holds its own store back.
bool ProcessCrew::never_starts(const CallRecord& record) {
  if (record.worker == nullptr) return false;
  const WorkerProcess& worker = static_cast<const WorkerProcess&>(*record.worker);
  // It may have answered by now: then its marks may be those of another call.
  if (!worker.runs(record.id) && (!record.alone || worker.running)) return false;
  // Also of a call that seems to have started: its worker may just be taking that back.
  if (!worker.marks.ordered() || !os::order_marks()) return false;
  return !worker.may_have_begun(record.id);
}

void ProcessCrew::add_evidence(const CallRecord& record, Outcome& outcome) {
  const WorkerProcess& worker = static_cast<const WorkerProcess&>(*record.worker);
  const bool silent = outcome.kind == OutcomeKind::kTimeout && worker.pinged == record.id.value &&
                      worker.ponged != record.id.value;
  const std::string_view why = record.alone || record.batched ? kSilent : kBlocked;
  if (silent) outcome.message += why;
  if (!record.dump_asked) return;
  outcome.dump = record.dump_note;
  if (outcome.dump.empty()) outcome.dump = worker.marks.dump(record.dump_from);
  if (outcome.dump.empty()) outcome.dump = "unavailable: no answer";
  if (silent && record.told) outcome.dump.insert(0, std::string(why.substr(1)) + "\n");
}

// ---- a session's state in front of its call

// A call whose session is restored first: it is sent behind its state, when that is there.
void ProcessCrew::restore(const core::Dispatch& action, std::uint16_t row, const WorkerPtr& worker,
                          const CallRecord& record, Effects& effects) {
  const core::SessionTicket& ticket = *action.session;
  std::string frame;
  encode(record, action, row, frame);
  worker->unsent[action.call] = {std::move(frame), record.large_payload, record.attachments,
                                 row != 0};
  auto fetched = engine_.store().fetch(ticket.id, ticket.birth, ticket.restore,
                                       [this, worker, call = action.call](store::Fetched later) {
                                         Effects& own = effects_of_thread();
                                         {
                                           const Locked locked(engine_.lock);
                                           send_restored(worker, call, later, own);
                                           engine_.follow_up(nullptr, own);
                                           engine_.settle(own);
                                         }
                                         engine_.perform(own);
                                       });
  if (fetched) send_restored(worker, action.call, *fetched, effects);
}

void ProcessCrew::send_restored(const WorkerPtr& worker, CallId call, const store::Fetched& fetched,
                                Effects& effects) {
  const auto waiting = worker->unsent.find(call);
  if (waiting == worker->unsent.end()) return;     // given up meanwhile
  if (roster_.find(worker->id) != worker) return;  // or its worker has died
  if (!fetched.snapshot) return give_up_restore(*worker, call, fetched.gone);
  UnsentCall unsent = std::move(waiting->second);
  worker->unsent.erase(waiting);
  std::string head;
  wire::append_restore_head(head, call.value,
                            static_cast<wire::StateFormat>(fetched.snapshot->format),
                            fetched.snapshot->state->size());
  worker->channel.push(std::move(head), fetched.snapshot->state);
  worker->channel.push(call.value, std::move(unsent.frame), std::move(unsent.payload),
                       std::move(unsent.attachments), unsent.shared);
  if (const CallRecord* record = engine_.calls().find(call);
      record != nullptr && record->granted > 0) {
    std::string frame;
    wire::append_credit(frame, call.value, record->granted);
    worker->channel.push(std::move(frame));
  }
  effects.flush.push_back(worker);
}

// The worker has heard nothing of the call.
void ProcessCrew::give_up_restore(WorkerProcess& worker, CallId call, bool gone) {
  worker.unsent.erase(call);
  worker.end(call);
  if (worker.idle() && worker.saves == 0 && !worker.checking) worker.reader = Reader::kNobody;
  engine_.owe(core::RestoreFailed{worker.id, call, gone});
}

// ---- the kill ladder

// One rung. The process may be dead by now: signals to it do nothing then.
void ProcessCrew::climb(const core::Action& rung, WorkerId id, CallId call) {
  WorkerPtr worker;
  bool streaming = false;
  bool unsent = false;
  std::uint16_t row = 0;
  CallId batch;
  Effects& effects = effects_of_thread();
  {
    const Locked locked(engine_.lock);
    worker = roster_.find(id);
    const CallRecord* record = engine_.calls().find(call);
    if (worker == nullptr || !worker->runs(call)) return;
    row = worker->shared.row_of(call);
    batch = worker->batch;
    unsent = worker->unsent.contains(call);
    if (unsent) {
      give_up_restore(*worker, call, /*gone=*/false);
      engine_.follow_up(nullptr, effects);
      engine_.settle(effects);
    }
    streaming = record != nullptr && record->streaming;
  }
  if (unsent) return engine_.perform(effects);
  if (const auto* order = std::get_if<core::CancelCall>(&rung)) {
    cancel(*order, worker, /*loop=*/row != 0 && !batch, streaming);
  } else if (std::holds_alternative<core::InterruptCall>(rung) && row != 0 && !batch) {
    std::string frame;
    wire::append_interrupt(frame, call.value);
    if (worker->control) static_cast<void>(worker->control->send(std::move(frame)));
  } else if (std::holds_alternative<core::InterruptCall>(rung)) {
    worker->marks.set_interrupt(batch ? batch.value : call.value);
    if (worker->pidfd) static_cast<void>(worker->pidfd.send_signal(SIGINT));
  } else {
    dump(*worker, call);
  }
}

void ProcessCrew::cancel(const core::CancelCall& action, const WorkerPtr& worker, bool loop,
                         bool streaming) {
  const std::uint64_t call = action.call.value;
  std::string frame;
  wire::append_cancel(frame, call);
  wire::append_ping(frame, call, loop ? wire::kFlagLoop : 0);
  worker->pinged = call;
  if (worker->control) static_cast<void>(worker->control->send(std::move(frame)));
  if (!streaming) return;
  std::string credit;  // a generator that waits for credit looks at its mark
  wire::append_credit(credit, call, 0);
  worker->channel.push(std::move(credit));
  reading_.flush(worker);
}

void ProcessCrew::dump(WorkerProcess& worker, CallId call) {
  const auto stat = os::read_stat(worker.pid);
  const bool stopped = stat && (stat->state == 'T' || stat->state == 't');
  const std::size_t dumped = worker.marks.dump().size();
  {
    const Locked locked(engine_.lock);
    if (CallRecord* record = engine_.calls().find(call)) {
      record->dump_asked = true;
      record->dump_from = dumped;
      if (stopped) record->dump_note = "unavailable: stopped";
    }
  }
  if (!stopped && worker.pidfd) {
    static_cast<void>(worker.pidfd.send_signal(wire::kDumpSignal));
  }
}

// ---- readers

void ProcessCrew::describe(PoolInfo& info) {
  info.stats.attachments.slab_bytes = roster_.slab_budget->used();
  info.log_dropped_workers = roster_.log_dropped_workers;
  info.log_dropped_zygotes = roster_.log_dropped_zygotes;
  const Locked locked(engine_.lock);
  info.start = roster_.path;
  info.supervisor = roster_.supervisor_use;
  info.guard = roster_.guard_use;
  info.loop_lag = watch_.loops().lag();
}

void ProcessCrew::describe(std::vector<WorkerInfo>& workers) {
  {
    const Locked locked(engine_.lock);
    for (WorkerInfo& info : workers) {
      const WorkerPtr worker = roster_.find(info.worker);
      if (worker == nullptr) continue;
      info.pid = worker->pid;
      info.log_dropped_lines = worker->log_dropped_lines;
    }
  }
  for (WorkerInfo& info : workers) {
    if (info.pid != 0) {
      info.rss_bytes = os::read_resident_bytes(static_cast<pid_t>(info.pid)).value_or(0);
    }
  }
}

}  // namespace keelback::host
