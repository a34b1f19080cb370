#include "core/placement.h"

#include <algorithm>

#include "core/function_table.h"

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

// The first head that the worker could run now.
Call* next_of(const RunQueue& queue, const Worker& worker) {
  Call* shared = queue.top_shared([&](const Call& head) { return worker.fits(head); });
  return worker.running.empty() ? earlier(queue.top_alone(), shared) : shared;
}

bool opens_session(const Call& head) { return head.session && !head.session->home; }

// What runs alone and waits until the worker is empty goes before this head. Not if a nested call
// waits for that: its parent may run in this worker, which would never be empty then.
bool held_back(const Worker& worker, const Call& head, const RunQueue& common) {
  if (worker.running.empty() || head.ahead) return false;
  const Call* first =
      earlier(worker.queue.top_alone(), worker.emptied ? common.top_alone() : nullptr);
  return first && HeadOrder{}(*first, head);
}

}  // namespace

void Placement::admit(Worker& worker) {
  if (!worker.load_hook.is_linked()) by_load_.insert(worker);
}

void Placement::withdraw(Worker& worker) {
  set_busy(worker);
  set_not_sharing(worker);
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
  if (packing_) idle_by_slot_.insert(worker);
}

void Placement::set_busy(Worker& worker) {
  if (worker.idle_hook.is_linked()) idle_.erase(idle_.iterator_to(worker));
  if (worker.slot_hook.is_linked()) idle_by_slot_.erase(idle_by_slot_.iterator_to(worker));
}

void Placement::set_packing(bool packing) {
  if (packing_ == packing) return;
  packing_ = packing;
  idle_by_slot_.clear();
  if (!packing) return;
  for (Worker& worker : idle_) idle_by_slot_.insert(worker);
}

void Placement::set_sharing(Worker& worker) {
  if (!worker.sharing_hook.is_linked()) sharing_.push_back(worker);
}

void Placement::set_not_sharing(Worker& worker) {
  worker.emptied = false;
  if (worker.sharing_hook.is_linked()) sharing_.erase(sharing_.iterator_to(worker));
}

Worker* Placement::empty(std::size_t workers) {
  if (sharing_.empty()) return nullptr;
  std::size_t emptied = 0;
  Worker* most = nullptr;  // calls in one that is emptied
  for (Worker& worker : sharing_) {
    if (!worker.emptied) continue;
    ++emptied;
    if (!most || worker.running.size() > most->running.size()) most = &worker;
  }
  if (emptied > workers) {
    most->emptied = false;
    return most;
  }
  for (; emptied < workers; ++emptied) {
    Worker* fewest = nullptr;
    for (Worker& worker : sharing_) {
      if (worker.emptied || (fewest && worker.running.size() >= fewest->running.size())) continue;
      fewest = &worker;
    }
    if (!fewest) break;
    fewest->emptied = true;
  }
  return nullptr;
}

Worker* Placement::waits_for(const Call& head) {
  const Session* session = head.session;
  if (!session || !session->home) return nullptr;
  Worker* home = session->home->owner;
  return may_move(head, home) ? nullptr : home;
}

Worker* Placement::choose(const Call& head, const RunQueue& common) const {
  const Session* session = head.session;
  if (session && session->home) {
    Worker* home = session->home->owner;
    if (home && home->takes(head) && !held_back(*home, head, common)) return home;
    if (!may_move(head, home)) return nullptr;
  }
  if (packing_ && !session) return lowest(head, common);
  if (Worker* idle = first_idle(); idle && idle->takes(head)) return idle;
  return head.alone ? nullptr : roomiest(head, common);
}

Worker* Placement::lowest(const Call& head, const RunQueue& common) const {
  const Worker* found = nullptr;
  if (!idle_by_slot_.empty() && idle_by_slot_.begin()->takes(head)) {
    found = &*idle_by_slot_.begin();
  }
  if (head.alone) return const_cast<Worker*>(found);
  for (const Worker& worker : sharing_) {
    if (found && found->id < worker.id) continue;
    if (worker.takes(head) && !held_back(worker, head, common)) found = &worker;
  }
  return const_cast<Worker*>(found);
}

Worker* Placement::roomiest(const Call& head, const RunQueue& common) const {
  const Worker* found = nullptr;
  std::size_t most = 0;
  for (const Worker& worker : sharing_) {
    const std::size_t room =
        worker.capacity - std::min<std::size_t>(worker.running.size(), worker.capacity);
    if (room <= most || !worker.takes(head) || held_back(worker, head, common)) continue;
    found = &worker;
    most = room;
  }
  return const_cast<Worker*>(found);
}

bool Placement::over_share(const Worker& worker) const {
  return !by_load_.empty() && worker.sessions() > by_load_.begin()->sessions() + kShareSlack;
}

Call* Placement::pick(const Worker& worker, const RunQueue& common, Time now) const {
  if (worker.taken()) return nullptr;
  const auto next = [&](const RunQueue& queue) {
    Call* head = next_of(queue, worker);
    return head && !held_back(worker, *head, common) ? head : nullptr;
  };
  Call* own = next(worker.queue);
  Call* other = worker.draining() ? nullptr : next(common);  // a draining one serves only its own
  const bool opens = own && other && opens_session(*other);
  const bool leaves = opens && other->rank >= own->rank && over_share(worker) &&
                      now - other->head_since < kPatience;
  if (!leaves) return earlier(own, other);
  // It leaves new sessions to the others; whoever else came before its own call goes first.
  Call* before = common.first_before(*own, [&](const Call& head) {
    if (opens_session(head)) return false;
    return head.alone ? worker.running.empty() : worker.fits(head);
  });
  return before && !held_back(worker, *before, common) ? before : own;
}

}  // namespace keelback::core
