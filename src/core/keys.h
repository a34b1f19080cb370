// Idempotency keys: who leads, who joins, who gets a copy, and when a key is free again.
//
// Owns: the table of keys.
// Asks: Calls for records; Waiting for the queue.
#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"
#include "core/call.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/frame.h"
#include "core/function_table.h"
#include "core/idempotency.h"

namespace keelback::core {

class Calls;
class Waiting;

class Keys {
 public:
  Keys(Frame& frame, Calls& calls, Waiting& waiting, std::uint64_t seed)
      : frame_(frame), calls_(calls), waiting_(waiting), table_(seed) {}
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  // False: the key has taken the call over, or `refusal` says why not.
  bool check(const CallSubmitted& event, Function& function, std::optional<Ending>& refusal);
  // The call has come in, and is the first of its key, if it has one.
  void lead(const CallSubmitted& event, Call& call);
  // A leader that nothing was done for leaves: its first follower takes over, and stands in the
  // lane where it would stand without the key. Returns that one; it is neither head nor placed yet.
  // Requires: the leader waits.
  Call* hand_on(Call& leader);
  // A follower gives up on its own. What it waited for may have run.
  void leave(Call& follower);
  // The leader's outcome is out.
  void settle(IdempotencyEntry& entry, OutcomeKind kind, Effect effect, std::uint64_t bytes);
  // Answers over their time, or over the table's bounds.
  void forget_outcomes();
  // The last answer of a session that an earlier run has left.
  void adopt(const FoundSession& found);
  std::optional<Time> next_deadline() const {
    return table_.next_deadline(frame_.settings.calls.idempotency_ttl);
  }

 private:
  bool off() const { return frame_.settings.calls.idempotency_ttl <= Duration{0}; }
  void join(const CallSubmitted& event, Function& function, IdempotencyEntry& entry);
  void replay(Call& follower, CallId of, OutcomeKind kind, Effect effect);

  Frame& frame_;
  Calls& calls_;
  Waiting& waiting_;
  Idempotency table_;
};

}  // namespace keelback::core
