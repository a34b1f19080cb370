// How a call that has outlived its deadline is ended: cancel, interrupt, dump, kill, and in the end
// the worker is given up. The whole ladder is calls.grace long, so its last rung is the latest
// moment at which the caller hears.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace keelback::core {

enum class Rung : std::uint8_t { kNone, kCancel, kInterrupt, kDump, kKill, kGiveUp };

// The rung after `rung`; kGiveUp is the last.
Rung next_rung(Rung rung);
// When `rung` is climbed: at the deadline, then after 25, 60, 75 and 100 % of the grace.
Time rung_due(Rung rung, Time deadline, Duration grace);
// The same, but not at once after the rung before, which was climbed at `climbed`. A pool that has
// stood still (its process was stopped, its machine slept) finds that all rungs are due: it must
// hear what the worker has said meanwhile before it kills it.
Time paced_rung_due(Rung rung, Time deadline, Duration grace, Time climbed);
// What is left of the grace when the kill is sent: how long a killed process has to be gone.
Duration exit_allowance(Duration grace);

}  // namespace keelback::core
