// Proof that the kernel's memory killer, and nobody else, ended a worker: its counter in our cgroup
// moved, and each kill that it counts proves one death. Without the counter there is no proof, only
// suspicion.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace keelback::host {

class OomWitness {
 public:
  // From time to time, so that kills of others are not held against a worker that dies later. What
  // the latest look was the first to see still proves: the kernel counts a kill some time before
  // its victim is gone.
  void look(std::optional<std::uint64_t> kills) {
    seen_ = kills && seen_ && latest_ ? std::max(*seen_, *latest_) : kills;
    latest_ = kills;
  }
  // A worker ended by a SIGKILL that is not ours.
  bool proves(std::optional<std::uint64_t> kills) {
    if (!kills || !seen_ || *kills <= *seen_) return false;
    ++*seen_;
    return true;
  }

 private:
  std::optional<std::uint64_t> seen_;    // proved, or too long ago
  std::optional<std::uint64_t> latest_;  // at the latest look
};

}  // namespace keelback::host
