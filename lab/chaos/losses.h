// Every call that was lost is explained by a fault, or it is a bug. A call is explained by a fault
// if the fault was about while the call was, the fault's target lies on the call's path, and the
// outcome is one that the fault may cost.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/id.h"
#include "chaos/checkers.h"

namespace keelback::chaos {

enum class Explanation : std::uint8_t {
  kPrimary,    // the target is on the call's path
  kSecondary,  // capacity was missing because of it
  kUnexplained,
};

struct Loss {
  std::uint64_t call = 0;  // index
  Explanation how = Explanation::kUnexplained;
  std::string fault;  // that explains it
  // A session is told once that it was lost, at its next call. If this call comes in the recovery
  // phase, it is a cost of the fault, not a failure of the service.
  bool late_word = false;
};

struct Losses {
  std::vector<Loss> all;
  std::uint64_t primary = 0, secondary = 0, unexplained = 0;
  // Of each fault: how many losses it explains, and the most that arithmetic allows it: calls in it
  // at its bite, calls of its sessions until capacity is back, calls that waited meanwhile.
  struct Account {
    std::uint64_t observed = 0;
    std::uint64_t bound = 0;
  };
  std::map<std::string, Account> by_fault;
  std::set<std::uint64_t> late_words;  // indexes of calls
};

// The stretch of time in which a fault may explain losses; longer for those that its consequences
// cost: a queue that had filled meanwhile, a breaker that had opened, a full table of sessions.
struct Window {
  Duration from{0}, to{0};
  Duration backlog_to{0};  // timeout, overloaded, not_ready, session_busy
  Duration breaker_to{0};  // circuit_open
  Duration full_to{0};     // session_limit

  Duration end_for(OutcomeKind kind) const;
};
// A machine or a pool that is too small for the load costs these without any fault.
bool for_want_of_capacity(OutcomeKind kind);
Window window_of(const FaultEvent& fault, const CheckInput& input);

// How many calls waited in the baseline, at its 95th percentile.
std::uint32_t usual_queue(const CheckInput& input);

// Looks at the load, the probes and the verification calls; a fault's own calls are its tools.
Losses explain(const CheckInput& input);

}  // namespace keelback::chaos
