#include "sim/crew.h"

#include <algorithm>

#include "base/check.h"
#include "base/stream.h"

namespace keelback::sim {
namespace {

constexpr int kSigkill = 9;
// From so long on a call that blocks its worker's loop excuses others, whatever is warned of.
constexpr Duration kNoticed = std::chrono::milliseconds(100);
constexpr std::int64_t kFirstPid = 1'000'000;  // above any kernel's default pid_max: never real

Death by_signal(int signal, std::string cause, std::string detail) {
  Death death;
  death.cause = std::move(cause);
  death.signal = signal;
  death.detail = std::move(detail);
  return death;
}

}  // namespace

Crew::Crew(ModelSettings model, std::uint64_t seed, Schedule& schedule)
    : model_(std::move(model)),
      application_(model_.exposed, model_.concurrency),
      prng_(seed),
      schedule_(schedule) {}

Crew::Worker* Crew::find(WorkerId worker) {
  const auto it = workers_.find(worker.generation);
  return it == workers_.end() ? nullptr : &it->second;
}
const Crew::Worker* Crew::find(WorkerId worker) const {
  const auto it = workers_.find(worker.generation);
  return it == workers_.end() ? nullptr : &it->second;
}

WorkerId Crew::newest(std::uint32_t slot) const {
  WorkerId found;
  for (const auto& [generation, worker] : workers_) {
    if (worker.id.slot == slot) found = worker.id;
  }
  return found;
}

std::int64_t Crew::pid(WorkerId worker) const {
  return find(worker) != nullptr ? kFirstPid + worker.generation : 0;
}

Crew::Task* Crew::find(Worker& worker, CallId call) {
  const auto it = std::ranges::find(worker.tasks, call, &Task::call);
  return it == worker.tasks.end() ? nullptr : &*it;
}

Time Crew::possible(const Worker& worker, const Task& task, Time at) {
  at = std::max(at, worker.frozen_until);
  const bool waits = task.script.on_loop && task.call != worker.blocker;
  return waits ? std::max(at, worker.blocked_until) : at;
}

// A new plan voids the old one's entry.
void Crew::plan(Worker& worker, Task& task, Time at) {
  task.step_at = at;
  task.token = ++worker.plans;
  schedule_.add(at, Due::Kind::kStep, worker.id.generation, task.token);
}

void Crew::exit(Worker& worker, Time at, Death death) {
  if (at >= worker.exit_at) return;  // it is going already, and sooner
  worker.exit_at = at;
  worker.death = std::move(death);
  schedule_.add(at, Due::Kind::kExit, worker.id.generation, ++worker.exit_token);
}

void Crew::start(Time now, WorkerId id) {
  const auto [it, inserted] = workers_.try_emplace(id.generation);
  CHECK(inserted);  // generations never repeat
  Worker& worker = it->second;
  worker.id = id;
  const Duration takes = model_.start.sample(prng_);
  if (model_.start_failure > 0 && prng_.chance(model_.start_failure)) {
    Death death;
    death.cause = "start_failed";
    death.step = "setup";
    death.exit_code = 1;
    death.detail = "the model's worker_setup raised";
    death.stderr_tail = "RuntimeError: the model's worker_setup raised\n";
    exit(worker, now + takes, std::move(death));
    return;
  }
  schedule_.add(now + takes, Due::Kind::kReady, id.generation, 0);
}

void Crew::check_room(const Worker& worker, const core::Dispatch& dispatch,
                      const Call& call) const {
  CHECK(worker.ready && !worker.leaving);
  if (dispatch.batch.size > 0) {  // to an idle worker, in a row
    CHECK(!dispatch.alone && !dispatch.session && worker.tasks.size() == dispatch.batch.index);
    for (const Task& task : worker.tasks) {
      CHECK(task.batch.size == dispatch.batch.size && task.function == call.function);
    }
    return;
  }
  if (dispatch.alone) CHECK(worker.tasks.empty());
  std::uint32_t same = 0;
  for (const Task& task : worker.tasks) {
    CHECK(!task.alone);
    CHECK(!dispatch.session || task.session != dispatch.session->id);  // one after another
    if (task.function == call.function) ++same;
  }
  CHECK(dispatch.alone || same < application_.concurrency(call.function));
}

SessionState* Crew::session_of(Worker& worker, const core::SessionTicket& ticket,
                               const SessionState* restored) {
  if (ticket.opens || ticket.restore != 0) {
    CHECK(ticket.opens == (restored == nullptr));
    SessionState& state = worker.sessions[ticket.id];
    state = {ticket.birth, ticket.epoch, restored != nullptr ? restored->counter : 0, false};
    return &state;
  }
  const auto it = worker.sessions.find(ticket.id);
  CHECK(it != worker.sessions.end());  // routed to a worker without the session's state
  CHECK(it->second.birth == ticket.birth && it->second.epoch == ticket.epoch);
  return &it->second;
}

void Crew::dispatch(Time now, const core::Dispatch& dispatch, const Call& call, bool stream,
                    const SessionState* restored) {
  Worker* worker = find(dispatch.worker);
  if (worker == nullptr) return;  // its exit is on its way to the core
  check_room(*worker, dispatch, call);
  SessionState* state = nullptr;
  Task& task = worker->tasks.emplace_back();
  task.call = dispatch.call;
  task.alone = dispatch.alone || dispatch.batch.size > 0;
  task.batch = dispatch.batch;
  task.function = call.function;
  task.credit = kStreamCredit;
  if (dispatch.session) {
    task.saves = dispatch.session->saves;
    task.session = dispatch.session->id;
    state = session_of(*worker, *dispatch.session, restored);
  }
  task.script = application_.script(call, {.session = state,
                                           .pid = pid(worker->id),
                                           .stream = stream,
                                           .service = model_.service.sample(prng_),
                                           .result_max = result_max_});
  task.mark_at = possible(*worker, task, now) + model_.overhead;
  if (task.script.blocks_loop) {
    worker->blocker = task.call;
    worker->blocked_until = task.mark_at + task.script.busy;
  }
  if (dispatch.batch.size > 0) {
    if (dispatch.batch.index + 1 == dispatch.batch.size) run_batch(now, *worker);
    return;
  }
  plan(*worker, task, task.mark_at + task.script.busy);
  draw_fate(now, *worker, task);
  if (!task.script.blocks_loop || task.alone) return;
  const bool warns = loop_lag_warn_ > Duration{0};
  plan_notice(*worker, task, warns ? std::min(loop_lag_warn_, kNoticed) : kNoticed);
}

void Crew::plan_notice(const Worker& worker, const Task& task, Duration lag) {
  if (lag > task.script.busy) return;
  schedule_.add(task.mark_at + lag, Due::Kind::kBlocked, worker.id.generation, task.call.value);
}

Said Crew::notice(Time now, const Worker& worker, CallId call) {
  const auto task = std::ranges::find(worker.tasks, call, &Task::call);
  if (task == worker.tasks.end() || now > task->mark_at + task->script.busy) return {};
  const Duration lag = now - task->mark_at;
  if (loop_lag_warn_ > lag) plan_notice(worker, *task, loop_lag_warn_);
  schedule_.add(task->mark_at + task->script.busy, Due::Kind::kTurn, worker.id.generation, 0);
  return {.kind = Said::Kind::kBlocked,
          .worker = worker.id,
          .call = call,
          .since = task->mark_at,
          .lag = lag};
}

// The calls of a batch end together, when the longest of them does. A call whose arguments do not
// fit is answered before it begins.
void Crew::run_batch(Time now, Worker& worker) {
  Duration busy{0};
  const Script* deadly = nullptr;
  const Script* odd = nullptr;  // its function returns a list of another length
  for (const Task& task : worker.tasks) {
    busy = std::max(busy, task.script.busy);
    if (task.script.ending == Script::Ending::kDie) deadly = &task.script;
    if (task.script.wrong_length) odd = &task.script;
  }
  if (deadly) exit(worker, worker.tasks.front().mark_at + busy, deadly->death);
  for (Task& task : worker.tasks) {
    const bool refused = task.script.ending == Script::Ending::kBadRequest;
    if (!refused && odd && &task.script != odd) {
      task.script.ending = odd->ending;
      task.script.error = odd->error;
    }
    if (!refused) task.script.busy = busy;
    plan(worker, task, task.mark_at + task.script.busy);
    draw_fate(now, worker, task);
  }
}

// Whether the call's worker dies with it, and where in its course.
void Crew::draw_fate(Time now, Worker& worker, Task& task) {
  Script& script = task.script;
  if (model_.die_before_start > 0 && prng_.chance(model_.die_before_start)) {
    exit(worker, now + model_.overhead / 2, by_signal(11, "signal", "killed by signal 11"));
    return;
  }
  const bool running = model_.die_running > 0 && prng_.chance(model_.die_running);
  const bool after = model_.die_after_end > 0 && prng_.chance(model_.die_after_end);
  if (!running && !after) return;
  script.ending = Script::Ending::kDie;
  script.death = by_signal(11, "signal", "killed by signal 11");
  if (!running) return;
  script.known = prng_.chance(0.5);
  if (script.items > 0) {
    script.items = prng_.below(script.items + 1);
  } else {
    const auto span = static_cast<std::uint64_t>(script.busy.count()) + 1;
    script.busy = Duration(static_cast<Duration::rep>(prng_.below(span)));
    plan(worker, task, task.mark_at + script.busy);
  }
}

std::optional<SessionState> Crew::state_of(WorkerId id, const std::string& session) const {
  const Worker* worker = find(id);
  if (worker == nullptr) return std::nullopt;
  const auto it = worker->sessions.find(session);
  return it == worker->sessions.end() ? SessionState{.spoilt = true} : it->second;
}

void Crew::cut_short(Time now, Worker& worker, Task& task, Duration delay) {
  const Time at = possible(worker, task, std::max(now, task.mark_at)) + delay;
  if (!task.blocked && task.step_at <= at && task.script.items == 0) return;  // over sooner
  task.cut_short = core::ReplyKind::kCancelled;
  task.blocked = false;
  plan(worker, task, at);
}

void Crew::cancel(Time now, WorkerId id, CallId call) {
  Worker* worker = find(id);
  Task* task = worker != nullptr ? find(*worker, call) : nullptr;
  if (task == nullptr || !task->script.heeds_cancel) return;
  if (task->cut_short == core::ReplyKind::kOk) cut_short(now, *worker, *task, model_.cancel_delay);
}

// A task of the event loop is cancelled once more.
void Crew::interrupt(Time now, WorkerId id, CallId call) {
  Worker* worker = find(id);
  Task* of_call = worker != nullptr ? find(*worker, call) : nullptr;
  if (of_call == nullptr) return;
  for (Task& task : worker->tasks) {
    if (&task != of_call && task.batch.size == 0) continue;  // a batch is interrupted as a whole
    if (!task.script.heeds_interrupt || task.cut_short != core::ReplyKind::kOk) continue;
    cut_short(now, *worker, task, model_.interrupt_delay);
    task.interrupted = task.cut_short != core::ReplyKind::kOk;
  }
}

void Crew::ping_loop(Time now, WorkerId id) {
  if (find(id) == nullptr) return;
  schedule_.add(now + model_.overhead, Due::Kind::kTurn, id.generation, 0);
}

std::string Crew::dump(Time now, WorkerId id, CallId call) const {
  const Worker* worker = find(id);
  if (worker == nullptr) return "unavailable: the process is gone";
  if (now < worker->frozen_until) return "unavailable: stopped";
  if (std::ranges::find(worker->tasks, call, &Task::call) == worker->tasks.end()) {
    return "unavailable: the call is over";
  }
  return "Current thread 0x0000000000000001 (most recent call first):\n"
         "  File \"model\", line 1 in call\n";
}

std::string Crew::loop_stack(Time now, WorkerId id) const {
  const Worker* worker = find(id);
  if (worker == nullptr || now > worker->blocked_until) return "";
  const auto task = std::ranges::find(worker->tasks, worker->blocker, &Task::call);
  if (task == worker->tasks.end()) return "";
  return "Stack (most recent call first):\n  File \"model\", line 1 in " + task->function + "\n";
}

void Crew::kill(Time now, WorkerId id, bool ours) {
  Worker* worker = find(id);
  if (worker == nullptr) return;
  const bool stuck =
      ours && !worker->killed && model_.unkillable > 0 && prng_.chance(model_.unkillable);
  worker->killed = true;
  Death death = by_signal(kSigkill, ours ? "killed" : "signal",
                          ours ? "killed by the supervisor" : "killed by signal 9");
  death.oom_suspected = !ours;
  if (!worker->ready) death.step = "setup";
  exit(*worker, now + (stuck ? model_.unkillable_for : model_.kill_delay), std::move(death));
}

void Crew::stop(Time now, WorkerId id) {
  Worker* worker = find(id);
  if (worker == nullptr) return;
  worker->leaving = true;
  if (!worker->tasks.empty()) return;
  Death death;
  death.cause = "exit";
  death.exit_code = 0;
  exit(*worker, std::max(now, worker->frozen_until) + model_.stop_delay, std::move(death));
}

void Crew::end_session(WorkerId id, const std::string& session, std::uint64_t birth) {
  Worker* worker = find(id);
  if (worker == nullptr) return;
  const auto it = worker->sessions.find(session);
  if (it != worker->sessions.end() && it->second.birth == birth) worker->sessions.erase(it);
}

void Crew::grant(Time now, WorkerId id, CallId call, std::uint32_t items) {
  Worker* worker = find(id);
  Task* task = worker != nullptr ? find(*worker, call) : nullptr;
  if (task == nullptr) return;
  task->credit += std::min(items, UINT32_MAX - task->credit);
  if (task->script.items == 0 || !task->blocked || task->credit == 0) return;
  task->blocked = false;
  plan(*worker, *task, now);
}

void Crew::nested_ended(Time now, WorkerId id, CallId call, const Outcome& outcome) {
  Worker* worker = find(id);
  Task* task = worker != nullptr ? find(*worker, call) : nullptr;
  if (task == nullptr || !task->blocked) return;  // it was cut short meanwhile
  task->blocked = false;
  if (outcome.ok()) {
    task->script.result = outcome.payload;
  } else {
    task->script.ending = Script::Ending::kRaise;
    task->script.error.type = "keelback.CallFailed";
    std::string& text = task->script.error.message = to_string(outcome.kind);
    if (!outcome.reason.empty()) text += " (" + outcome.reason + ")";
    text += ": " + outcome.message;
  }
  plan(*worker, *task, now);
}

void Crew::freeze(Time now, WorkerId id, Duration spell) {
  Worker* worker = find(id);
  if (worker == nullptr || now < worker->frozen_until) return;
  worker->frozen_until = now + spell;
  for (Task& task : worker->tasks) {
    if (now < task.mark_at) task.mark_at += spell;
  }
}

Said Crew::fire(const Due& due) {
  const auto it = workers_.find(due.generation);
  if (it == workers_.end()) return {};
  Worker& worker = it->second;
  const auto bury = [&] {
    Said said = gone(due.at, worker);
    workers_.erase(it);
    return said;
  };
  if (due.kind == Due::Kind::kExit) return due.token == worker.exit_token ? bury() : Said{};
  const auto task = std::ranges::find(worker.tasks, due.token, &Task::token);
  const bool steps = due.kind == Due::Kind::kStep;
  if (steps && task == worker.tasks.end()) return {};
  Time possible_at = std::max(due.at, worker.frozen_until);
  if (steps) possible_at = possible(worker, *task, due.at);
  if (due.kind == Due::Kind::kTurn) possible_at = std::max(possible_at, worker.blocked_until);
  if (due.at < possible_at) {
    schedule_.add(possible_at, due.kind, due.generation, due.token);
    return {};
  }
  if (due.kind == Due::Kind::kTurn) return {.kind = Said::Kind::kTurned, .worker = worker.id};
  if (due.kind == Due::Kind::kBlocked) return notice(due.at, worker, CallId{due.token});
  if (due.kind == Due::Kind::kReady) {
    worker.ready = true;
    return {.kind = Said::Kind::kReady, .worker = worker.id};
  }
  if (task->cut_short == core::ReplyKind::kOk && task->script.ending == Script::Ending::kDie &&
      task->script.items == 0) {
    worker.death = task->script.death;
    if (task->script.known && !task->alone) worker.culprit = task->call;
    return bury();
  }
  return step(due.at, worker, *task);
}

Said Crew::step(Time now, Worker& worker, Task& task) {
  if (task.script.nested && task.cut_short == core::ReplyKind::kOk) {
    task.blocked = true;
    Said said{.kind = Said::Kind::kNested, .worker = worker.id, .call = task.call};
    said.nested = *std::exchange(task.script.nested, std::nullopt);
    return said;
  }
  if (task.script.items == 0 || task.cut_short != core::ReplyKind::kOk) {
    return reply(now, worker, task);
  }
  if (task.credit == 0) {
    task.blocked = true;
    return {};
  }
  Said said{.kind = Said::Kind::kItem, .worker = worker.id, .call = task.call};
  said.payload = std::to_string(task.script.next_item++);
  --task.script.items;
  --task.credit;
  plan(worker, task, now + task.script.busy);
  return said;
}

Said Crew::reply(Time now, Worker& worker, Task& task) {
  Said said{.kind = Said::Kind::kReplied, .worker = worker.id, .call = task.call};
  Script& script = task.script;
  if (task.cut_short != core::ReplyKind::kOk) {
    said.reply = task.cut_short;
    said.interrupted = task.interrupted && !script.on_loop;
    const char* exception = task.alone ? "KeyboardInterrupt" : "keelback.Interrupted";
    said.python = said.interrupted
                      ? PythonError{exception, "the call was interrupted", ""}
                      : PythonError{"keelback.Cancelled", "the call was cancelled", ""};
  } else {
    using enum Script::Ending;
    said.reply = script.ending == kReturn            ? core::ReplyKind::kOk
                 : script.ending == kBadRequest      ? core::ReplyKind::kBadRequest
                 : script.ending == kUnknownFunction ? core::ReplyKind::kUnknownFunction
                                                     : core::ReplyKind::kError;
    said.payload = std::move(script.result);
    said.attachments = std::move(script.attachments);
    said.python = std::move(script.error);
  }
  // Of what binds nothing or finds no function no user code has run.
  if (task.saves && said.reply != core::ReplyKind::kBadRequest &&
      said.reply != core::ReplyKind::kUnknownFunction) {
    said.state = worker.sessions.at(task.session);
    said.snapshot = said.state.spoilt ? core::Snapshot::kFailed : core::Snapshot::kTaken;
  }
  said.clean = !(task.alone && model_.unclean > 0 && prng_.chance(model_.unclean));
  if (task.batch.size > 0 && worker.tasks.size() > 1) {  // of a batch, the last answer says it
    said.clean = true;
    said.interrupted = false;
  }
  worker.tasks.erase(worker.tasks.begin() + (&task - worker.tasks.data()));
  if (worker.leaving) stop(now, worker.id);
  return said;
}

Said Crew::gone(Time now, const Worker& worker) {
  Said said{.kind = Said::Kind::kExited, .worker = worker.id};
  said.death = worker.death;
  said.culprit = worker.culprit;
  for (const Task& task : worker.tasks) {
    if (now >= task.mark_at) said.started.push_back({task.call});
  }
  return said;
}

}  // namespace keelback::sim
