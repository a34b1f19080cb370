// Faults that hit one of many calls in a worker: the laboratory sends neighbours and, with them,
// the call that misbehaves, all to the target. Each goes to a session of its own that lives there,
// so that they run beside each other whatever else the pool does. Before them it opens sessions, so
// that each worker has some.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chaos/fault.h"

namespace keelback::chaos {

class OneOfMany : public OwnCalls {
 protected:
  void decide(const Seen& seen, Duration at) override;
  bool strikes(const CallEvent& call) const override;  // none of the neighbours does
  // What has been seen, once all of its calls have ended; nullopt: no proof, or none yet.
  virtual std::optional<std::string> shown() const = 0;

  using Calls = std::vector<const CallEvent*>;
  // Its calls of this word that the target had.
  Calls of(std::string_view word) const;
  // The one that misbehaves, if it ended so; null: it did not.
  const CallEvent* culprit(std::string_view word, OutcomeKind kind) const;
  Calls neighbours() const;
  // How many of the neighbours ended ok after `when`.
  std::size_t well_after(Duration when) const;
  bool target_gone() const;
};

// What is the same in all classes of these faults. Its parameters `beside` and `take` are those of
// the neighbours.
FaultClass one_of_many(FaultClass made, std::string_view take);
// The sessions and the neighbours.
void plan_neighbours(CallPlan& plan);
// The first or the second call that misbehaves.
PlannedCall beside(const CallPlan& plan, std::string_view word, std::string payload,
                   std::uint32_t which = 0);
// One with the parameter `milliseconds` as its argument and with the parameter `deadline`.
void plan_late(CallPlan& plan, std::string_view word, std::string_view milliseconds,
               std::uint32_t which = 0);

}  // namespace keelback::chaos
