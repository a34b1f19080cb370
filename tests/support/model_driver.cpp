#include "support/model_driver.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/wording.h"

namespace keelback::core {
namespace {

std::string_view reason_word(SessionEndReason reason) {
  constexpr std::string_view kWords[] = {"expired", "ended", "drained", "moved"};
  return kWords[static_cast<int>(reason)];
}

struct Writer {
  std::string operator()(const Dispatch& a) const {
    std::string line = fmt::format("dispatch r{} {}", a.call.value, to_text(a.worker));
    if (a.batch.size > 0) line += fmt::format(" batch={}/{}", a.batch.index + 1, a.batch.size);
    if (a.attempt > 1) line += fmt::format(" attempt={}", a.attempt);
    if (a.session) line += fmt::format(" session={}@{}", a.session->id, a.session->epoch);
    if (a.session && a.session->opens) line += " opens";
    if (a.session && a.session->restore != 0) {
      line += fmt::format(" restores={}", a.session->restore);
    }
    if (a.session && a.session->saves) line += " saves";
    return line;
  }
  std::string operator()(const Resolve& a) const {
    std::string line =
        fmt::format("resolve r{} {} {}", a.call.value, to_string(a.kind), to_string(a.effect));
    if (a.worker) line += " " + to_text(a.worker);
    if (a.retry_after) line += " retry_after=" + describe(*a.retry_after);
    return line;
  }
  std::string operator()(const TellCaller& a) const {
    return fmt::format("tell r{} {} {} {}", a.answer.call.value, to_string(a.answer.kind),
                       to_string(a.answer.effect), to_text(a.answer.worker));
  }
  std::string operator()(const ReplayOutcome& a) const {
    return fmt::format("replay r{} of r{} {} {}", a.call.value, a.of.value, to_string(a.kind),
                       to_string(a.effect));
  }
  std::string operator()(const ForgetOutcome& a) const {
    return fmt::format("forget r{}", a.call.value);
  }
  std::string operator()(const CancelCall& a) const {
    return fmt::format("cancel r{} {}", a.call.value, to_text(a.worker));
  }
  std::string operator()(const InterruptCall& a) const {
    return fmt::format("interrupt r{} {}", a.call.value, to_text(a.worker));
  }
  std::string operator()(const DumpWorker& a) const {
    return fmt::format("dump r{} {}", a.call.value, to_text(a.worker));
  }
  std::string operator()(const KillWorker& a) const { return "kill " + to_text(a.worker); }
  std::string operator()(const StartWorker& a) const { return "start " + to_text(a.worker); }
  std::string operator()(const StopWorker& a) const { return "stop " + to_text(a.worker); }
  std::string operator()(const AbandonWorker& a) const { return "abandon " + to_text(a.worker); }
  std::string operator()(const EndSession& a) const {
    return fmt::format("end-session {} {} {}", a.session, to_text(a.worker), reason_word(a.reason));
  }
  std::string operator()(const SessionGone& a) const {
    constexpr std::string_view kHow[] = {"ended", "expired", "lost"};
    return fmt::format("gone {} {} {}", a.session, a.birth, kHow[static_cast<int>(a.how)]);
  }
  std::string operator()(const SaveSession& a) const {
    return fmt::format("save {} {}", a.session, to_text(a.worker));
  }
  std::string operator()(const KeepSnapshot& a) const {
    const std::string call = a.call ? fmt::format(" r{}", a.call.value) : "";
    return fmt::format("keep {}@{} number={}{}", a.session, a.epoch, a.number, call);
  }
  std::string operator()(const DropSnapshot& a) const {
    const std::string call = a.call ? fmt::format(" r{}", a.call.value) : "";
    const std::string number = a.number != 0 ? fmt::format(" number={}", a.number) : "";
    return fmt::format("drop-snapshot {}{}{}", a.session, number, call);
  }
  std::string operator()(const CheckWorker& a) const { return "check " + to_text(a.worker); }
  std::string operator()(const Drained&) const { return "drained"; }
  std::string operator()(const Reloaded& a) const {
    return a.error.empty() ? "reloaded" : "not reloaded: " + a.error;
  }
  std::string operator()(const Notice& a) const { return "notice " + a.text; }
};

}  // namespace

std::string to_text(WorkerId worker) {
  return fmt::format("w{}.{}", worker.slot, worker.generation);
}

std::string to_line(const Action& action) { return std::visit(Writer{}, action); }

ModelDriver::ModelDriver(Settings settings, std::uint64_t seed) : pool(std::move(settings), seed) {
  handle(Tick{});
}

ModelDriver::~ModelDriver() {
  for (const std::string& wrong : wrongs) ADD_FAILURE() << wrong;
}

void ModelDriver::must(bool right, const Action& action, std::string_view why) {
  if (!right) wrongs.push_back(fmt::format("{}: {}", to_line(action), why));
}

void ModelDriver::handle(const Event& event) {
  Actions actions;
  pool.handle(now, event, actions);
  for (const Action& action : actions) perform(action);
  for (const auto& [id, worker] : workers) {
    const auto& [size, index] = worker.batch_place;
    if (size > 0 && index + 1 != size) wrongs.push_back(to_text(id) + " has got half a batch");
  }
  pool.check_invariants();
  while (store.answers_at_once && !store.asked.empty()) settle();
}

void ModelDriver::settle(bool works) {
  const ModelStore::Asked asked = store.asked.front();
  store.asked.pop_front();
  if (asked.save && !workers.contains(asked.event.worker)) return;  // it has died instead
  if (asked.save) {
    return handle(SessionSaved{asked.event.worker, asked.event.session, asked.event.birth, works,
                               works ? "" : "it is of type object"});
  }
  SnapshotSettled event = asked.event;
  event.failed = !works;
  event.kept = asked.keeps && works;
  if (event.kept) {
    store.kept[event.birth] = {event.number, asked.version};
  } else {
    store.kept.erase(event.birth);
  }
  handle(event);
}

void ModelDriver::advance_to(Time until) {
  int here = 0;
  while (const auto due = pool.next_deadline()) {
    if (*due > until) break;
    here = *due > now ? 0 : here + 1;
    if (here > 100'000) return wrongs.push_back("the pool asks for the same moment for ever");
    now = std::max(now, *due);
    handle(Tick{});
  }
  now = until;
}

CallSubmitted ModelDriver::request(std::string_view function, std::string_view session) {
  CallSubmitted event;
  event.function = function;
  event.session = session;
  return event;
}

CallId ModelDriver::submit(const CallSubmitted& event) {
  CallSubmitted numbered = event;
  if (!numbered.call) numbered.call = CallId{next_call_};
  next_call_ = std::max(next_call_, numbered.call.value) + 1;
  ModelCall& call = calls[numbered.call.value];
  call.function = event.function;
  call.session = event.session;
  call.order = calls.size();
  call.accepted = now;
  call.limit = event.deadline;
  call.priority = event.parent ? Priority::kHigh : event.priority;
  call.batch_key = event.batch_key;
  if (!event.idempotency_key.empty()) {
    const std::pair asked(call.function, call.session);
    const std::pair of(std::string(event.idempotency_key), event.fingerprint);
    if (keyed_.try_emplace(of, asked).first->second != asked) {
      wrongs.push_back(
          fmt::format("r{} has the fingerprint of another one's call", numbered.call.value));
    }
  }
  handle(numbered);
  return numbered.call;
}

void ModelDriver::announce(std::vector<FunctionSpec> functions) {
  concurrency_.clear();
  batch_.clear();
  for (const FunctionSpec& each : functions) {
    concurrency_[each.name] = each.concurrency;
    batch_[each.name] = each.batch;
  }
  handle(FunctionsAnnounced{std::move(functions), health});
}

void ModelDriver::announce(std::initializer_list<std::string_view> names) {
  std::vector<FunctionSpec> functions;
  for (const std::string_view name : names) {
    functions.emplace_back();
    functions.back().name = name;
  }
  announce(std::move(functions));
}

void ModelDriver::ready(WorkerId worker) {
  alive(worker).ready = true;
  handle(WorkerReady{worker});
}

void ModelDriver::warm_up() {
  announce({"f"});
  for (const WorkerId worker : with(false)) ready(worker);
}

void ModelDriver::reply(CallId id, ReplyKind kind, bool clean, bool savable, bool interrupted,
                        std::string_view retire_reason) {
  ModelCall& call = calls.at(id.value);
  const auto worker = call.worker;
  if (!worker) return wrongs.push_back(fmt::format("r{} is not running", id.value));
  call.worker.reset();
  alive(*worker).calls.erase(id.value);
  WorkerReplied event{*worker, id, kind, clean, interrupted};
  const bool ran = kind != ReplyKind::kBadRequest && kind != ReplyKind::kUnknownFunction;
  if (ran && call.birth != 0) call.version = ++store.versions[call.birth];
  if (ran && call.saves) event.snapshot = savable ? Snapshot::kTaken : Snapshot::kFailed;
  const bool broken_off = interrupted || kind == ReplyKind::kCancelled;
  call.interrupted = broken_off && call.saves && ran;
  event.retire_reason = retire_reason;
  handle(event);
}

void ModelDriver::refuse(CallId id, ReplyKind kind) {
  ModelCall& call = calls.at(id.value);
  const auto worker = call.worker;
  if (!worker) return wrongs.push_back(fmt::format("r{} is not running", id.value));
  call.worker.reset();
  alive(*worker).calls.erase(id.value);
  WorkerReplied event{.worker = *worker, .call = id, .kind = kind, .started = false};
  if (call.saves) event.snapshot = Snapshot::kTaken;  // as a worker might that is not ours
  handle(event);
}

void ModelDriver::fail_restore(CallId id, bool gone) {
  ModelCall& call = calls.at(id.value);
  const auto worker = call.worker;
  if (!worker || !call.restores) {
    return wrongs.push_back(fmt::format("r{} restores nothing", id.value));
  }
  call.worker.reset();
  alive(*worker).calls.erase(id.value);
  // The pool may have given the call up meanwhile: then its answer from the store means nothing.
  if (gone && !call.over) store.kept.erase(call.birth);
  handle(RestoreFailed{*worker, id, gone});
}

// What is due is done before the exit is: actions for this worker may still come in that step. They
// have to be right for what the pool knows, and nothing comes of them.
void ModelDriver::bury(const WorkerExited& event) {
  workers.at(event.worker).exiting = true;
  gone_.insert(event.worker);
  handle(event);
  workers.erase(event.worker);
}

void ModelDriver::exit(WorkerId worker, bool started, std::string cause) {
  std::set<std::uint64_t> all;
  for (const auto& [id, when] : alive(worker).calls) all.insert(id);
  exit_with(worker, started ? all : std::set<std::uint64_t>{}, std::move(cause));
}

void ModelDriver::exit_with(WorkerId worker, const std::set<std::uint64_t>& started,
                            std::string cause, CallId culprit) {
  const ModelWorker gone = alive(worker);
  WorkerExited event;
  event.worker = worker;
  event.culprit = culprit;
  event.death.cause = std::move(cause);
  if (event.death.cause == "signal") event.death.signal = 9;
  for (const auto& [id, when] : gone.calls) {
    if (started.contains(id)) event.started.push_back({CallId{id}});
    calls.at(id).worker.reset();
    calls.at(id).started |= started.contains(id);
  }
  bury(event);
}

void ModelDriver::checked(WorkerId worker, bool healthy, bool over) {
  if (over) alive(worker).checking = false;
  handle(WorkerChecked{worker, healthy, over, healthy ? "" : "the database is away"});
}

void ModelDriver::fail_start(WorkerId worker, std::string step) {
  WorkerExited event;
  event.worker = worker;
  event.death.cause = "start_failed";
  event.death.step = std::move(step);
  event.death.stderr_tail = "ImportError: no module named nothing";
  bury(event);
}

std::string ModelDriver::fate(CallId id) const {
  const ModelCall& call = calls.at(id.value);
  if (call.resolved) return std::string(to_string(call.outcome.kind));
  return call.worker ? "running" : "waiting";
}

const Resolve& ModelDriver::outcome(CallId id) const {
  const ModelCall& call = calls.at(id.value);
  EXPECT_TRUE(call.resolved) << "r" << id.value << " has no outcome yet";
  return call.outcome;
}

WorkerId ModelDriver::worker_of(CallId id) const {
  const ModelCall& call = calls.at(id.value);
  return call.worker.value_or(WorkerId{});
}

std::vector<WorkerId> ModelDriver::with(bool ready) const {
  std::vector<WorkerId> found;
  for (const auto& [id, worker] : workers) {
    if (worker.ready == ready && !worker.abandoned && !worker.exiting) found.push_back(id);
  }
  return found;
}

std::vector<WorkerId> ModelDriver::living() const {
  std::vector<WorkerId> found;
  for (const auto& [id, worker] : workers) {
    if (!worker.abandoned && !worker.exiting) found.push_back(id);
  }
  return found;
}

std::vector<std::string> ModelDriver::take() {
  std::vector<std::string> lines(log.begin() + static_cast<std::ptrdiff_t>(taken_), log.end());
  taken_ = log.size();
  return lines;
}

std::size_t ModelDriver::count(std::string_view prefix) const {
  std::size_t found = 0;
  for (const std::string& line : log) found += line.starts_with(prefix);
  return found;
}

ModelWorker& ModelDriver::alive(WorkerId worker) {
  const auto found = workers.find(worker);
  if (found != workers.end()) return found->second;
  wrongs.push_back(to_text(worker) + " is not there");
  static ModelWorker nobody;
  return nobody = ModelWorker{};
}

// A function that changes while its calls run may leave an odd mixture: the model looks at those
// that are announced now.
bool ModelDriver::fits(const ModelWorker& worker, const ModelCall& call, bool alone) const {
  if (worker.calls.empty()) return true;
  if (alone) return false;
  const auto limit_of = [this](const std::string& function) {
    const auto found = concurrency_.find(function);
    return found == concurrency_.end() ? 1U : found->second;
  };
  std::uint32_t same = 0;
  for (const auto& [id, when] : worker.calls) {
    const ModelCall& other = calls.at(id);
    if (other.alone) return false;
    if (other.function == call.function) ++same;
  }
  return same < limit_of(call.function);
}

// It runs nothing, or only calls that run beside each other.
bool ModelDriver::runs_shared(const ModelWorker& worker) const {
  for (const auto& [id, when] : worker.calls) {
    if (calls.at(id).alone) return false;
  }
  return true;
}

void ModelDriver::on_batch(const Dispatch& action, ModelWorker& worker) {
  const ModelCall& call = calls.at(action.call.value);
  const auto [size, index] = action.batch;
  must(!action.alone && !action.session, action, "alone, or of a session");
  if (index == 0) {
    must(worker.calls.empty(), action, "a batch for a worker that runs calls");
    must(size <= std::max(batch_[call.function], 1U), action, "a batch larger than is allowed");
    worker.batch = action.call;
  } else {
    const ModelCall& first = calls.at(worker.batch.value);
    const auto& before = worker.batch_place;
    must(size == before.size && index == before.index + 1, action, "not the next of the batch");
    must(call.function == first.function && call.priority == first.priority &&
             call.batch_key == first.batch_key,
         action, "in a batch of another kind");
  }
  worker.batch_place = action.batch;
}

void ModelDriver::on(const Dispatch& action) {
  ModelWorker& worker = alive(action.worker);
  must(worker.ready && !worker.stopping && !worker.killed && !worker.abandoned, action,
       "not a ready worker");
  if (action.batch.size > 0) {
    on_batch(action, worker);
  } else {
    must(fits(worker, calls.at(action.call.value), action.alone), action,
         "the worker runs what it cannot run beside");
  }
  must(!worker.checking, action, "its health is being checked");
  ModelCall& call = calls.at(action.call.value);
  must(!call.resolved && !call.worker, action, "the call is over or runs elsewhere");
  must(action.attempt == ++call.dispatches, action, "attempts count up");
  must(action.deadline > now, action, "dead already");
  must(action.session.has_value() == !call.session.empty(), action, "session or none");
  worker.calls[action.call.value] = now;
  call.alone = action.alone || action.batch.size > 0;
  if (!worker.exiting) call.worker = action.worker;
  if (!action.session) return;
  const SessionTicket& ticket = *action.session;
  must(ticket.id == call.session, action, "another session");
  std::uint64_t& last = last_started_[call.session];
  must(call.order >= last, action, "out of order in its session");
  last = call.order;
  const auto [place, fresh] = places_.try_emplace(ticket.birth, Place{action.worker, ticket.epoch});
  if (!fresh) {
    // The same epoch elsewhere: only if nothing ran where it was. A new epoch: it has moved.
    const bool same_home = place->second.worker == action.worker;
    const bool anew = ticket.opens || ticket.restore != 0;
    must(same_home || anew, action, "a second worker");
    must(ticket.epoch == place->second.epoch || (anew && ticket.epoch > place->second.epoch),
         action, "epochs count up with moves");
  }
  must(!(ticket.opens && ticket.restore != 0), action, "opens or restores");
  if (ticket.opens) store.versions[ticket.birth] = 0;
  if (ticket.restore != 0) {
    const auto kept = store.kept.find(ticket.birth);
    must(kept != store.kept.end() && kept->second.number == ticket.restore, action,
         "no such snapshot");
    if (kept != store.kept.end()) {
      must(kept->second.version == store.acknowledged[ticket.birth], action, "rolled back");
      store.versions[ticket.birth] = kept->second.version;
    }
  }
  call.saves = ticket.saves;
  call.restores = ticket.restore != 0;
  place->second = {action.worker, ticket.epoch};
  for (const auto& [id, other] : calls) {
    if (&other == &call || !other.worker || other.session != call.session) continue;
    must(calls.at(id).birth != ticket.birth, action, "two calls of a session at once");
  }
  call.birth = ticket.birth;
}

void ModelDriver::on(const TellCaller& action) {
  ModelCall& call = calls.at(action.answer.call.value);
  must(!call.resolved, action, "a second outcome");
  must(action.answer.kind == OutcomeKind::kTimeout, action, "only a deadline is told early");
  must(!action.answer.message.empty(), action, "says nothing");
  must(!action.answer.retain, action, "it is not the last word");
  if (call.limit) {
    must(now <= call.accepted + *call.limit + grace_max, action, "outlived deadline and grace");
  }
  if_never_started = action.if_never_started;
  call.resolved = true;
  call.told = true;
  call.outcome = action.answer;
}

void ModelDriver::on(const Resolve& action) {
  ModelCall& call = calls.at(action.call.value);
  must(!call.over, action, "a second last word");
  call.over = true;
  if (call.version != 0 && !call.interrupted) store.acknowledged[call.birth] = call.version;
  if (call.told) {
    call.ended = action;
    return;
  }
  must(!call.resolved, action, "a second outcome");
  must(action.kind == OutcomeKind::kOk || !action.message.empty(), action, "says nothing");
  must(action.attempts == call.dispatches, action, "wrong attempts");
  must(action.kind != OutcomeKind::kOk || action.effect == Effect::kDone, action, "ok is done");
  must(!call.started || action.effect != Effect::kNone, action, "it had started");
  if (call.limit) {
    must(now <= call.accepted + *call.limit + grace_max, action, "outlived deadline and grace");
  }
  call.resolved = true;
  call.outcome = action;
}

void ModelDriver::on(const ReplayOutcome& action) {
  ModelCall& call = calls.at(action.call.value);
  must(!call.resolved, action, "a second outcome");
  must(retained.contains(action.of.value), action, "of an outcome that is not kept");
  call.resolved = true;
  call.over = true;
  const ModelCall& first = calls.at(action.of.value);
  call.outcome = first.ended.value_or(first.outcome);
  call.outcome.kind = action.kind;
  call.outcome.effect = action.effect;
}

void ModelDriver::perform(const Action& action) {
  log.push_back(to_line(action));
  if (const auto* a = std::get_if<Dispatch>(&action)) {
    on(*a);
  } else if (const auto* resolve = std::get_if<Resolve>(&action)) {
    on(*resolve);
    if (resolve->retain) retained.insert(resolve->call.value);
  } else if (const auto* tell = std::get_if<TellCaller>(&action)) {
    on(*tell);
  } else if (const auto* replay = std::get_if<ReplayOutcome>(&action)) {
    on(*replay);
  } else if (const auto* forget = std::get_if<ForgetOutcome>(&action)) {
    must(retained.erase(forget->call.value) == 1, action, "was not kept");
  } else if (const auto* started = std::get_if<StartWorker>(&action)) {
    must(workers.try_emplace(started->worker).second && !gone_.contains(started->worker), action,
         "generations never repeat");
  } else if (const auto* stop = std::get_if<StopWorker>(&action)) {
    ModelWorker& worker = alive(stop->worker);
    must(worker.ready && worker.calls.empty(), action, "not an idle worker");
    worker.stopping = true;
  } else if (const auto* kill = std::get_if<KillWorker>(&action)) {
    must(!std::exchange(alive(kill->worker).killed, true), action, "twice");
  } else if (const auto* abandon = std::get_if<AbandonWorker>(&action)) {
    must(alive(abandon->worker).killed, action, "was not killed");
    ModelWorker& worker = alive(abandon->worker);
    worker.abandoned = true;
    for (const auto& [id, when] : worker.calls) {  // for all anyone knows they run on
      calls.at(id).worker.reset();
      calls.at(id).started = true;
    }
  } else if (const auto* end = std::get_if<EndSession>(&action)) {
    const ModelWorker& worker = alive(end->worker);
    must(!worker.killed && !worker.stopping && !worker.abandoned, action, "nobody hears it");
  } else if (const auto* cancel = std::get_if<CancelCall>(&action)) {
    const ModelWorker& worker = alive(cancel->worker);
    const auto call = worker.calls.find(cancel->call.value);
    must(call != worker.calls.end(), action, "does not run there");
    must(call == worker.calls.end() || call->second == cancel->dispatched, action,
         "names another time than that of its dispatch");
  } else if (const auto* save = std::get_if<SaveSession>(&action)) {
    const ModelWorker& worker = alive(save->worker);
    must(worker.ready && runs_shared(worker) && !worker.killed && !worker.stopping, action,
         "runs a call alone");
    store.asked.push_back(
        {.save = true,
         .event = {.worker = save->worker, .session = save->session, .birth = save->birth}});
  } else if (const auto* check = std::get_if<CheckWorker>(&action)) {
    ModelWorker& worker = alive(check->worker);
    must(worker.ready && runs_shared(worker) && !worker.killed && !worker.stopping, action,
         "runs a call alone");
    must(!std::exchange(worker.checking, true), action, "it is being checked");
  } else if (const auto* keep = std::get_if<KeepSnapshot>(&action)) {
    if (keep->call) calls.at(keep->call.value).interrupted = false;
    store.asked.push_back({.keeps = true,
                           .version = store.versions[keep->birth],
                           .event = {.worker = keep->call ? WorkerId{} : keep->worker,
                                     .call = keep->call,
                                     .session = keep->session,
                                     .birth = keep->birth,
                                     .number = keep->number}});
  } else if (const auto* drop = std::get_if<DropSnapshot>(&action)) {
    if (drop->number == 0) {
      store.kept.erase(drop->birth);
    } else {
      store.asked.push_back({.event = {.call = drop->call,
                                       .session = drop->session,
                                       .birth = drop->birth,
                                       .number = drop->number}});
    }
  } else if (const auto* note = std::get_if<Notice>(&action)) {
    notices.push_back(*note);
  } else if (std::holds_alternative<Drained>(action)) {
    must(!std::exchange(drained, true), action, "twice");
    must(living().empty(), action, "with workers left");
  }
}

}  // namespace keelback::core
