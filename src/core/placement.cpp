#include "core/placement.h"

namespace keelback::core {
namespace {

using namespace std::chrono_literals;
// A worker may hold so many sessions more than the one with the fewest before it lets go first.
constexpr std::size_t kShareSlack = 1;
// A new session waits for a better balanced worker no longer than this.
constexpr Duration kPatience = 50ms;

// From a home that is being killed nothing moves: its sessions are about to be lost.
bool may_move(const Call& head, const Worker* home) {
  return head.session->mode == Affinity::kHint && !head.traits.fenced && home && !home->killed();
}

}  // namespace

void Placement::admit(Worker& worker) {
  if (!worker.load_hook.is_linked()) by_load_.insert(worker);
}

void Placement::withdraw(Worker& worker) {
  set_busy(worker);
  if (worker.load_hook.is_linked()) by_load_.erase(by_load_.iterator_to(worker));
}

void Placement::before_change(Worker& worker) {
  was_idle_ = worker.idle_hook.is_linked();
  was_loaded_ = worker.load_hook.is_linked();
  if (was_idle_) idle_.erase(idle_.iterator_to(worker));
  if (was_loaded_) by_load_.erase(by_load_.iterator_to(worker));
}

void Placement::after_change(Worker& worker) {
  if (was_idle_) idle_.insert(worker);
  if (was_loaded_) by_load_.insert(worker);
}

void Placement::set_idle(Worker& worker) {
  if (worker.idle_hook.is_linked()) return;
  worker.idle_since = ++idle_count_;
  idle_.insert(worker);
}

void Placement::set_busy(Worker& worker) {
  if (worker.idle_hook.is_linked()) idle_.erase(idle_.iterator_to(worker));
}

Worker* Placement::waits_for(const Call& head) {
  const Session* session = head.session;
  if (!session || !session->home) return nullptr;
  Worker* home = session->home->owner;
  return may_move(head, home) ? nullptr : home;
}

Worker* Placement::choose(const Call& head) const {
  const Session* session = head.session;
  if (session && session->home) {
    Worker* home = session->home->owner;
    if (home && home->free()) return home;
    if (!may_move(head, home)) return nullptr;
  }
  return first_idle();
}

bool Placement::over_share(const Worker& worker) const {
  return !by_load_.empty() && worker.sessions() > by_load_.begin()->sessions() + kShareSlack;
}

Call* Placement::pick(Worker& worker, RunQueue& shared, Time now) const {
  Call* own = worker.queue.top();
  if (!worker.ready()) return own;  // a draining one serves only its own
  Call* common = shared.top();
  if (!own || !common) return own ? own : common;
  const bool opens = common->session && !common->session->home;
  if (opens && common->rank >= own->rank && over_share(worker) &&
      now - common->head_since < kPatience) {
    return own;
  }
  return HeadOrder{}(*own, *common) ? own : common;
}

}  // namespace keelback::core
