#include "core/views.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <variant>

#include "base/check.h"
#include "core/batcher.h"
#include "core/calls.h"
#include "core/readiness.h"
#include "core/runs.h"
#include "core/scaling.h"
#include "core/sessions.h"
#include "core/snapshots.h"
#include "core/waiting.h"
#include "core/workers.h"

namespace keelback::core {

PoolStats Views::stats(Time now) const {
  PoolStats stats;
  stats.workers.starting = workers_.table().count(WorkerState::kStarting);
  stats.workers.ready = workers_.table().count(WorkerState::kReady);
  stats.workers.busy = workers_.table().count(WorkerState::kBusy);
  stats.workers.suspect = workers_.table().count(WorkerState::kSuspect);
  stats.workers.draining = workers_.table().count(WorkerState::kDraining);
  workers_.table().each([&](const Worker& worker) {
    if (!worker.was_ready() || worker.ending()) return;
    stats.capacity.total += worker.capacity;
    // A call that runs alone, and a batch, fill the worker. They count as one call each.
    stats.capacity.used += worker.taken() ? 1 : worker.running.size();
  });
  readiness_.describe(now, stats);
  calls_.functions().each([&](const Function& function) {
    const BatchSizes& sizes = function.batch_sizes;
    if (function.batches() || sizes.batches > 0)
      stats.batches.push_back({function.spec.name, sizes});
  });
  scaling_.describe(now, stats);
  stats.queue_depth = waiting_.queue().waiting();
  stats.queue_delay = waiting_.queue().oldest(now);
  stats.accepted = frame_.counters.accepted;
  stats.in_flight = calls_.size() - frame_.counters.late;
  stats.late = frame_.counters.late;
  std::copy(std::begin(frame_.counters.outcomes), std::end(frame_.counters.outcomes),
            stats.outcomes);
  const std::uint64_t due = sessions_.table().count_due(now);
  stats.sessions.active = sessions_.table().attached() - due;
  stats.sessions.opened = frame_.counters.opened;
  stats.sessions.expired = frame_.counters.expired + due - sessions_.table().backlog();
  stats.sessions.lost = frame_.counters.lost;
  stats.sessions.restored = frame_.counters.restored;
  stats.sessions.ended = frame_.counters.ended;
  stats.sessions.moved = frame_.counters.moved;
  stats.restarts = frame_.counters.restarts;
  stats.retries = frame_.counters.retries;
  stats.quarantined = quarantine_.held(now, frame_.quarantine_limits());
  stats.sessions.evicted = frame_.counters.evicted;
  stats.attachments.carried_bytes = calls_.carried().total();
  stats.abandoned = frame_.counters.abandoned;
  stats.loop_blocks = frame_.counters.loop_blocks;
  stats.snapshots.kept = frame_.counters.snapshots_kept;
  stats.snapshots.failed = frame_.counters.snapshots_failed;
  stats.health.failed = frame_.counters.health_failures;
  stats.health.retired = frame_.counters.retired;
  stats.draining = frame_.draining();
  count_leaving(now, stats);
  return stats;
}

void Views::count_leaving(Time now, PoolStats& stats) const {
  workers_.table().each([&](const Worker& worker) {
    const auto* draining = worker.in<Worker::Draining>();
    if (!draining || worker.sessions() == 0 || worker.spare) return;
    ++stats.leaving.workers;
    stats.leaving.sessions += worker.sessions();
    const Time until = draining->since + frame_.settings.workers.drain_timeout;
    stats.leaving.until = std::max(stats.leaving.until, until - now);
  });
}

std::vector<WorkerView> Views::workers(Time now) const {
  std::vector<WorkerView> views;
  workers_.table().each([&](const Worker& worker) {
    WorkerView view;
    view.worker = worker.id;
    view.state = worker.shown();
    view.calls = worker.calls;
    view.sessions = static_cast<std::uint32_t>(worker.sessions());
    view.age = now - worker.started;
    view.capacity = worker.capacity;
    for (const Call& call : worker.running) {
      view.running.push_back({call.id, call.function->spec.name,
                              call.session ? call.session->id : std::string(),
                              now - call.dispatched, call.parent});
    }
    if (!view.running.empty()) {
      view.call = view.running.front().call;
      view.function = view.running.front().function;
    }
    view.sick = worker.fault;
    views.push_back(std::move(view));
  });
  std::sort(views.begin(), views.end(),
            [](const WorkerView& a, const WorkerView& b) { return a.worker < b.worker; });
  return views;
}

SessionList Views::sessions(Time now, std::string_view after, std::size_t limit) const {
  SessionList page;
  page.total = sessions_.table().live(now);
  // Keeps the `limit + 1` smallest ids: O(n log limit), and no order to maintain on the hot path.
  std::vector<const Session*> first;
  const auto by_id = [](const Session* a, const Session* b) { return a->id < b->id; };
  sessions_.table().each_live(now, [&](const Session& session) {
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
    SessionStatus view;
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

std::vector<QuarantinedRequest> Views::quarantine(Time now) const {
  std::vector<QuarantinedRequest> views;
  const Quarantine::Limits limits = frame_.quarantine_limits();
  quarantine_.each_held(now, limits, [&](const Quarantine::Entry& entry) {
    views.push_back({entry.fingerprint, entry.function, entry.session, entry.deaths,
                     entry.last_death + limits.ttl - now});
  });
  return views;
}

bool Views::knows(Time now, const Event& event) const {
  if (const auto* ended = std::get_if<SessionEnded>(&event)) {
    const SessionTable& table = sessions_.table();
    const Session* session = table.find(ended->session);
    return session != nullptr && table.judge(*session, now) == SessionTable::Verdict::kLive;
  }
  if (const auto* released = std::get_if<QuarantineReleased>(&event))
    return quarantine_.holds(now, released->fingerprint, frame_.quarantine_limits());
  if (const auto* recycled = std::get_if<RecycleRequested>(&event))
    return recycled->slot > 0 && recycled->slot <= frame_.settings.pool.size_max() &&
           (!scaling_.active() || workers_.table().slots()[recycled->slot - 1]->wanted);
  return true;
}

void Views::check_invariants() const {
  const Counters& counters = frame_.counters;
  sessions_.table().check_invariants(frame_.now);
  const std::uint64_t resolved =
      std::accumulate(std::begin(counters.outcomes), std::end(counters.outcomes), 0ULL);
  CHECK(counters.accepted == calls_.size() - counters.late + resolved);
  sessions_.table().each_live(frame_.now, [this](const Session& session) {
    CHECK(session.saved == (snapshots_.book().usable(session.birth) != 0));
  });
  CHECK(check_workers() == check_calls());
}

// Returns how many run.
std::uint32_t Views::check_calls() const {
  std::uint32_t waiting = 0, running = 0;
  std::uint64_t carried = 0, late = 0;
  for (const CallId id : calls_.in_order()) {
    const Call* call = calls_.find(id);
    CHECK(call->function && call->function->in_flight > 0);
    CHECK(call->armed());
    carried += call->attachment_bytes;
    if (call->told) ++late;
    check_family(*call);
    CHECK(!call->undecided || (call->told && call->in<Call::Running>()));
    if (const auto* run = call->in<Call::Running>()) {
      ++running;
      check_running(*call, *run);
    } else if (call->in<Call::Saving>()) {
      CHECK(!call->queue && call->session->lane->running == call);
      CHECK(frame_.now <= (call->told ? call->due : call->deadline));
    } else {
      ++waiting;
      check_waiting(*call);
    }
  }
  CHECK(calls_.carried().total() == carried);
  CHECK(frame_.counters.late == late);
  CHECK(waiting == waiting_.queue().waiting());
  return running;
}

void Views::check_family(const Call& call) const {
  CHECK(!call.parent || call.nested());
  if (call.parent) {
    const Call* parent = calls_.find(call.parent);
    CHECK(parent && parent->in<Call::Running>() && parent->depth + 1 == call.depth);
    CHECK(call.told || Runs::is_pressed(*parent) || call.deadline <= parent->deadline);
  }
  for (const CallId child : calls_.family().children(call.id)) {
    CHECK(calls_.find(child)->parent == call.id);
  }
}

void Views::check_running(const Call& call, const Call::Running& run) const {
  CHECK(run.worker && call.run_hook.is_linked() && !call.queue);
  if (call.session) CHECK(call.session->lane->running == &call);
  if (call.session) CHECK(call.session->home == run.worker->home);
  // Only a pool that stood still is later, and then a rung is due that it is about to climb.
  CHECK(call.told ||
        frame_.now <= std::max(call.deadline + frame_.settings.calls.grace, runs_.due(call)));
}

void Views::check_waiting(const Call& call) const {
  CHECK(!call.told);
  CHECK((call.in<Call::Head>() != nullptr) == (call.queue != nullptr || call.group != nullptr));
  if (call.group && call.queue) CHECK(call.group->queued == &call);
  CHECK(frame_.now <= call.deadline);
  if (!call.in<Call::InLane>()) return;
  const Lane& lane = *call.session->lane;
  CHECK(lane.running || &lane.waiting.front() != &call);
}

void Views::check_groups(bool idle) const {
  waiting_.batcher().each([&](const BatchGroup& group) {
    CHECK(!group.calls.empty() && !group.noted);
    const Call& first = group.calls.front();
    CHECK(group.next >= 1 &&
          group.next <=
              std::min<std::size_t>(group.calls.size(), std::max(first.function->spec.batch, 1U)));
    CHECK(group.queued ? group.queued == &first && first.queue : group.armed());
    std::uint64_t stamp = 0;
    for (const Call& call : group.calls) {
      CHECK(call.group == &group && call.in<Call::Head>() && call.stamp > stamp);
      stamp = call.stamp;
    }
    if (group.queued) return;
    CHECK(!Batcher::ripe(frame_.now, group));
    if (idle && first.function->spec.max_workers == 0) CHECK(Batcher::worth_waiting(group));
  });
}

// Returns how many calls they run.
std::uint32_t Views::check_workers() const {
  std::uint32_t running = 0;
  bool idle = false;
  const RunQueue& common = waiting_.queue().common();
  workers_.table().each([&](const Worker& worker) {
    running += static_cast<std::uint32_t>(worker.running.size());
    if (worker.taken()) {
      const Call& first = worker.running.front();
      CHECK(worker.running.size() <= std::max(first.batch, 1U));
      for (const Call& call : worker.running) CHECK(call.batch == first.batch && call.alone);
    }
    bool runs_blocker = !worker.block || !worker.block->by;
    for (const Call& call : worker.running) {
      CHECK(call.in<Call::Running>()->worker == &worker);
      if (worker.block && call.id == worker.block->by) runs_blocker = true;
    }
    CHECK(runs_blocker);
    CHECK(worker.sharing_hook.is_linked() ==
          (!worker.running.empty() && !worker.taken() && (worker.busy() || worker.suspect())));
    // Nobody has room while a head waits that it may serve.
    if (worker.serves() && worker.was_ready()) {
      const Call* head = waiting_.placement().pick(worker, common, frame_.now);
      CHECK(!head || !worker.takes(*head));
    }
    const bool serves = worker.ready();
    CHECK(worker.saves == 0 || worker.shown() == WorkerState::kDraining);
    CHECK(worker.idle_hook.is_linked() == serves);
    CHECK(worker.slot_hook.is_linked() == (serves && frame_.settings.pool.scales()));
    CHECK(!worker.spare || worker.draining() || worker.ending());
    CHECK(!serves || worker.running.empty());
    CHECK(!serves || worker.queue.empty());
    if (serves) idle = true;
  });
  CHECK(workers_.table().wanted() <= frame_.settings.pool.size_max());
  // Nobody stands idle while a head waits that anyone may serve.
  if (idle) CHECK(common.empty());
  check_groups(idle);
  return running;
}

}  // namespace keelback::core
