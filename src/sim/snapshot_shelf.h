// The model's store of session snapshots: what the workers have sent, until the core says what is
// to be done with it (parked), and what is stored. It is free for the next thing when the one
// before is done.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/time.h"
#include "core/action.h"
#include "core/event.h"
#include "sim/model.h"

namespace keelback::sim {

class SnapshotShelf {
 public:
  void park(std::uint64_t birth, const SessionState& state) {
    parked_.insert_or_assign(birth, state);
  }
  void unpark(std::uint64_t birth) { parked_.erase(birth); }
  const SessionState& parked(std::uint64_t birth) const {
    const auto found = parked_.find(birth);
    CHECK(found != parked_.end());
    return found->second;
  }

  // When something that takes `duration` and is asked for now will be done.
  Time done_at(Time now, Duration duration) {
    free_at_ = std::max(free_at_, now) + duration;
    return free_at_;
  }
  // The answer to a KeepSnapshot, which `failed` or not.
  core::SnapshotSettled keep(const core::KeepSnapshot& keep, const SessionState& state,
                             bool failed) {
    if (failed) {
      drop(keep.birth);
    } else {
      stored_.insert_or_assign(keep.birth, Stored{keep.number, state});
    }
    return {.worker = keep.call ? WorkerId{} : keep.worker,
            .call = keep.call,
            .session = keep.session,
            .birth = keep.birth,
            .number = keep.number,
            .kept = !failed,
            .failed = failed};
  }
  void drop(std::uint64_t birth) { stored_.erase(birth); }
  // What the session is restored from. Never a snapshot that is not the very last one.
  const SessionState& restored(const core::SessionTicket& ticket) const {
    const auto found = stored_.find(ticket.birth);
    CHECK(found != stored_.end() && found->second.number == ticket.restore);
    return found->second.state;
  }
  std::size_t size() const { return stored_.size(); }

 private:
  struct Stored {
    std::uint64_t number = 0;
    SessionState state;
  };
  std::unordered_map<std::uint64_t, Stored> stored_;        // by birth; looked up, never iterated
  std::unordered_map<std::uint64_t, SessionState> parked_;  // by birth; likewise
  Time free_at_{};
};

}  // namespace keelback::sim
