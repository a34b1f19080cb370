#include "core/pool.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "core/batcher.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {
namespace {

// Sessions and tombstones taken out in one step; a large backlog spreads over as many steps.
constexpr std::size_t kSweepStep = 64;

bool same(const FunctionSpec& a, const FunctionSpec& b) {
  return a.name == b.name && a.idempotent == b.idempotent && a.stream == b.stream &&
         a.timeout == b.timeout && a.max_workers == b.max_workers &&
         a.concurrency == b.concurrency && a.interruptible == b.interruptible &&
         a.batch == b.batch && a.batch_wait == b.batch_wait;
}

// Workers, or the terms on which they take calls, are others after it.
bool changes_places(const Event& event) {
  return std::holds_alternative<WorkerExited>(event) ||
         std::holds_alternative<ConfigChanged>(event) ||
         std::holds_alternative<FunctionsAnnounced>(event) ||
         std::holds_alternative<DrainRequested>(event);
}

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

}  // namespace

std::string_view to_string(WorkerState state) {
  switch (state) {
    case WorkerState::kStarting:
      return "starting";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kBusy:
      return "busy";
    case WorkerState::kSuspect:
      return "suspect";
    case WorkerState::kDraining:
      return "draining";
  }
  return "unknown";
}

Pool::Pool(Config config, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(std::move(config), seed)) {}
Pool::~Pool() = default;
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;

void Pool::handle(Time now, const Event& event, Actions& out) { impl_->handle(now, event, out); }
std::optional<Time> Pool::next_deadline() const { return impl_->next_deadline(); }
PoolStats Pool::stats(Time now) const { return impl_->views().stats(now); }
std::vector<WorkerView> Pool::workers(Time now) const { return impl_->views().workers(now); }
SessionList Pool::sessions(Time now, std::string_view after, std::size_t limit) const {
  return impl_->views().sessions(now, after, limit);
}
std::vector<QuarantinedRequest> Pool::quarantine(Time now) const {
  return impl_->views().quarantine(now);
}
bool Pool::knows(Time now, const Event& event) const { return impl_->views().knows(now, event); }
const Pool::Config& Pool::config() const { return impl_->config(); }
void Pool::check_invariants() const { impl_->views().check_invariants(); }

Pool::Impl::Impl(Settings settings, std::uint64_t seed)
    : frame_(std::move(settings), seed),
      calls_(frame_, keys_, frame_.prng.next()),
      waiting_(frame_, quarantine_, calls_, keys_, runs_, sessions_, workers_, health_),
      runs_(frame_, quarantine_, calls_, waiting_, sessions_, snapshots_, workers_, replacements_,
            health_, nesting_),
      sessions_(frame_, waiting_, snapshots_, workers_,
                Sessions::Seeds{frame_.prng.next(), frame_.prng.next()}),
      snapshots_(frame_, calls_, keys_, waiting_, sessions_, workers_),
      workers_(frame_, {calls_, waiting_, runs_, sessions_, snapshots_, starts_, replacements_,
                        health_, readiness_}),
      blocks_(frame_, calls_, workers_),
      starts_(frame_, waiting_, sessions_, workers_, replacements_),
      replacements_(frame_, starts_, workers_),
      health_(frame_, starts_, workers_),
      readiness_(frame_, waiting_, starts_, workers_, replacements_, health_),
      shutdown_(frame_, calls_, waiting_, workers_, starts_, replacements_, health_, readiness_),
      keys_(frame_, calls_, waiting_, frame_.prng.next()),
      nesting_(frame_, calls_, waiting_, runs_, workers_),
      admission_(frame_, quarantine_, readiness_, calls_, keys_, waiting_, runs_, sessions_,
                 workers_, nesting_),
      scaling_(frame_, calls_, waiting_, workers_, snapshots_, starts_, readiness_),
      views_(frame_, quarantine_, calls_, waiting_, runs_, sessions_, snapshots_, workers_,
             readiness_, scaling_) {}

// Records point at each other across the parts; all links go before the first record does.
Pool::Impl::~Impl() {
  frame_.timers.clear();
  waiting_.clear();
  workers_.table().each([this](Worker& worker) {
    worker.queue.clear();
    worker.running.clear();
    if (worker.home) sessions_.table().kill_home(*std::exchange(worker.home, nullptr), nullptr);
  });
  calls_.each([this](Call& call) {
    if (call.key) call.key->followers.clear();
    if (Session* session = call.session; session && session->lane) {
      session->lane->waiting.clear();
      session->lane->running = nullptr;
      if (session->detached) sessions_.table().erase(*session);
    }
  });
  calls_.clear();
}

void Pool::Impl::handle(Time now, const Event& event, Actions& out) {
  frame_.now = std::max(frame_.now, now);
  frame_.out = &out;
  if (!begun_) {
    begun_ = true;
    scaling_.configure();
  }
  const std::size_t before = out.size();
  advance();
  route(event);
  if (changes_places(event)) nesting_.note_change();
  end_step();
  if (scaling_.active()) {
    scaling_.note(std::holds_alternative<Tick>(event) && out.size() == before);
    end_step();  // calls may have ended that waited for a worker which it gave up
  }
  if (frame_.draining()) shutdown_.advance();
  frame_.out = nullptr;
}

void Pool::Impl::route(const Event& event) {
  std::visit(Overloaded{
                 [this](const CallSubmitted& e) { admission_.on(e); },
                 [this](const CallCancelled& e) { runs_.on(e); },
                 [this](const StartModeChanged& e) {
                   starts_.on(e);
                   if (scaling_.active()) scaling_.configure();
                 },
                 [this](const FunctionsAnnounced& e) { on(e); },
                 [this](const WorkerReady& e) { workers_.on(e); },
                 [this](const WorkerReplied& e) { runs_.on(e); },
                 [this](const StreamMoved& e) { runs_.on(e); },
                 [this](const StreamGranted& e) { runs_.on(e); },
                 [this](const WorkerExited& e) { workers_.on(e); },
                 [this](const WorkerChecked& e) { health_.on(e); },
                 [this](const LoadFailed& e) { workers_.on(e); },
                 [this](const LoopTurned& e) { blocks_.on(e); },
                 [this](const LoopBlocked& e) { blocks_.on(e); },
                 [this](const DeathOrdered& e) { workers_.on(e); },
                 [this](const SessionSaved& e) { snapshots_.on(e); },
                 [this](const SnapshotSettled& e) { snapshots_.on(e); },
                 [this](const RestoreFailed& e) { runs_.on(e); },
                 [this](const SessionsFound& e) { snapshots_.on(e); },
                 [this](const ConfigChanged& e) { on(e); },
                 [this](const SessionEnded& e) { sessions_.on(e); },
                 [this](const SessionTaken& e) { sessions_.on(e); },
                 [this](const QuarantineReleased& e) { quarantine_.release(e.fingerprint); },
                 [this](const RecycleRequested& e) { replacements_.on(e); },
                 [this](const ReloadRequested& e) { replacements_.on(e); },
                 [this](const DrainRequested& e) { shutdown_.on(e); },
                 [](const Tick&) {},
             },
             event);
}

void Pool::Impl::advance() {
  while (Timer* timer = frame_.timers.take_due(frame_.now)) {
    switch (timer->kind) {
      case TimerKind::kCall:
        call_due(static_cast<Call&>(*timer));
        break;
      case TimerKind::kWorker:
        workers_.due(static_cast<Worker&>(*timer));
        break;
      case TimerKind::kSlot:
        starts_.due(static_cast<Slot&>(*timer));
        break;
      case TimerKind::kBatch:
        waiting_.batch_due(static_cast<BatchGroup&>(*timer));
        break;
      case TimerKind::kHealing:
        health_.advance();
        break;
      case TimerKind::kScaling:
        scaling_.due();
        break;
      case TimerKind::kPool:
        shutdown_.due();
        break;
    }
  }
  nesting_.settle();
  sessions_.sweep(kSweepStep);
  end_step();
  sessions_.tombstones().sweep(frame_.now, kSweepStep);
  quarantine_.sweep(frame_.now, frame_.quarantine_limits());
  keys_.forget_outcomes();
}

// What was left until it is known how everything stands.
void Pool::Impl::end_step() {
  do {
    nesting_.settle();
    waiting_.use_room();
  } while (!nesting_.settled());
}

void Pool::Impl::call_due(Call& call) {
  if (call.in<Call::Running>()) return runs_.climb(call);
  if (call.in<Call::Saving>()) return snapshots_.due(call);
  waiting_.due(call);
}

std::optional<Time> Pool::Impl::next_deadline() const {
  if (!begun_) return frame_.now;
  std::optional<Time> next = frame_.timers.next();
  const auto earlier = [&next](std::optional<Time> other) {
    if (other && (!next || *other < *next)) next = other;
  };
  earlier(sessions_.next_deadline());
  earlier(keys_.next_deadline());
  return next;
}

void Pool::Impl::on(const ConfigChanged& event) {
  // Before all that may give a worker a call: no worker gets one more than it may run from now on.
  set_capacity(event.settings.workers.concurrency);
  // An expiry that could be observed until now is final, whatever the new values say.
  sessions_.sweep(sessions_.table().attached() + 1);
  const Duration health_every = frame_.settings.workers.health_every;
  frame_.settings = event.settings;
  if (frame_.settings.workers.health_every != health_every) health_.schedule_checks();
  waiting_.set_limits();
  sessions_.set_limits();
  workers_.table().each([this](Worker& worker) {
    workers_.arm(worker);
    for (Call& call : worker.running) runs_.rearm(call);
  });
  scaling_.configure();
  waiting_.offer_to_all();
  readiness_.refresh();
}

void Pool::Impl::on(const FunctionsAnnounced& event) {
  FunctionTable& functions = calls_.functions();
  const bool unchanged =
      functions.announced() && std::equal(announced_.begin(), announced_.end(),
                                          event.functions.begin(), event.functions.end(), same);
  health_.announce(event.health);
  readiness_.note_loaded();
  if (unchanged) return;
  announced_ = event.functions;
  const std::vector<CallId> calls = calls_.in_order();
  functions.announce(event.functions);
  set_capacity(frame_.settings.workers.concurrency);
  for (const CallId id : calls) {
    if (Call* call = calls_.find_waiting(id)) announce(*call);
  }
  waiting_.set_limits();  // batches may wait longer, or shorter
  waiting_.offer_to_all();
  functions.each([this](Function& function) { waiting_.note_room(function); });
}

// How many calls a worker may run: as the largest function says, at most `cap` (0: no limit).
void Pool::Impl::set_capacity(std::uint32_t cap) {
  std::uint32_t most = 1;
  for (const FunctionSpec& each : announced_) most = std::max(most, each.concurrency);
  if (cap > 0) most = std::min(most, cap);
  workers_.table().set_capacity(most);
}

// Taken on trust until now: its function's own terms apply from here on.
void Pool::Impl::announce(Call& call) {
  if (!call.function->known) {
    Ending ending;
    ending.kind = OutcomeKind::kUnknownFunction;
    ending.message = "The application has no function \"" + call.function->spec.name + "\".";
    return waiting_.end(call, std::move(ending));
  }
  if (call.session && call.function->batches()) {
    Ending ending;
    ending.kind = OutcomeKind::kBadRequest;
    ending.message = no_session_of_batch(call.function->spec.name);
    return waiting_.end(call, std::move(ending));
  }
  call.traits.idempotent = call.traits.asked_idempotent || call.function->spec.idempotent;
  waiting_.classify(call);
  calls_.set_deadline(call);
  call.deadline = std::max(call.deadline, frame_.now);
  const bool pausing = call.in<Call::BackingOff>() && call.due < call.deadline;
  if (!pausing) frame_.timers.arm(call, call.deadline);
  waiting_.regroup(call);
}

}  // namespace keelback::core
