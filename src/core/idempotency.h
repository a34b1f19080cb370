// Idempotency keys: the same key and request give the same answer for calls.idempotency_ttl. While
// the first call of a key is in flight, later ones join it; once it has ended with an effect, they
// get a copy. A first call that ended without any effect leaves its key free for another try.
//
// The table decides and counts; the driver holds the outcomes themselves. Bounded by kEntriesMax
// keys and kBytesMax of retained results: the oldest finished one goes first.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/id.h"
#include "base/time.h"
#include "core/call.h"
#include "core/name_index.h"
#include "core/slab.h"
#include "keelback/outcome.h"

namespace keelback::core {

struct IdempotencyEntry {
  std::string key;
  std::uint64_t fingerprint = 0;
  CallId leader;        // whose outcome is, or will be, the answer
  bool ended = false;   // the answer is retained
  bool shared = false;  // ended without effect, but followers were there to get a copy
  OutcomeKind kind = OutcomeKind::kOk;
  Effect effect = Effect::kNone;
  std::uint64_t bytes = 0;
  Time ended_at;
  CallList followers;  // while not ended
  boost::intrusive::list_member_hook<> hook;

  std::string_view name() const { return key; }
};

class Idempotency {
 public:
  static constexpr std::size_t kEntriesMax = 10'000;
  static constexpr std::uint64_t kBytesMax = 64ULL << 20;

  explicit Idempotency(std::uint64_t seed) : index_(seed) {}
  ~Idempotency();
  Idempotency(const Idempotency&) = delete;
  Idempotency& operator=(const Idempotency&) = delete;

  // What is known of the key; an answer over its ttl is not.
  IdempotencyEntry* find(Time now, std::string_view key, Duration ttl) const;
  // A call with a new key is accepted. Requires: !find(key) and !full().
  IdempotencyEntry& lead(std::string_view key, std::uint64_t fingerprint, CallId leader);
  // Every entry is of a call in flight, so none can make room.
  bool full() const { return index_.size() >= kEntriesMax && ended_.empty(); }
  // The leader has ended with an effect: its answer is kept. Requires: no followers left.
  void keep(IdempotencyEntry& entry, Time now, OutcomeKind kind, Effect effect,
            std::uint64_t bytes);
  // The key is free again. Requires: no followers left.
  void drop(IdempotencyEntry& entry);

  // An answer that must go now: over its ttl, or the oldest while the table is over a bound. Tell
  // the driver to forget it, then drop() it.
  IdempotencyEntry* to_forget(Time now, Duration ttl);
  std::optional<Time> next_deadline(Duration ttl) const;
  std::size_t size() const { return index_.size(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  NameIndex<IdempotencyEntry> index_;
  boost::intrusive::list<
      IdempotencyEntry,
      boost::intrusive::member_hook<IdempotencyEntry, boost::intrusive::list_member_hook<>,
                                    &IdempotencyEntry::hook>>
      ended_;  // oldest first
  boost::intrusive::list<
      IdempotencyEntry,
      boost::intrusive::member_hook<IdempotencyEntry, boost::intrusive::list_member_hook<>,
                                    &IdempotencyEntry::hook>>
      in_flight_;
  std::uint64_t bytes_ = 0;
  Slab<IdempotencyEntry> slab_;
};

}  // namespace keelback::core
