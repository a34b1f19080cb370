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
    : frame_(std::move(settings), seed),
      functions_(frame_.prng.next()),
      queue_({frame_.settings.pool.queue_max, frame_.settings.sessions.queue_max,
              frame_.settings.pool.queue_delay_max}),
      sessions_({frame_.settings.sessions.idle_ttl, frame_.settings.sessions.max_age},
                frame_.prng.next()),
      tombstones_({frame_.settings.sessions.tombstone_ttl, frame_.settings.sessions.max},
                  frame_.prng.next()),
      idempotency_(frame_.prng.next()) {}

Pool::Impl::~Impl() {
  frame_.timers.clear();
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
  frame_.now = std::max(frame_.now, now);
  frame_.out = &out;
  if (!begun_) {
    begun_ = true;
    resize();
  }
  advance();
  std::visit([this](const auto& e) { on(e); }, event);
  use_room();
  if (draining_) advance_drain();
  frame_.out = nullptr;
}

void Pool::Impl::advance() {
  while (Timer* timer = frame_.timers.take_due(frame_.now)) {
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
  tombstones_.sweep(frame_.now, kSweepStep);
  quarantine_.sweep(frame_.now, frame_.quarantine_limits());
  forget_outcomes();
}

void Pool::Impl::sweep(std::size_t count) {
  while (count-- > 0) {
    Session* session = sessions_.next_due(frame_.now);
    if (!session) return;
    end_session(*session, sessions_.judge(*session, frame_.now));
  }
}

std::optional<Time> Pool::Impl::next_deadline() const {
  if (!begun_) return frame_.now;
  std::optional<Time> next = frame_.timers.next();
  const auto earlier = [&next](std::optional<Time> other) {
    if (other && (!next || *other < *next)) next = other;
  };
  earlier(sessions_.next_deadline(frame_.now));
  earlier(tombstones_.next_deadline());
  earlier(idempotency_.next_deadline(frame_.settings.calls.idempotency_ttl));
  return next;
}

}  // namespace keelback::core
