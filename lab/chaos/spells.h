// When calls ran, as far as their outcomes tell. A caller knows when its call was sent and when it
// heard of its end; the pool says how long the call waited and how long its last attempt ran. So
// each end of an attempt lies between two bounds, which are one on the simulator. Whoever judges by
// them accuses nobody for what may have been otherwise.
#pragma once

#include <optional>

#include "chaos/history.h"

namespace keelback::chaos {

// The last attempt of a call.
struct Spell {
  Duration begun_from{0}, begun_to{0};  // it began between these
  // Of an attempt that was answered: it certainly ran from begun_to to this, if that is later. An
  // attempt that was not may have ended long before its caller was told.
  Duration ran_to{0};
};
// nullopt: no worker was given the call, or it has not ended.
std::optional<Spell> last_spell(const CallEvent& call);
// Both certainly ran at one moment.
bool surely_together(const Spell& one, const Spell& other);

}  // namespace keelback::chaos
