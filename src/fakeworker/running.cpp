#include "fakeworker/running.h"

#include <algorithm>

namespace keelback::fakeworker {
namespace {

Raised keyboard_interrupt() {
  return {wire::ErrorKind::kCancelled, "KeyboardInterrupt", "the call was interrupted"};
}

}  // namespace

std::optional<Raised> Running::stopped(bool heeds_cancel) {
  if (told_to_interrupt()) {
    interrupted = true;
    return keyboard_interrupt();
  }
  if (heeds_cancel && told_to_cancel()) return cancelled();
  return std::nullopt;
}

std::optional<Raised> Running::wait(std::int64_t ms, bool heeds_cancel) {
  constexpr std::int64_t kDay = 24 * 3600 * 1000;
  const auto end = Clock::now() + std::chrono::milliseconds(std::clamp<std::int64_t>(ms, 0, kDay));
  while (true) {
    if (auto stop = stopped(heeds_cancel)) return stop;
    if (Clock::now() >= end) return std::nullopt;
    rest_until(end);
  }
}

std::optional<Raised> Running::put_item(std::string_view json) {
  while (true) {
    if (auto stop = stopped(true)) return stop;
    if (credit_ > 0) break;
    credit_ += await_credit();
  }
  --credit_;
  std::string head;
  wire::append_payload_head(head, wire::Type::kItem, asked.call, json.size());
  place.channel.send(head, json);
  return std::nullopt;
}

}  // namespace keelback::fakeworker
