// What a worker's marks say of the call it has, when it is dead, has answered, or is to stop:
// whether its user code may have run. The marks are memory that user code can scribble over; what
// they cannot truly say is read as "it may have".
#pragma once

#include <cstdint>

#include "base/id.h"

namespace keelback::host {

struct StartMarks {
  std::uint64_t started = 0;
  std::uint64_t ended = 0;
};

// `last_ok`: the worker's last call that was answered with a result, so had surely run; 0: none.
// The call it had not begun: its marks name an earlier call, which has ended, and no call before
// `last_ok`.
inline bool may_have_started(CallId running, std::uint64_t last_ok, StartMarks marks) {
  if (!running) return false;
  const bool of_an_earlier_one = marks.started < running.value && marks.started >= last_ok;
  return !of_an_earlier_one || marks.ended != marks.started;
}

}  // namespace keelback::host
