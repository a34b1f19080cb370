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

// Reads what has come; false: it may have been told to stop instead.
bool AloneCall::await_frames() {
  pollfd waiting[2] = {{.fd = place.channel.fd(), .events = POLLIN, .revents = 0},
                       {.fd = place.marks.wake_fd(), .events = POLLIN, .revents = 0}};
  const bool readable = ::poll(waiting, 2, -1) > 0 && waiting[0].revents != 0;
  place.marks.calm();
  if (readable) place.channel.read();
  return readable;
}

std::uint64_t AloneCall::await_credit() {
  return await_frames() ? place.channel.take_credit(asked.call) : 0;
}

std::optional<Heard> AloneCall::await_outcome(std::uint64_t request) {
  if (auto heard = place.channel.take_outcome(request)) return heard;
  return await_frames() ? place.channel.take_outcome(request) : std::nullopt;
}

}  // namespace keelback::fakeworker
