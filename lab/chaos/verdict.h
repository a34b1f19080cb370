// What a run comes to.
#pragma once

#include <cstdint>
#include <string_view>

namespace keelback::chaos {

enum class Verdict : std::uint8_t {
  kPass,
  kSafety,        // an invariant is broken
  kLiveness,      // it did not come back, or too late
  kBudget,        // success during the faults is below the scenario's budget
  kInvalid,       // a fault did not bite, or the baseline is none: nothing was tested
  kAborted,       // a stop condition ended the run
  kResidue,       // a fault is still in place
  kInconclusive,  // a checker could not decide
  kSkipped,       // this backend cannot inject the scenario's faults
};
std::string_view to_string(Verdict verdict);  // "PASS", "SAFETY", …

}  // namespace keelback::chaos
