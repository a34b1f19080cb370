// How a call that has outlived its deadline is ended: cancel, interrupt, dump, kill, and in the end
// the caller is told, if it has not heard yet. The whole ladder is calls.grace long. A call that
// ends by itself in the first half of the grace is only cancelled, never interrupted: it costs no
// worker.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace keelback::core {

enum class Rung : std::uint8_t { kNone, kCancel, kInterrupt, kDump, kKill, kGiveUp };

// The rung after `rung`; kGiveUp is the last.
Rung next_rung(Rung rung);
// When `rung` is climbed: at the deadline, then after 60, 80, 90 and 100 % of the grace.
Time rung_due(Rung rung, Time deadline, Duration grace);
// The same, but not at once after the rung before, which was climbed at `climbed`. A pool that has
// stood still (its process was stopped, its machine slept) finds that all rungs are due: it must
// hear what the worker has said meanwhile before it kills it.
Time paced_rung_due(Rung rung, Time deadline, Duration grace, Time climbed);

}  // namespace keelback::core
