#include "core/keys.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "core/calls.h"
#include "core/waiting.h"

namespace keelback::core {

bool Keys::check(const CallSubmitted& event, Function& function, std::optional<Ending>& refusal) {
  if (event.idempotency_key.empty() || off()) return true;
  using enum OutcomeKind;
  if (event.stream) {
    refusal = Ending{kBadRequest, "A stream cannot be replayed; it takes no idempotency key."};
    return false;
  }
  IdempotencyEntry* entry =
      table_.find(frame_.now, event.idempotency_key, frame_.settings.calls.idempotency_ttl);
  if (!entry) {
    if (!table_.full()) return true;
    refusal = Ending{kOverloaded, "Too many calls with idempotency keys are in flight.",
                     waiting_.retry_after()};
    return false;
  }
  if (entry->fingerprint != event.fingerprint) {
    refusal = Ending{kBadRequest,
                     fmt::format("Idempotency key \"{}\" was used for another request; use a new "
                                 "key.",
                                 event.idempotency_key),
                     {},
                     {},
                     true};
  } else if (entry->ended) {
    ++frame_.counters.outcomes[static_cast<int>(entry->kind)];
    frame_.emit(ReplayOutcome{event.call, entry->leader, entry->kind, entry->effect});
  } else if (waiting_.queue().full()) {
    refusal =
        Ending{kOverloaded,
               fmt::format("{} calls are waiting (pool.queue_max).", waiting_.queue().waiting()),
               waiting_.retry_after()};
  } else {
    join(event, function, *entry);
  }
  return false;
}

void Keys::join(const CallSubmitted& event, Function& function, IdempotencyEntry& entry) {
  Call& call = calls_.make(event, function);
  waiting_.queue().count_in(call);
  call.state = Call::Joined{};
  call.key = &entry;
  entry.followers.push_back(call);
  if (call.deadline <= frame_.now) {
    return waiting_.end(call, calls_.timeout_ending(call, Effect::kNone));
  }
  frame_.timers.arm(call, call.deadline);
}

Call* Keys::hand_on(Call& leader) {
  if (!leader.key || leader.effect_min != Effect::kNone || leader.key->followers.empty())
    return nullptr;
  IdempotencyEntry& entry = *std::exchange(leader.key, nullptr);
  Call& heir = entry.followers.front();
  entry.followers.pop_front();
  entry.leader = heir.id;
  heir.state = Call::InLane{};
  heir.traits.fenced = leader.traits.fenced;
  heir.session = leader.session;
  heir.birth = leader.birth;
  heir.epoch = leader.epoch;
  if (heir.session) waiting_.queue().insert(*heir.session->lane, heir);
  return &heir;
}

// The leader's outcome is out. With an effect it is the key's answer from now on; without one the
// key is free, and those who joined share what happened.
void Keys::settle(IdempotencyEntry& entry, OutcomeKind kind, Effect effect, std::uint64_t bytes) {
  while (!entry.followers.empty()) replay(entry.followers.front(), entry.leader, kind, effect);
  if (effect != Effect::kNone) {
    table_.keep(entry, frame_.now, kind, effect, bytes);
    return forget_outcomes();
  }
  if (entry.shared) frame_.emit(ForgetOutcome{entry.leader});
  table_.drop(entry);
}

void Keys::replay(Call& follower, CallId of, OutcomeKind kind, Effect effect) {
  IdempotencyEntry& entry = *std::exchange(follower.key, nullptr);
  entry.followers.erase(entry.followers.iterator_to(follower));
  waiting_.queue().count_out(follower);
  frame_.timers.disarm(follower);
  ++frame_.counters.outcomes[static_cast<int>(kind)];
  frame_.emit(ReplayOutcome{follower.id, of, kind, effect});
  calls_.discard(follower);
}

void Keys::leave(Call& follower) {
  IdempotencyEntry& entry = *std::exchange(follower.key, nullptr);
  entry.followers.erase(entry.followers.iterator_to(follower));
  const Call* leader = calls_.find(entry.leader);
  if (leader && leader->attempts > 0) follower.effect_min = Effect::kMaybe;
}

void Keys::forget_outcomes() {
  while (IdempotencyEntry* entry =
             table_.to_forget(frame_.now, frame_.settings.calls.idempotency_ttl)) {
    frame_.emit(ForgetOutcome{entry->leader});
    table_.drop(*entry);
  }
}

void Keys::lead(const CallSubmitted& event, Call& call) {
  if (event.idempotency_key.empty() || off()) return;
  call.key = &table_.lead(event.idempotency_key, event.fingerprint, call.id);
}

void Keys::adopt(const FoundSession& found) {
  if (found.key.empty() || off() || table_.full() ||
      table_.find(frame_.now, found.key, Duration::max())) {
    if (found.answered) frame_.emit(ForgetOutcome{found.answered});
    return;
  }
  IdempotencyEntry& entry = table_.lead(found.key, found.fingerprint, found.answered);
  table_.keep(entry, frame_.now - found.idle, found.kind, Effect::kDone, found.answer_bytes);
}

}  // namespace keelback::core
