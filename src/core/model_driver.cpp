#include "core/model_driver.h"

#include <fmt/format.h>

#include "core/wording.h"

namespace keelback::core {
namespace {

std::string_view reason_word(SessionEndReason reason) {
  constexpr std::string_view kWords[] = {"expired", "ended", "lost", "evicted", "drained", "moved"};
  return kWords[static_cast<int>(reason)];
}

struct Writer {
  std::string operator()(const Dispatch& a) const {
    std::string line = fmt::format("dispatch r{} {}", a.call.value, to_text(a.worker));
    if (a.attempt > 1) line += fmt::format(" attempt={}", a.attempt);
    if (a.session) line += fmt::format(" session={}@{}", a.session->id, a.session->epoch);
    if (a.session && a.session->opens) line += " opens";
    return line;
  }
  std::string operator()(const Resolve& a) const {
    std::string line =
        fmt::format("resolve r{} {} {}", a.call.value, to_string(a.kind), to_string(a.effect));
    if (a.worker) line += " " + to_text(a.worker);
    if (a.retry_after) line += " retry_after=" + describe(*a.retry_after);
    return line;
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
  std::string operator()(const Drained&) const { return "drained"; }
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

void ModelDriver::handle(const Event& event) {
  Actions actions;
  pool.handle(now, event, actions);
  for (const Action& action : actions) perform(action);
  pool.check_invariants();
}

void ModelDriver::advance_to(Time until) {
  int here = 0;
  while (const auto due = pool.next_deadline()) {
    if (*due > until) break;
    here = *due > now ? 0 : here + 1;
    ASSERT_LT(here, 100'000) << "the pool asks for the same moment for ever";
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
  handle(numbered);
  return numbered.call;
}

void ModelDriver::announce(std::vector<FunctionSpec> functions) {
  handle(FunctionsAnnounced{std::move(functions)});
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

void ModelDriver::reply(CallId call, ReplyKind kind, bool clean) {
  const auto worker = calls.at(call.value).worker;
  ASSERT_TRUE(worker) << "r" << call.value << " is not running";
  calls.at(call.value).worker.reset();
  alive(*worker).call = CallId{};
  handle(WorkerReplied{*worker, call, kind, clean});
}

void ModelDriver::exit(WorkerId worker, bool started, std::string cause) {
  ModelWorker gone = alive(worker);
  WorkerExited event;
  event.worker = worker;
  event.death.cause = std::move(cause);
  if (event.death.cause == "signal") event.death.signal = 9;
  if (started) event.started = gone.call;
  if (gone.call) calls.at(gone.call.value).worker.reset();
  workers.erase(worker);
  handle(event);
}

void ModelDriver::fail_start(WorkerId worker, std::string step) {
  WorkerExited event;
  event.worker = worker;
  event.death.cause = "start_failed";
  event.death.step = std::move(step);
  event.death.stderr_tail = "ImportError: no module named nothing";
  workers.erase(worker);
  handle(event);
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
    if (worker.ready == ready && !worker.abandoned) found.push_back(id);
  }
  return found;
}

std::vector<WorkerId> ModelDriver::living() const {
  std::vector<WorkerId> found;
  for (const auto& [id, worker] : workers) {
    if (!worker.abandoned) found.push_back(id);
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
  EXPECT_NE(found, workers.end()) << to_text(worker) << " is not there";
  return found->second;
}

void ModelDriver::on(const Dispatch& action) {
  ModelWorker& worker = alive(action.worker);
  EXPECT_TRUE(worker.ready && !worker.stopping && !worker.killed && !worker.abandoned)
      << to_line(action) << ": not a ready worker";
  EXPECT_FALSE(worker.call) << to_line(action) << ": not an idle worker";
  ModelCall& call = calls.at(action.call.value);
  EXPECT_FALSE(call.resolved || call.worker) << to_line(action);
  EXPECT_EQ(action.attempt, ++call.dispatches);
  EXPECT_GT(action.deadline, now) << to_line(action) << ": dead already";
  worker.call = action.call;
  call.worker = action.worker;
  EXPECT_EQ(action.session.has_value(), !call.session.empty());
  if (!action.session) return;
  EXPECT_EQ(action.session->id, call.session);
  std::uint64_t& last = last_started_[call.session];
  EXPECT_GE(call.order, last) << to_line(action) << ": out of order in its session";
  last = call.order;
  const auto [home, fresh] =
      homes_.try_emplace(action.session->birth, action.worker, action.session->epoch);
  if (!fresh && home->second.first != action.worker) {
    EXPECT_TRUE(action.session->opens) << to_line(action) << ": a second worker";
  }
  EXPECT_GE(action.session->epoch, home->second.second);
  home->second = {action.worker, action.session->epoch};
}

void ModelDriver::on(const Resolve& action) {
  ModelCall& call = calls.at(action.call.value);
  EXPECT_FALSE(call.resolved) << to_line(action) << ": a second outcome";
  EXPECT_TRUE(action.kind == OutcomeKind::kOk || !action.message.empty()) << to_line(action);
  EXPECT_EQ(action.attempts, call.dispatches);
  call.resolved = true;
  call.outcome = action;
}

void ModelDriver::perform(const Action& action) {
  log.push_back(to_line(action));
  if (const auto* a = std::get_if<Dispatch>(&action)) on(*a);
  if (const auto* a = std::get_if<Resolve>(&action)) on(*a);
  if (const auto* a = std::get_if<StartWorker>(&action)) {
    EXPECT_TRUE(workers.try_emplace(a->worker).second) << to_line(action);
  }
  if (const auto* a = std::get_if<StopWorker>(&action)) {
    EXPECT_FALSE(alive(a->worker).call) << to_line(action) << ": it has a call";
    EXPECT_TRUE(alive(a->worker).ready) << to_line(action);
    alive(a->worker).stopping = true;
  }
  if (const auto* a = std::get_if<KillWorker>(&action)) {
    EXPECT_FALSE(alive(a->worker).killed) << to_line(action);
    alive(a->worker).killed = true;
  }
  if (const auto* a = std::get_if<AbandonWorker>(&action)) {
    EXPECT_TRUE(alive(a->worker).killed) << to_line(action);
    alive(a->worker).abandoned = true;
  }
  if (const auto* a = std::get_if<EndSession>(&action)) {
    EXPECT_FALSE(alive(a->worker).killed || alive(a->worker).abandoned) << to_line(action);
  }
  if (const auto* a = std::get_if<CancelCall>(&action)) {
    EXPECT_EQ(alive(a->worker).call, a->call) << to_line(action);
  }
  if (const auto* a = std::get_if<Notice>(&action)) notices.push_back(*a);
  if (std::holds_alternative<Drained>(action)) {
    EXPECT_FALSE(drained);
    EXPECT_TRUE(living().empty()) << "drained with workers left";
    drained = true;
  }
}

}  // namespace keelback::core
