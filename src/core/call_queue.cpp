#include "core/call_queue.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
constexpr Duration kRetryAfterMin = 1ms;
constexpr Duration kRetryAfterMax = 30s;
constexpr Duration kServiceGuess = 50ms;  // before the first call has ended
constexpr Duration kNoWorker = 1s;        // nothing serves at the moment

}  // namespace

Duration CallQueue::delay(Time now, Priority priority, std::uint32_t workers_up) const {
  const Call* first = common_.first_of(priority);
  const Duration waited = first ? now - std::max(first->head_since, served_since_) : Duration{0};
  return std::max(waited, common_.work_before(priority) / std::max(workers_up, 1U));
}

Duration CallQueue::longest_wait(Time now) const {
  Duration longest{0};
  for (const Priority rank : {Priority::kHigh, Priority::kNormal, Priority::kLow}) {
    if (const Call* first = common_.first_of(rank)) {
      longest = std::max(longest, now - first->head_since);
    }
  }
  return longest;
}

bool CallQueue::too_slow(Duration delay, Priority priority) const {
  if (limits_.delay_max <= Duration{0}) return false;
  Duration limit = limits_.delay_max;
  if (priority == Priority::kLow) limit /= 2;
  if (priority == Priority::kHigh) limit *= 2;
  return delay > limit;
}

Duration CallQueue::retry_after(std::uint32_t workers_up) const {
  if (workers_up == 0) return kNoWorker;
  const double service = service_ns_ > 0 ? service_ns_ : static_cast<double>(kServiceGuess.count());
  const double work = (static_cast<double>(waiting()) + 1) * service / workers_up;
  const double bounded = std::min(work, static_cast<double>(kRetryAfterMax.count()));
  return std::max(kRetryAfterMin, Duration{static_cast<Duration::rep>(bounded)});
}

void CallQueue::count_in(Call& call) {
  // Newcomers go last; one that a dead worker handed back goes where its age puts it, which is
  // near the front.
  auto place = waiting_.end();
  if (!waiting_.empty() && call.accepted < waiting_.back().accepted) {
    place = waiting_.begin();
    while (place->accepted <= call.accepted) ++place;
  }
  waiting_.insert(place, call);
}

void CallQueue::observe_service(Duration ran) {
  const auto sample = static_cast<double>(std::max<Duration::rep>(ran.count(), 1));
  service_ns_ = service_ns_ == 0 ? sample : service_ns_ + (sample - service_ns_) / 16;
}

Priority CallQueue::rank_of(const Lane& lane) {
  for (int i = 0; i < 3; ++i) {
    if (lane.by_priority[i] > 0) return static_cast<Priority>(i);
  }
  return Priority::kLow;
}

void CallQueue::rerank(Lane& lane) {
  if (lane.waiting.empty()) return;
  Call& head = lane.waiting.front();
  const Priority rank = rank_of(lane);
  const bool ahead = lane.nested > 0;
  if (!head.in<Call::Head>() || (head.rank == rank && head.ahead == ahead)) return;
  RunQueue* queue = head.queue;
  if (queue) queue->remove(head);
  head.rank = rank;
  head.ahead = ahead;
  if (queue) queue->insert(head);
}

void CallQueue::count_in(Lane& lane, const Call& call) {
  ++lane.by_priority[static_cast<int>(call.priority)];
  if (call.nested()) ++lane.nested;
}

void CallQueue::append(Lane& lane, Call& call) {
  lane.waiting.push_back(call);
  count_in(lane, call);
  rerank(lane);
}

void CallQueue::put_back(Lane& lane, Call& call) {
  CHECK(lane.waiting.empty() || !lane.waiting.front().in<Call::Head>());
  lane.waiting.push_front(call);
  count_in(lane, call);
}

void CallQueue::insert(Lane& lane, Call& call) {
  auto place = lane.waiting.end();
  while (std::prev(place)->id > call.id) --place;
  lane.waiting.insert(place, call);
  count_in(lane, call);
  rerank(lane);
}

void CallQueue::remove(Lane& lane, Call& call) {
  dequeue(call);
  call.state = Call::InLane{};
  lane.waiting.erase(lane.waiting.iterator_to(call));
  --lane.by_priority[static_cast<int>(call.priority)];
  if (call.nested()) --lane.nested;
  rerank(lane);
}

void CallQueue::make_head(Call& call, const Lane* lane, Time now) {
  call.state = Call::Head{};
  call.ahead = lane ? lane->nested > 0 : call.nested();
  call.rank = lane ? rank_of(*lane) : call.priority;
  if (call.stamp == 0) {
    call.stamp = ++stamps_;
    call.head_since = now;
  }
}

}  // namespace keelback::core
