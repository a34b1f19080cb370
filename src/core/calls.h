// The calls in flight, from their acceptance to their outcome: their records, how long each may
// take, and how it ends for its caller.
//
// Owns: the records, the functions that they call, what they carry beside their payloads.
// Asks: Keys who else gets the outcome of a call with an idempotency key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/action.h"
#include "core/call.h"
#include "core/carried_bytes.h"
#include "core/ending.h"
#include "core/event.h"
#include "core/family.h"
#include "core/frame.h"
#include "core/function_table.h"
#include "core/id_index.h"
#include "core/slab.h"

namespace keelback::core {

class Keys;

class Calls {
 public:
  Calls(Frame& frame, Keys& keys, std::uint64_t seed)
      : frame_(frame), keys_(keys), functions_(seed), batch_seed_(seed) {}
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  // Frees all records, before the pool goes.
  void clear();

  // ---- records
  // Accepted: it waits, in no lane and no queue yet.
  Call& make(const CallSubmitted& event, Function& function);
  // It is over; its outcome is out.
  void discard(Call& call);
  Call* find(CallId id) const { return index_.find(id.value); }
  // The call, if it is still there and waits for a worker: not running, not joined to another.
  Call* find_waiting(CallId id) const;
  // In id order. Ids, because ending one call may end others.
  std::vector<CallId> in_order() const;
  const Family& family() const { return family_; }
  // The parent's attempt is over: its children, which are its no more.
  std::vector<CallId> orphan(const Call& parent);
  bool empty() const { return index_.empty(); }
  std::size_t size() const { return index_.size(); }
  template <class Visit>
  void each(Visit visit) const {
    index_.each(visit);
  }
  FunctionTable& functions() { return functions_; }
  const FunctionTable& functions() const { return functions_; }
  const CarriedBytes& carried() const { return carried_; }

  // ---- time
  Duration time_limit(const Function& function, Duration caller_limit) const;
  void set_deadline(Call& call);

  // ---- ends
  // The caller's last word, and the record goes. The call is in no lane, queue or worker any more.
  // reply_bytes: of the result that the driver holds.
  void resolve(Call& call, Ending&& ending, std::uint64_t reply_bytes = 0);
  // The caller hears now, and the call runs on.
  void tell(Call& call, Ending&& ending);
  // Its function's breaker hears of a shared call's timeout later than its caller: only then it is
  // known whether another call blocked the loop. Requires: it runs. Once; then nothing happens.
  void judge(Call& call) {
    if (call.undecided) decide(call);
  }
  Ending timeout_ending(const Call& call, Effect effect) const;
  Ending reply_ending(const Call& call, Call::Reply reply, bool late) const;

 private:
  void decide(Call& call);
  // Counts how the call ends for its caller, and says so.
  Resolve report(Call& call, Ending&& ending);

  Frame& frame_;
  Keys& keys_;
  Slab<Call> slab_;
  IdIndex<Call> index_;
  Family family_;
  CarriedBytes carried_;
  FunctionTable functions_;
  const std::uint64_t batch_seed_;  // of Call::batch_print
};

}  // namespace keelback::core
