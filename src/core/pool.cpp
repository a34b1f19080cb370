#include "core/pool.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/pool_impl.h"

namespace keelback::core {
namespace {

// Sessions and tombstones taken out in one step; a large backlog spreads over as many steps.
constexpr std::size_t kSweepStep = 64;

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
    case WorkerState::kDead:
      return "dead";
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
Stats Pool::stats(Time now) const { return impl_->stats(now); }
std::vector<WorkerView> Pool::workers(Time now) const { return impl_->workers(now); }
Pool::SessionPage Pool::sessions(Time now, std::string_view after, std::size_t limit) const {
  return impl_->sessions(now, after, limit);
}
std::vector<QuarantineView> Pool::quarantine(Time now) const { return impl_->quarantine(now); }
const Pool::Config& Pool::config() const { return impl_->config(); }
void Pool::check_invariants() const { impl_->check_invariants(); }

Pool::Impl::Impl(Settings settings, std::uint64_t seed)
    : settings_(std::move(settings)),
      prng_(seed),
      functions_(prng_.next()),
      queue_(
          {settings_.pool.queue_max, settings_.sessions.queue_max, settings_.pool.queue_delay_max}),
      sessions_({settings_.sessions.idle_ttl, settings_.sessions.max_age}, prng_.next()),
      tombstones_({settings_.sessions.tombstone_ttl, settings_.sessions.max}, prng_.next()),
      idempotency_(prng_.next()) {}

Pool::Impl::~Impl() {
  timers_.clear();
  placement_.clear();
  queue_.clear();
  functions_.each([](Function& function) { function.parked.clear(); });
  workers_.each([this](Worker& worker) {
    worker.queue.clear();
    if (worker.home) sessions_.kill_home(*std::exchange(worker.home, nullptr), nullptr);
  });
  calls_.each([this](Call& call) {
    if (call.key) call.key->followers.clear();
    if (Session* session = call.session; session && session->lane) {
      session->lane->waiting.clear();
      session->lane->running = nullptr;
      if (session->detached) sessions_.erase(*session);
    }
  });
  calls_.each([this](Call& call) { call_slab_.free(&call); });
}

void Pool::Impl::handle(Time now, const Event& event, Actions& out) {
  now_ = std::max(now_, now);
  out_ = &out;
  if (!begun_) {
    begun_ = true;
    resize();
  }
  advance();
  std::visit([this](const auto& e) { on(e); }, event);
  use_room();
  if (draining_) advance_drain();
  out_ = nullptr;
}

void Pool::Impl::advance() {
  while (Timer* timer = timers_.take_due(now_)) {
    switch (timer->kind) {
      case TimerKind::kCall:
        call_due(static_cast<Call&>(*timer));
        break;
      case TimerKind::kWorker:
        worker_due(static_cast<Worker&>(*timer));
        break;
      case TimerKind::kSlot:
        start(static_cast<Slot&>(*timer));
        break;
      case TimerKind::kHealing:
        advance_healing();
        break;
      case TimerKind::kPool:
        drain_due();
        break;
    }
  }
  sweep(kSweepStep);
  use_room();
  tombstones_.sweep(now_, kSweepStep);
  quarantine_.sweep(now_, quarantine_limits());
  forget_outcomes();
}

void Pool::Impl::sweep(std::size_t count) {
  while (count-- > 0) {
    Session* session = sessions_.next_due(now_);
    if (!session) return;
    end_session(*session, sessions_.judge(*session, now_));
  }
}

void Pool::Impl::notice(Notice::Level level, std::string text) {
  emit(Notice{level, std::move(text)});
}

std::optional<Time> Pool::Impl::next_deadline() const {
  if (!begun_) return now_;
  std::optional<Time> next = timers_.next();
  const auto earlier = [&next](std::optional<Time> other) {
    if (other && (!next || *other < *next)) next = other;
  };
  earlier(sessions_.next_deadline(now_));
  earlier(tombstones_.next_deadline());
  earlier(idempotency_.next_deadline(settings_.calls.idempotency_ttl));
  return next;
}

}  // namespace keelback::core
