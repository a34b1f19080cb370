#include "fakeworker/alone.h"

#include <poll.h>

#include <algorithm>
#include <chrono>

namespace keelback::fakeworker {
namespace {

// A mark is memory and cannot be waited for: whoever sets it without a CANCEL is heard this late.
constexpr std::int64_t kLookAtMarkEveryMs = 10;

}  // namespace

bool AloneCall::told_to_cancel() { return place.marks.cancelled(asked.row, asked.call); }
bool AloneCall::told_to_interrupt() { return place.marks.interrupted(asked.call); }

void AloneCall::rest_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  pollfd woken{.fd = place.marks.wake_fd(), .events = POLLIN, .revents = 0};
  ::poll(&woken, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, kLookAtMarkEveryMs)));
  place.marks.calm();  // before the marks are read: what comes later wakes again
}

std::uint64_t AloneCall::await_credit() {
  pollfd waiting[2] = {{.fd = place.channel.fd(), .events = POLLIN, .revents = 0},
                       {.fd = place.marks.wake_fd(), .events = POLLIN, .revents = 0}};
  const bool readable = ::poll(waiting, 2, -1) > 0 && waiting[0].revents != 0;
  place.marks.calm();
  if (!readable) return 0;
  place.channel.read();
  return place.channel.take_credit(asked.call);
}

}  // namespace keelback::fakeworker
