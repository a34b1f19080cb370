#include "fakeworker/running.h"

#include <algorithm>

#include "base/json_text.h"
#include "fakeworker/functions.h"
#include "wire/messages.h"

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

// As python/keelback/nested.py raises.
Raised failed_call(std::string_view json) {
  const Json outcome = parse_json<Json>(json);
  const auto text = [&outcome](const char* name) -> std::string {
    if (!outcome.is_object()) return {};
    const auto found = outcome.find(name);
    return found != outcome.end() && found->is_string() ? found->get<std::string>() : "";
  };
  const std::string kind = text("outcome");
  std::string message = kind;
  if (const std::string reason = text("reason"); !reason.empty()) message += " (" + reason + ")";
  if (const std::string why = text("message"); !why.empty()) message += ": " + why;
  return {wire::ErrorKind::kError,
          kind == "host_gone" ? "keelback.HostGone" : "keelback.CallFailed", std::move(message)};
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

Answer Running::call_out(wire::NestedMessage nested) {
  nested.parent = asked.call;
  nested.request = ++place.last_request;
  std::string frame;
  if (!wire::append_nested_head(frame, nested)) {
    return Raised{wire::ErrorKind::kError, "ValueError", "the names are too long"};
  }
  place.channel.send(frame, nested.payload);
  while (true) {
    if (auto stop = stopped(true)) {
      frame.clear();
      wire::append_nested_cancel(frame, nested.parent, nested.request);
      place.channel.send(frame);
      return *std::move(stop);
    }
    std::optional<Heard> heard;
    {
      const Away away(*this);
      heard = await_outcome(nested.request);
    }
    if (!heard) continue;
    if (heard->ok) return Returned{std::move(heard->json)};
    // What it has asked for is cancelled because it is to stop.
    if (auto stop = stopped(true)) return *std::move(stop);
    return failed_call(heard->json);
  }
}

}  // namespace keelback::fakeworker
