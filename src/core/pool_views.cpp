// What can be read off the pool, and the checks that tests run after every event.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "core/pool_impl.h"
#include "core/wording.h"

namespace keelback::core {

// When the first of the slots that pause is to be filled again.
std::optional<Time> Pool::Impl::next_start() const {
  std::optional<Time> next;
  for (const auto& slot : workers_.slots()) {
    if (slot->armed()) next = next ? std::min(*next, slot->due) : slot->due;
  }
  return next;
}

// Requires: start_failure_.
std::string Pool::Impl::describe_start_failure() const {
  std::string text = "the last start ended with " + describe(*start_failure_);
  if (!start_failure_->stderr_tail.empty()) {
    text += "; its last words: " + start_failure_->stderr_tail;
  }
  return text;
}

Stats Pool::Impl::stats(Time now) const {
  Stats stats;
  stats.workers.starting = workers_.count(WorkerState::kStarting);
  stats.workers.ready = workers_.count(WorkerState::kReady);
  stats.workers.busy = workers_.count(WorkerState::kBusy);
  stats.workers.suspect = workers_.count(WorkerState::kSuspect);
  stats.workers.draining = workers_.count(WorkerState::kDraining);
  std::uint32_t sick = 0;
  const Worker* sickest = nullptr;
  workers_.each([&](const Worker& worker) {
    if (!worker.sick || worker.slot->current != &worker || !worker.ready_once) return;
    ++sick;
    if (!sickest) sickest = &worker;
  });
  const std::uint32_t up = stats.workers.ready + stats.workers.busy;
  const std::uint32_t serving = up - std::min(sick, up);
  const std::uint32_t needed =
      std::min(frame_.settings.pool.min_ready, frame_.settings.pool.workers);
  if (draining_) {
    stats.reasons.push_back("the pool is shutting down");
  } else if (serving < needed) {
    stats.reasons.push_back(fmt::format("{} of {} workers serve; pool.min_ready asks for {}",
                                        serving, frame_.settings.pool.workers, needed));
    if (sickest) {
      stats.reasons.push_back(
          fmt::format("worker {}.{} {}", sickest->id.slot, sickest->id.generation, *sickest->sick));
    }
    if (start_failure_) {
      stats.reasons.push_back(describe_start_failure());
    } else if (last_exit_) {
      stats.reasons.push_back("the last worker to end by itself ended with " +
                              describe(*last_exit_));
    }
    if (heal_timer_.armed()) {
      stats.reasons.push_back("the next replacement of a broken worker is in " +
                              describe(std::max(heal_timer_.due - now, Duration{0})));
    }
    if (const auto next = next_start()) {
      stats.reasons.push_back("the next start is in " +
                              describe(std::max(*next - now, Duration{0})));
    }
  }
  stats.ready = stats.reasons.empty();
  if (stats.ready && start_failure_ && serving < frame_.settings.pool.workers) {
    stats.failing = fmt::format("{} of {} workers serve; {}", serving, frame_.settings.pool.workers,
                                describe_start_failure());
  }
  if (not_ready_ && !loaded_ && code_ == 0) stats.load_failure = start_failure_;
  stats.queue_depth = queue_.waiting();
  stats.queue_delay = queue_.oldest(now);
  stats.accepted = frame_.counters.accepted;
  stats.in_flight = calls_.size() - frame_.counters.late;
  stats.late = frame_.counters.late;
  std::copy(std::begin(frame_.counters.outcomes), std::end(frame_.counters.outcomes),
            stats.outcomes);
  const std::uint64_t due = sessions_.count_due(now);
  stats.sessions.active = sessions_.attached() - due;
  stats.sessions.opened = frame_.counters.opened;
  stats.sessions.expired = frame_.counters.expired + due - sessions_.backlog();
  stats.sessions.lost = frame_.counters.lost;
  stats.sessions.restored = frame_.counters.restored;
  stats.sessions.ended = frame_.counters.ended;
  stats.sessions.moved = frame_.counters.moved;
  stats.restarts = frame_.counters.restarts;
  stats.retries = frame_.counters.retries;
  stats.quarantined = quarantine_.held(now, frame_.quarantine_limits());
  stats.sessions.evicted = frame_.counters.evicted;
  stats.attachment_bytes = carried_.total();
  stats.abandoned = frame_.counters.abandoned;
  stats.snapshots.kept = frame_.counters.snapshots_kept;
  stats.snapshots.failed = frame_.counters.snapshots_failed;
  stats.health.failed = frame_.counters.health_failures;
  stats.health.retired = frame_.counters.retired;
  stats.draining = draining_;
  workers_.each([&](const Worker& worker) {
    if (worker.state != WorkerState::kDraining || worker.killed || worker.sessions() == 0) return;
    ++stats.leaving.workers;
    stats.leaving.sessions += worker.sessions();
    const Time until = worker.drain_since + frame_.settings.workers.drain_timeout;
    stats.leaving.until = std::max(stats.leaving.until, until - now);
  });
  return stats;
}

std::vector<WorkerView> Pool::Impl::workers(Time now) const {
  std::vector<WorkerView> views;
  workers_.each([&](const Worker& worker) {
    WorkerView view;
    view.worker = worker.id;
    view.state = worker.state;
    view.calls = worker.calls;
    view.sessions = static_cast<std::uint32_t>(worker.sessions());
    view.age = now - worker.started;
    if (worker.running) {
      view.call = worker.running->id;
      view.function = worker.running->function->spec.name;
    }
    view.sick = worker.sick.value_or("");
    views.push_back(std::move(view));
  });
  std::sort(views.begin(), views.end(),
            [](const WorkerView& a, const WorkerView& b) { return a.worker < b.worker; });
  return views;
}

Pool::SessionPage Pool::Impl::sessions(Time now, std::string_view after, std::size_t limit) const {
  SessionPage page;
  page.total = sessions_.live(now);
  // Keeps the `limit + 1` smallest ids: O(n log limit), and no order to maintain on the hot path.
  std::vector<const Session*> first;
  const auto by_id = [](const Session* a, const Session* b) { return a->id < b->id; };
  sessions_.each_live(now, [&](const Session& session) {
    if (session.id <= after && !after.empty()) return;
    first.push_back(&session);
    std::push_heap(first.begin(), first.end(), by_id);
    if (first.size() > limit + 1) {
      std::pop_heap(first.begin(), first.end(), by_id);
      first.pop_back();
    }
  });
  std::sort_heap(first.begin(), first.end(), by_id);
  const bool more = first.size() > limit;
  if (more) first.resize(limit);
  for (const Session* session : first) {
    SessionView view;
    view.id = session->id;
    const bool homeless = session->home && !session->home->alive;  // until it is called again
    if (session->home && !homeless) view.worker = session->home->worker;
    view.birth = session->birth;
    view.epoch = session->epoch + (homeless ? 1 : 0);
    view.idle = session->lane ? Duration{0} : now - session->idle_since;
    view.age = now - session->opened_at;
    view.state = !session->lane ? "idle" : session->lane->running ? "running" : "queued";
    page.items.push_back(std::move(view));
  }
  if (more && !page.items.empty()) page.next = page.items.back().id;
  return page;
}

std::vector<QuarantineView> Pool::Impl::quarantine(Time now) const {
  std::vector<QuarantineView> views;
  const Quarantine::Limits limits = frame_.quarantine_limits();
  quarantine_.each_held(now, limits, [&](const Quarantine::Entry& entry) {
    views.push_back({entry.fingerprint, entry.function, entry.session, entry.deaths,
                     entry.last_death + limits.ttl - now});
  });
  return views;
}

void Pool::Impl::check_invariants() const {
  sessions_.check_invariants(frame_.now);
  const std::uint64_t resolved = std::accumulate(std::begin(frame_.counters.outcomes),
                                                 std::end(frame_.counters.outcomes), 0ULL);
  CHECK(frame_.counters.accepted == calls_.size() - frame_.counters.late + resolved);
  std::uint32_t waiting = 0, running = 0;
  std::uint64_t carried = 0, late = 0;
  for (const CallId id : calls_in_order()) {
    const Call* call = calls_.find(id.value);
    CHECK(call->function && call->function->in_flight > 0);
    carried += call->attachment_bytes;
    if (call->told) ++late;
    if (call->state == CallState::kRunning) {
      ++running;
      CHECK(call->worker && call->worker->running == call && !call->queue);
      if (call->session) CHECK(call->session->lane->running == call);
      if (call->session) CHECK(call->session->home == call->worker->home);
      // Only a pool that stood still is later, and then a rung is due that it is about to climb.
      CHECK(call->told || frame_.now <= std::max(call->deadline + frame_.settings.calls.grace,
                                                 running_due(*call)));
    } else if (call->state == CallState::kSaving) {
      CHECK(!call->worker && !call->queue && call->session->lane->running == call);
      CHECK(frame_.now <= (call->told ? call->due : call->deadline));
    } else {
      ++waiting;
      CHECK(!call->worker && !call->told);
      CHECK(call->is_head == (call->queue != nullptr));
      CHECK(frame_.now <= call->deadline);
      if (call->state == CallState::kWaiting && !call->is_head) {
        const Lane& lane = *call->session->lane;
        CHECK(lane.running || &lane.waiting.front() != call);
      }
    }
    CHECK(call->armed());
  }
  CHECK(carried_.total() == carried);
  CHECK(frame_.counters.late == late);
  CHECK(waiting == queue_.waiting());
  sessions_.each_live(frame_.now, [this](const Session& session) {
    CHECK(session.saved == (snapshots_.usable(session.birth) != 0));
  });
  std::uint32_t busy = 0;
  bool idle = false;
  workers_.each([&](const Worker& worker) {
    if (worker.running) ++busy;
    const bool serves = worker.state == WorkerState::kReady;
    CHECK(worker.saves == 0 || worker.state == WorkerState::kDraining);
    CHECK(worker.idle_hook.is_linked() == serves);
    CHECK(!(serves && worker.running));
    CHECK(!serves || worker.queue.empty());
    if (serves) idle = true;
  });
  CHECK(busy == running);
  // Nobody stands idle while a head waits that anyone may serve.
  if (idle) CHECK(queue_.shared().empty());
}

}  // namespace keelback::core
