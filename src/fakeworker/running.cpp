#include "fakeworker/running.h"

#include <algorithm>

#include "fakeworker/functions.h"

namespace keelback::fakeworker {
namespace {

Raised interrupt_of(std::uint16_t row) {
  return {wire::ErrorKind::kCancelled, row == 0 ? "KeyboardInterrupt" : "keelback.Interrupted",
          "the call was interrupted"};
}

Raised cancel_of(const Function& function) {
  if (!function.async) return cancelled();
  return {wire::ErrorKind::kCancelled, "asyncio.exceptions.CancelledError", ""};
}

// While an async function waits, others have the loop's turn.
class Away {
 public:
  explicit Away(const Running& running)
      : loop_(running.asked.function->async ? &running.place.loop : nullptr) {
    if (loop_ != nullptr) loop_->leave();
  }
  ~Away() {
    if (loop_ != nullptr) loop_->take();
  }
  Away(const Away&) = delete;
  Away& operator=(const Away&) = delete;

 private:
  Loop* const loop_;
};

}  // namespace

std::optional<Raised> Running::stopped(bool heeds_cancel) {
  // A coroutine is never interrupted: it is cancelled where it waits.
  if (!asked.function->async && told_to_interrupt()) {
    interrupted = true;
    return interrupt_of(asked.row);
  }
  if (heeds_cancel && told_to_cancel()) return cancel_of(*asked.function);
  return std::nullopt;
}

std::optional<Raised> Running::wait(std::int64_t ms, bool heeds_cancel) {
  constexpr std::int64_t kDay = 24 * 3600 * 1000;
  const auto end = Clock::now() + std::chrono::milliseconds(std::clamp<std::int64_t>(ms, 0, kDay));
  {
    const Away away(*this);
  }  // others have a turn, however short it is
  while (true) {
    if (auto stop = stopped(heeds_cancel)) return stop;
    if (Clock::now() >= end) return std::nullopt;
    const Away away(*this);
    rest_until(end);
  }
}

std::optional<Raised> Running::put_item(std::string_view json) {
  while (true) {
    if (auto stop = stopped(true)) return stop;
    if (credit_ > 0) break;
    const Away away(*this);
    credit_ += await_credit();
  }
  --credit_;
  std::string head;
  wire::append_payload_head(head, wire::Type::kItem, asked.call, json.size());
  place.channel.send(head, json);
  return std::nullopt;
}

}  // namespace keelback::fakeworker
