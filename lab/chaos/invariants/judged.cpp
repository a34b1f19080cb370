// Invariants that take the whole run to decide: the judge does, after it has weighed the losses and
// the recovery (chaos/judge.cpp).
#include "chaos/checkers.h"

namespace keelback::chaos {

namespace invariants_in {
std::vector<Invariant> judged();
}

std::vector<Invariant> invariants_in::judged() {
  return {{.name = "service-back",
           .alias = "I13",
           .sentence = "service is back at the run's own baseline",
           .verdict = Verdict::kLiveness},
          {.name = "explained-losses",
           .alias = "I22",
           .sentence = "every lost call is explained by a fault"}};
}

}  // namespace keelback::chaos
