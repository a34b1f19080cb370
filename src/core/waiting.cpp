#include "core/waiting.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/calls.h"
#include "core/health.h"
#include "core/keys.h"
#include "core/runs.h"
#include "core/sessions.h"
#include "core/wording.h"
#include "core/workers.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
// One more worker is emptied for each of these that the waiting calls which run alone will take.
constexpr Duration kWorthAWorker = 50ms;

CallQueue::Limits queue_limits(const Settings& settings) {
  return {settings.pool.queue_max, settings.sessions.queue_max, settings.pool.queue_delay_max};
}

Batcher::Limits batch_limits(const Settings& settings) {
  return {settings.calls.payload_max.count, settings.attachments.max.count};
}

// It goes with others of its batch. A suspect goes by itself, and so does a call that has killed
// its worker while it was alone, and one of a session that began before its function took batches.
bool goes_along(const Call& call) {
  const bool deadly = call.batch_deaths > 0 && !call.group;
  return call.function->batches() && !call.suspect && !call.session && !deadly;
}

}  // namespace

Waiting::Waiting(Frame& frame, const Quarantine& quarantine, Calls& calls, Keys& keys, Runs& runs,
                 Sessions& sessions, Workers& workers, Health& health)
    : frame_(frame),
      quarantine_(quarantine),
      calls_(calls),
      keys_(keys),
      runs_(runs),
      sessions_(sessions),
      workers_(workers),
      health_(health),
      queue_(queue_limits(frame.settings)),
      batcher_(batch_limits(frame.settings)) {}

void Waiting::clear() {
  placement_.clear();
  queue_.clear();
  batcher_.clear();
}

void Waiting::set_limits() {
  queue_.set_limits(queue_limits(frame_.settings));
  batcher_.set_limits(batch_limits(frame_.settings));
  batcher_.each([this](BatchGroup& group) { note_group(group); });
}

Duration Waiting::retry_after() const { return queue_.retry_after(workers_.table().up()); }

// ---- in

void Waiting::enter(Call& call) {
  Session* session = call.session;
  if (call.deadline <= frame_.now) return end(call, calls_.timeout_ending(call, Effect::kNone));
  frame_.timers.arm(call, call.deadline);
  order_changed_ = true;
  if (session && (&session->lane->waiting.front() != &call || session->lane->running)) {
    return classify(call);
  }
  queue_.make_head(call, session ? session->lane : nullptr, frame_.now);
  place(call);
}

void Waiting::place(Call& first) {
  Call* head = &first;
  while (head) head = place_one(*head);
}

Call* Waiting::place_one(Call& head) {
  CHECK(head.in<Call::Head>() && !head.queue);
  if (BatchGroup* group = head.group) {
    if (group->queued == &head) group->queued = nullptr;
    settle(*group);
    return nullptr;
  }
  if (head.deadline <= frame_.now) return nullptr;  // its timer ends it in this very step
  if (quarantined(head)) return end_quarantined(head);
  classify(head);
  if (goes_along(head)) {
    const bool filled = head.function->pace.fills();
    BatchGroup& group = batcher_.join(frame_.now, head);
    if (filled && !head.function->pace.fills()) {  // others of it may have waited for long enough
      batcher_.each([this](BatchGroup& each) { note_group(each); });
    }
    settle(group);
    return nullptr;
  }
  if (Worker* worker = placement_.choose(head, queue_.common())) {
    runs_.dispatch(*worker, head);
  } else {
    head.expected = head.function->service;
    wait(head);
  }
  return nullptr;
}

void Waiting::wait(Call& head) {
  if (!head.function->has_room(head)) return head.function->parked.insert(head);
  Worker* home = Placement::waits_for(head);
  if (!home) ++head.function->queued;
  queue_.enqueue(home ? home->queue : queue_.common(), head);
}

void Waiting::dequeue(Call& head) {
  order_changed_ = true;
  if (head.queue == &queue_.common()) --head.function->queued;
  queue_.dequeue(head);
}

void Waiting::unqueue(Call& head) {
  dequeue(head);
  if (head.group) note_group(batcher_.leave(head));
}

void Waiting::take_back(Call& call, bool retry, Duration pause) {
  queue_.count_in(call);
  call.state = Call::InLane{};
  if (call.session) queue_.put_back(*call.session->lane, call);
  if (retry) {
    ++call.retries;
    ++frame_.counters.retries;
    call.state = Call::BackingOff{};
    frame_.timers.arm(call, std::min(frame_.now + pause, call.deadline));
    return;
  }
  frame_.timers.arm(call, call.deadline);
  if (call.session) return;  // placed once its session has left the dead worker
  queue_.make_head(call, nullptr, frame_.now);
  place(call);
}

void Waiting::take_back_together(std::span<Call* const> calls) {
  if (calls.empty()) return;
  for (Call* call : calls) {
    queue_.count_in(*call);
    frame_.timers.arm(*call, call->deadline);
    queue_.make_head(*call, nullptr, frame_.now);
  }
  settle(batcher_.seal(calls));
}

// ---- batches

void Waiting::note_group(BatchGroup& group) {
  if (group.noted) return;
  group.noted = true;
  changed_.push_back(&group);
}

void Waiting::settle_groups() {
  if (frame_.draining()) {  // nobody else will come
    batcher_.each([this](BatchGroup& group) {
      if (!group.queued) note_group(group);
    });
  }
  while (!changed_.empty()) {
    BatchGroup& group = *changed_.back();
    changed_.pop_back();
    group.noted = false;
    if (!group.calls.empty()) {
      settle(group);
      continue;
    }
    frame_.timers.disarm(group);
    batcher_.drop(group);
  }
}

void Waiting::settle(BatchGroup& group) {
  while (!group.calls.empty()) {
    Call& first = group.calls.front();
    if (group.queued && group.queued != &first) dequeue(*std::exchange(group.queued, nullptr));
    const Duration work = first.function->service * static_cast<int>(group.calls.size());
    if (group.queued) return first.queue->expect(first, work);
    const bool ripe = Batcher::ripe(frame_.now, group) || frame_.draining();
    if (Worker* worker = placement_.choose(first, queue_.common());
        worker && (ripe || !Batcher::worth_waiting(group))) {
      if (!sift(group)) runs_.dispatch(*worker, first);
      continue;
    }
    if (!ripe) return frame_.timers.arm(group, group.ripe_at);
    frame_.timers.disarm(group);
    first.expected = work;
    group.queued = &first;
    return wait(first);
  }
  frame_.timers.disarm(group);
  note_group(group);  // to be dropped
}

bool Waiting::sift(BatchGroup& group) {
  std::uint32_t left = group.next;
  for (Call& call : group.calls) {
    if (left-- == 0) return false;
    if (call.deadline <= frame_.now) {
      end(call, calls_.timeout_ending(call, Effect::kNone));
      return true;
    }
    if (quarantined(call)) {
      if (Call* next = end_quarantined(call)) place(*next);
      return true;
    }
    classify(call);
    if (goes_along(call)) continue;
    unqueue(call);
    place(call);
    return true;
  }
  return false;
}

Call* Waiting::early_batch(const Worker& worker) const {
  if (!worker.ready() || batcher_.empty()) return nullptr;
  return batcher_.early([&](const Call& first) { return worker.takes(first); });
}

bool Waiting::would_start(const Call& call) const {
  if (!would_run(call)) return false;
  const Function& function = *call.function;
  return !goes_along(call) || function.spec.batch_wait <= Duration{0} || !function.pace.fills();
}

void Waiting::regroup(Call& call) {
  if (!call.in<Call::Head>() || goes_along(call) == (call.group != nullptr)) return;
  unqueue(call);
  place(call);
}

void Waiting::classify(Call& call) {
  const Function& function = *call.function;
  const bool together = function.shared() || function.batches();
  const bool suspect =
      together && quarantine_.suspects(frame_.now, call.fingerprint, frame_.quarantine_limits());
  const bool alone = suspect || !function.shared();
  if (suspect == call.suspect && alone == call.alone) return;
  RunQueue* queue = call.queue;
  if (queue) queue->remove(call);
  call.suspect = suspect;
  call.alone = alone;
  if (queue) queue->insert(call);
}

void Waiting::note_room(Function& function) {
  if (function.parked.empty() || function.room_noted) return;
  function.room_noted = true;
  calls_.functions().acquire(function);
  room_.push_back(&function);
}

void Waiting::use_room() {
  do {
    while (!room_.empty()) {
      Function& function = *room_.back();
      room_.pop_back();
      function.room_noted = false;
      unpark(function);
      calls_.functions().release(function);
    }
    settle_groups();
  } while (!room_.empty());
  empty_workers();
}

std::size_t Waiting::workers_to_empty() const {
  const RunQueue& common = queue_.common();
  const auto worth = static_cast<std::size_t>(common.work_alone() / kWorthAWorker);
  return std::min(common.size_alone(), worth + 1);
}

// If it was emptied, another one is in its place, before calls of the gone one take room there.
void Waiting::withdraw(Worker& worker) {
  const bool emptied = worker.emptied;
  placement_.withdraw(worker);
  if (emptied) static_cast<void>(placement_.empty(workers_to_empty()));
}

void Waiting::empty_workers() {
  while (Worker* worker = placement_.empty(workers_to_empty())) offer(*worker);
  // What went before a head, so that a worker was kept free for it, may be gone.
  if (!std::exchange(order_changed_, false) || workers_.table().capacity() == 1) return;
  offer_to_sharing();
}

void Waiting::offer_to_sharing() {
  std::vector<Worker*> sharing;
  workers_.table().each([&](Worker& worker) {
    if (!worker.running.empty() && !worker.taken()) sharing.push_back(&worker);
  });
  for (Worker* worker : sharing) offer(*worker);
}

void Waiting::unpark(Function& function) {
  // As many as could run now; those whose own worker is busy wait with it and take no room.
  const auto has_room = [&](const Call& head) {
    const std::uint32_t max = function.spec.max_workers;
    if (head.suspect && function.suspects > 0) return false;
    return max == 0 || function.workers + function.queued < max || would_run(head);
  };
  while (Call* head = function.parked.top_shared(has_room)) {
    function.parked.remove(*head);
    place(*head);
  }
  while (Call* head = function.parked.top_alone()) {
    if (!has_room(*head)) return;
    const bool last = head->suspect;  // of suspects one runs at a time
    function.parked.remove(*head);
    place(*head);
    if (last) return;
  }
}

void Waiting::offer(Worker& worker) {
  if (worker.check == Worker::Check::kWanted) health_.want_check(worker);
  while (worker.serves()) {
    Call* head = placement_.pick(worker, queue_.common(), frame_.now);
    if (!head) head = early_batch(worker);
    if (!head) {
      if (worker.ready()) placement_.set_idle(worker);
      return;
    }
    if (BatchGroup* group = head->group; group && sift(*group)) {
      settle(*group);  // the head itself may have left it
      continue;
    }
    if (quarantined(*head)) {
      if (Call* next = end_quarantined(*head)) place(*next);
      continue;
    }
    classify(*head);
    if (worker.takes(*head)) {
      runs_.dispatch(worker, *head);
      if (worker.capacity == 1 || worker.taken()) return;
      // It has begun with an older call, and must not go on with younger ones.
      placement_.empty(workers_to_empty());
    } else if (worker.fits(*head)) {
      dequeue(*head);
      head->function->parked.insert(*head);
    }
  }
}

void Waiting::hold_heads(Worker& worker) {
  for (Session& session : worker.home->active) {
    if (session.lane->waiting.empty()) continue;
    Call& head = session.lane->waiting.front();
    if (head.queue != &queue_.common()) continue;
    unqueue(head);
    queue_.enqueue(worker.queue, head);
  }
}

void Waiting::release_head(Session& session, Worker& worker) {
  if (!session.lane || session.lane->waiting.empty()) return;
  Call& head = session.lane->waiting.front();
  if (head.queue != &worker.queue) return;
  unqueue(head);
  head.state = Call::InLane{};
}

// ---- out

void Waiting::hand_over(Call& head) {
  unqueue(head);
  if (head.session) queue_.remove(*head.session->lane, head);
  queue_.count_out(head);
}

std::span<Call* const> Waiting::hand_over_batch(BatchGroup& group) {
  if (group.queued) dequeue(*std::exchange(group.queued, nullptr));
  const std::span<Call* const> batch = batcher_.take(group);
  for (Call* call : batch) queue_.count_out(*call);
  order_changed_ = true;
  note_group(group);
  return batch;
}

void Waiting::end(Call& call, Ending&& ending) {
  if (Call* next = take_out(call, std::move(ending))) place(*next);
}

Call* Waiting::take_out(Call& call, Ending&& ending) {
  Session* session = call.session;
  const bool on_its_own =
      ending.kind == OutcomeKind::kCancelled || ending.kind == OutcomeKind::kTimeout;
  Call* heir = on_its_own && !call.in<Call::Joined>() ? keys_.hand_on(call) : nullptr;
  end_in_lane(call, std::move(ending));
  if (session) return sessions_.next_head(*session);
  if (heir) queue_.make_head(*heir, nullptr, frame_.now);
  return heir;
}

void Waiting::end_in_lane(Call& call, Ending&& ending) {
  note_room(*call.function);
  leave(call);
  calls_.resolve(call, std::move(ending));
}

void Waiting::leave(Call& call) {
  if (call.in<Call::Joined>()) keys_.leave(call);
  if (call.in<Call::Head>()) unqueue(call);
  if (call.session) queue_.remove(*call.session->lane, call);
  order_changed_ = true;
  call.session = nullptr;
  queue_.count_out(call);
}

void Waiting::end_all(const Ending& ending) {
  for (const CallId id : calls_.in_order()) {
    if (Call* call = calls_.find_waiting(id)) end(*call, Ending{ending});
  }
}

bool Waiting::quarantined(const Call& head) const {
  return quarantine_.holds(frame_.now, head.fingerprint, frame_.quarantine_limits());
}

Call* Waiting::end_quarantined(Call& head) {
  Ending ending;
  if (head.effect_min != Effect::kNone) {  // an attempt of its own had started: that is how it ends
    ending.kind = OutcomeKind::kWorkerDied;
    ending.effect = Effect::kMaybe;
    ending.death = head.last_death;
    ending.message = "The worker died while it ran this call, and it is quarantined by now.";
  } else {
    const Quarantine::Limits limits = frame_.quarantine_limits();
    ending.kind = OutcomeKind::kQuarantined;
    ending.message =
        held_back(limits.deaths, quarantine_.remaining(frame_.now, head.fingerprint, limits));
  }
  return take_out(head, std::move(ending));
}

void Waiting::due(Call& call) {
  if (!call.in<Call::BackingOff>() || frame_.now >= call.deadline) {
    return end(call, calls_.timeout_ending(call, Effect::kNone));
  }
  frame_.timers.arm(call, call.deadline);
  queue_.make_head(call, call.session ? call.session->lane : nullptr, frame_.now);
  place(call);
}

}  // namespace keelback::core
