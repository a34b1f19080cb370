#include "sim/crew.h"

#include <algorithm>

#include "base/check.h"
#include "base/stream.h"

namespace keelback::sim {
namespace {

constexpr int kSigkill = 9;
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
    : model_(std::move(model)), application_(model_.exposed), prng_(seed), schedule_(schedule) {}

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

// A new plan voids the old one's entry.
void Crew::plan(Worker& worker, Time at) {
  worker.step_at = at;
  schedule_.add(at, Due::Kind::kStep, worker.id.generation, ++worker.token);
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
  schedule_.add(now + takes, Due::Kind::kReady, id.generation, ++worker.token);
}

void Crew::dispatch(Time now, const core::Dispatch& dispatch, const Call& call, bool stream,
                    const SessionState* restored) {
  Worker* worker = find(dispatch.worker);
  if (worker == nullptr) return;  // its exit is on its way to the core
  CHECK(worker->ready && !worker->running && !worker->leaving);
  SessionState* state = nullptr;
  worker->saves = false;
  if (dispatch.session) {
    const core::SessionTicket& ticket = *dispatch.session;
    worker->saves = ticket.saves;
    worker->session = ticket.id;
    if (ticket.opens || ticket.restore != 0) {
      CHECK(ticket.opens == (restored == nullptr));
      state = &worker->sessions[ticket.id];
      *state = {ticket.birth, ticket.epoch, restored != nullptr ? restored->counter : 0, false};
    } else {
      const auto it = worker->sessions.find(ticket.id);
      CHECK(it != worker->sessions.end());  // routed to a worker without the session's state
      state = &it->second;
      CHECK(state->birth == ticket.birth && state->epoch == ticket.epoch);
    }
  }
  worker->running = dispatch.call;
  worker->mark_at = std::max(now, worker->frozen_until) + model_.overhead;
  worker->cut_short = core::ReplyKind::kOk;
  worker->interrupted = false;
  worker->credit = kStreamCredit;
  worker->blocked = false;
  worker->script = application_.script(call, {.session = state,
                                              .pid = pid(worker->id),
                                              .stream = stream,
                                              .service = model_.service.sample(prng_),
                                              .result_max = result_max_});
  plan(*worker, worker->mark_at + worker->script.busy);
  draw_fate(now, *worker);
}

// Whether the call's worker dies with it, and where in its course.
void Crew::draw_fate(Time now, Worker& worker) {
  Script& script = worker.script;
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
  if (script.items > 0) {
    script.items = prng_.below(script.items + 1);
  } else {
    const auto span = static_cast<std::uint64_t>(script.busy.count()) + 1;
    script.busy = Duration(static_cast<Duration::rep>(prng_.below(span)));
    plan(worker, worker.mark_at + script.busy);
  }
}

std::optional<SessionState> Crew::state_of(WorkerId id, const std::string& session) const {
  const Worker* worker = find(id);
  if (worker == nullptr) return std::nullopt;
  const auto it = worker->sessions.find(session);
  return it == worker->sessions.end() ? SessionState{.spoilt = true} : it->second;
}

void Crew::cut_short(Time now, Worker& worker, Duration delay) {
  const Time at = std::max(now, worker.mark_at) + delay;
  if (!worker.blocked && worker.step_at <= at && worker.script.items == 0) return;  // over sooner
  worker.cut_short = core::ReplyKind::kCancelled;
  worker.blocked = false;
  plan(worker, at);
}

void Crew::cancel(Time now, WorkerId id, CallId call) {
  Worker* worker = find(id);
  if (worker == nullptr || worker->running != call || !worker->script.heeds_cancel) return;
  if (worker->cut_short == core::ReplyKind::kOk) cut_short(now, *worker, model_.cancel_delay);
}

void Crew::interrupt(Time now, WorkerId id, CallId call) {
  Worker* worker = find(id);
  if (worker == nullptr || worker->running != call || !worker->script.heeds_interrupt) return;
  if (worker->cut_short != core::ReplyKind::kOk) return;
  cut_short(now, *worker, model_.interrupt_delay);
  worker->interrupted = worker->cut_short != core::ReplyKind::kOk;
}

std::string Crew::dump(Time now, WorkerId id, CallId call) const {
  const Worker* worker = find(id);
  if (worker == nullptr) return "unavailable: the process is gone";
  if (now < worker->frozen_until) return "unavailable: stopped";
  if (worker->running != call) return "unavailable: the call is over";
  return "Current thread 0x0000000000000001 (most recent call first):\n"
         "  File \"model\", line 1 in call\n";
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
  if (worker->running) return;
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
  if (worker == nullptr || worker->running != call) return;
  worker->credit += std::min(items, UINT32_MAX - worker->credit);
  if (!worker->blocked || worker->credit == 0) return;
  worker->blocked = false;
  plan(*worker, now);
}

void Crew::freeze(Time now, WorkerId id, Duration spell) {
  Worker* worker = find(id);
  if (worker == nullptr || now < worker->frozen_until) return;
  worker->frozen_until = now + spell;
  if (worker->running && now < worker->mark_at) worker->mark_at += spell;
}

Said Crew::fire(const Due& due) {
  const auto it = workers_.find(due.generation);
  if (it == workers_.end()) return {};
  Worker& worker = it->second;
  if (due.kind == Due::Kind::kExit) {
    if (due.token != worker.exit_token) return {};
    Said said = gone(due.at, worker);
    workers_.erase(it);
    return said;
  }
  if (due.token != worker.token) return {};
  if (due.at < worker.frozen_until) {
    schedule_.add(worker.frozen_until, due.kind, due.generation, due.token);
    return {};
  }
  if (due.kind == Due::Kind::kReady) {
    worker.ready = true;
    return {.kind = Said::Kind::kReady, .worker = worker.id};
  }
  if (worker.cut_short == core::ReplyKind::kOk && worker.script.ending == Script::Ending::kDie &&
      worker.script.items == 0) {
    worker.death = worker.script.death;
    Said said = gone(due.at, worker);
    workers_.erase(it);
    return said;
  }
  return step(due.at, worker);
}

Said Crew::step(Time now, Worker& worker) {
  if (!worker.running) return {};
  if (worker.script.items == 0 || worker.cut_short != core::ReplyKind::kOk) {
    return reply(now, worker);
  }
  if (worker.credit == 0) {
    worker.blocked = true;
    return {};
  }
  Said said{.kind = Said::Kind::kItem, .worker = worker.id, .call = worker.running};
  said.payload = std::to_string(worker.script.next_item++);
  --worker.script.items;
  --worker.credit;
  plan(worker, now + worker.script.busy);
  return said;
}

Said Crew::reply(Time now, Worker& worker) {
  Said said{.kind = Said::Kind::kReplied, .worker = worker.id, .call = worker.running};
  Script& script = worker.script;
  if (worker.cut_short != core::ReplyKind::kOk) {
    said.reply = worker.cut_short;
    said.python = worker.interrupted
                      ? PythonError{"KeyboardInterrupt", "the call was interrupted", ""}
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
  // What binds nothing or finds no function starts no user code: the mark stays.
  if (said.reply != core::ReplyKind::kBadRequest &&
      said.reply != core::ReplyKind::kUnknownFunction) {
    worker.mark = worker.running;
    if (worker.saves) {
      said.state = worker.sessions.at(worker.session);
      said.snapshot = said.state.spoilt ? core::Snapshot::kFailed : core::Snapshot::kTaken;
    }
  }
  said.interrupted = worker.interrupted;
  said.clean = !(model_.unclean > 0 && prng_.chance(model_.unclean));
  worker.running = CallId{};
  ++worker.token;
  if (worker.leaving) stop(now, worker.id);
  return said;
}

Said Crew::gone(Time now, const Worker& worker) {
  Said said{.kind = Said::Kind::kExited, .worker = worker.id};
  said.death = worker.death;
  said.call = worker.running && now >= worker.mark_at ? worker.running : worker.mark;
  return said;
}

}  // namespace keelback::sim
