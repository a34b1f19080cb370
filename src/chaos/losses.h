// Every call that was lost is explained by a fault, or it is a bug. A call is explained by a fault
// if the fault was about while the call was, the fault's target lies on the call's path, and the
// outcome is one that the fault may cost.
#pragma once

#include <cstdint>
#include <map>
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
};

// The stretch of time in which a fault may explain losses.
struct Window {
  Duration from{0}, to{0};
};
Window window_of(const FaultEvent& fault, const CheckInput& input);

// Looks at the load, the probes and the verification calls; a fault's own calls are its tools.
Losses explain(const CheckInput& input);

}  // namespace keelback::chaos
