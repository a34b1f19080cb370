#include "core/idempotency.h"

#include "base/check.h"

namespace keelback::core {

Idempotency::~Idempotency() {
  while (!in_flight_.empty()) {
    in_flight_.front().followers.clear();
    drop(in_flight_.front());
  }
  while (!ended_.empty()) drop(ended_.front());
}

IdempotencyEntry* Idempotency::find(Time now, std::string_view key, Duration ttl) const {
  IdempotencyEntry* entry = index_.find(key);
  return entry && entry->ended && now - entry->ended_at >= ttl ? nullptr : entry;
}

IdempotencyEntry& Idempotency::lead(std::string_view key, std::uint64_t fingerprint,
                                    CallId leader) {
  IdempotencyEntry& entry = *slab_.make();
  entry.key = key;
  entry.fingerprint = fingerprint;
  entry.leader = leader;
  index_.insert(entry);
  in_flight_.push_back(entry);
  return entry;
}

void Idempotency::keep(IdempotencyEntry& entry, Time now, OutcomeKind kind, Effect effect,
                       std::uint64_t bytes) {
  CHECK(!entry.ended && entry.followers.empty());
  entry.ended = true;
  entry.kind = kind;
  entry.effect = effect;
  entry.bytes = bytes;
  entry.ended_at = now;
  bytes_ += bytes;
  in_flight_.erase(in_flight_.iterator_to(entry));
  ended_.push_back(entry);
}

void Idempotency::drop(IdempotencyEntry& entry) {
  CHECK(entry.followers.empty());
  if (entry.ended) {
    bytes_ -= entry.bytes;
    ended_.erase(ended_.iterator_to(entry));
  } else {
    in_flight_.erase(in_flight_.iterator_to(entry));
  }
  index_.erase(entry);
  slab_.free(&entry);
}

IdempotencyEntry* Idempotency::to_forget(Time now, Duration ttl) {
  if (ended_.empty()) return nullptr;
  IdempotencyEntry& oldest = ended_.front();
  const bool over = now - oldest.ended_at >= ttl;
  return over || index_.size() > kEntriesMax || bytes_ > kBytesMax ? &oldest : nullptr;
}

std::optional<Time> Idempotency::next_deadline(Duration ttl) const {
  if (ended_.empty()) return std::nullopt;
  return ended_.front().ended_at + ttl;
}

}  // namespace keelback::core
