// Idempotency keys: who leads, who joins, who gets a copy, and when a key is free again.
#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "core/pool_impl.h"

namespace keelback::core {

bool Pool::Impl::check_key(const CallSubmitted& event, Function& function,
                           std::optional<Refusal>& refusal) {
  if (event.idempotency_key.empty() || frame_.settings.calls.idempotency_ttl <= Duration{0})
    return true;
  using enum OutcomeKind;
  if (event.stream) {
    refusal =
        Refusal{kBadRequest, "A stream cannot be replayed; it takes no idempotency key.", {}, {}};
    return false;
  }
  IdempotencyEntry* entry =
      idempotency_.find(frame_.now, event.idempotency_key, frame_.settings.calls.idempotency_ttl);
  if (!entry) {
    if (!idempotency_.full()) return true;
    refusal = Refusal{kOverloaded,
                      "Too many calls with idempotency keys are in flight.",
                      queue_.retry_after(workers_.up()),
                      {}};
    return false;
  }
  if (entry->fingerprint != event.fingerprint) {
    refusal = Refusal{kBadRequest,
                      fmt::format("Idempotency key \"{}\" was used for another request; use a new "
                                  "key.",
                                  event.idempotency_key),
                      {},
                      {},
                      true};
  } else if (entry->ended) {
    ++frame_.counters.outcomes[static_cast<int>(entry->kind)];
    frame_.emit(ReplayOutcome{event.call, entry->leader, entry->kind, entry->effect});
  } else if (queue_.full()) {
    refusal = Refusal{kOverloaded,
                      fmt::format("{} calls are waiting (pool.queue_max).", queue_.waiting()),
                      queue_.retry_after(workers_.up()),
                      {}};
  } else {
    join(event, function, *entry);
  }
  return false;
}

void Pool::Impl::join(const CallSubmitted& event, Function& function, IdempotencyEntry& entry) {
  Call& call = make_call(event, function);
  call.state = CallState::kJoined;
  call.key = &entry;
  entry.followers.push_back(call);
  if (call.deadline <= frame_.now) return end_waiting(call, timeout_ending(call, Effect::kNone));
  frame_.timers.arm(call, call.deadline);
}

// A follower gives up on its own. What it waited for may have run.
void Pool::Impl::leave_key(Call& follower) {
  IdempotencyEntry& entry = *std::exchange(follower.key, nullptr);
  entry.followers.erase(entry.followers.iterator_to(follower));
  const Call* leader = calls_.find(entry.leader.value);
  if (leader && leader->attempts > 0) follower.touched = true;
}

// A leader that nothing was done for leaves: its first follower takes its place, at the end of the
// lane. Returns that one; it is neither head nor placed yet. Requires: the leader waits.
Call* Pool::Impl::hand_key_on(Call& leader) {
  if (!leader.key || leader.touched || leader.key->followers.empty()) return nullptr;
  IdempotencyEntry& entry = *std::exchange(leader.key, nullptr);
  Call& heir = entry.followers.front();
  entry.followers.pop_front();
  entry.leader = heir.id;
  heir.state = CallState::kWaiting;
  heir.fenced = leader.fenced;
  heir.session = leader.session;
  heir.birth = leader.birth;
  heir.epoch = leader.epoch;
  if (heir.session) queue_.append(*heir.session->lane, heir);
  return &heir;
}

// The leader's outcome is out. With an effect it is the key's answer from now on; without one the
// key is free, and those who joined share what happened.
void Pool::Impl::settle_key(IdempotencyEntry& entry, OutcomeKind kind, Effect effect) {
  while (!entry.followers.empty()) replay(entry.followers.front(), entry.leader, kind, effect);
  if (effect != Effect::kNone) {
    idempotency_.keep(entry, frame_.now, kind, effect, reply_bytes_);
    return forget_outcomes();
  }
  if (entry.shared) frame_.emit(ForgetOutcome{entry.leader});
  idempotency_.drop(entry);
}

void Pool::Impl::replay(Call& follower, CallId of, OutcomeKind kind, Effect effect) {
  IdempotencyEntry& entry = *std::exchange(follower.key, nullptr);
  entry.followers.erase(entry.followers.iterator_to(follower));
  queue_.count_out(follower);
  frame_.timers.disarm(follower);
  ++frame_.counters.outcomes[static_cast<int>(kind)];
  frame_.emit(ReplayOutcome{follower.id, of, kind, effect});
  discard(follower);
}

void Pool::Impl::forget_outcomes() {
  while (IdempotencyEntry* entry =
             idempotency_.to_forget(frame_.now, frame_.settings.calls.idempotency_ttl)) {
    frame_.emit(ForgetOutcome{entry->leader});
    idempotency_.drop(*entry);
  }
}

}  // namespace keelback::core
