// Numbers about a run that no verdict depends on: which calls were lost in which phase, what
// sessions on other workers lost, and what the pool spent. recovery.h has the ladder, the depth and
// the area.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "chaos/checkers.h"
#include "chaos/crowds.h"
#include "chaos/losses.h"
#include "chaos/recovery.h"

namespace keelback::chaos {

// Two groups within one pool: sessions whose home no fault touched (control) and the others.
struct Collateral {
  std::uint64_t control_offered = 0, control_lost = 0;
  std::uint64_t exposed_offered = 0, exposed_lost = 0;
  // Loss per call in the control group over that in the exposed one; nullopt: nothing was lost in
  // the exposed group, or one of the groups is empty.
  std::optional<double> ratio() const;
};

struct Metrics {
  // Fault ("" : unexplained) -> phase ("baseline", "during", "after", "end") -> outcome -> count.
  std::map<std::string, std::map<std::string, std::map<std::string, std::uint64_t>>> errors;
  Collateral collateral;
  double attempts_per_call = 0;        // of calls that were dispatched at all
  std::uint64_t wasted_effects = 0;    // bodies that ran for calls whose caller got no ok
  std::uint64_t false_detections = 0;  // workers suspect or gone before any fault
  std::uint32_t flaps = 0;             // how often the service fell again after it was back
  Duration widest_window{0};           // the longest stretch in which one fault may explain a loss
  std::vector<Crowd> crowds;           // calls at once in each worker
};
Metrics make_metrics(const CheckInput& input, const Losses& losses, const PhaseStats& baseline);

}  // namespace keelback::chaos
