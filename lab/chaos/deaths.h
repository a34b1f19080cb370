// How workers ended that ran calls, and what each of those calls was to it, by what callers heard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chaos/history.h"

namespace keelback::chaos {

struct WorkerDeath {
  WorkerRef worker;
  Duration at{0};  // when the first caller heard of it
  std::string cause;
  int signal = 0;  // of cause "signal"
  // Those of its calls whose callers heard of it, by role; alone: without one.
  std::vector<const CallEvent*> culprits, bystanders, suspects, alone;
};
// In the order of their times. The history must outlive them.
std::vector<WorkerDeath> deaths_of(const History& history);

// The call that a bystander was told is the culprit, by the pool's number; nullopt: it was told
// none.
std::optional<std::uint64_t> named_culprit(const CallEvent& bystander);
// The call that is known to be the cause: it says so itself, or its bystanders do. Null: none is.
const CallEvent* culprit_of(const WorkerDeath& death, const History& history);
// A suspect or a bystander: it ran beside others when its worker died, and is not known to be the
// cause.
bool is_innocent(const CallEvent& call);
// One of the laboratory's faults that are not calls hit this worker.
bool was_hit(const WorkerRef& worker, const History& history);

}  // namespace keelback::chaos
