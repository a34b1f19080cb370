#include "fakeworker/answer.h"

#include <algorithm>

#include "base/check.h"

namespace keelback::fakeworker {
namespace {

std::string error_json(const Raised& raised) {
  Json json = {{"type", raised.type},
               {"message", raised.message},
               {"traceback", "Traceback (most recent call last):\n  File \"<fakeworker>\"\n" +
                                 raised.type + ": " + raised.message + "\n"}};
  if (!raised.errors.is_null()) {
    json["traceback"] = "";  // the arguments are at fault, not a line of code
    json["errors"] = raised.errors;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Raised cancelled(std::string message) {
  return {wire::ErrorKind::kCancelled, "keelback.Cancelled", std::move(message)};
}

Raised cancelled_before_start() { return cancelled("the call was cancelled before it started"); }

Raised too_large(std::uint64_t bytes, std::uint64_t most) {
  return {wire::ErrorKind::kError, "keelback.ResultError",
          "the result is too large: " + std::to_string(bytes) + " bytes; calls.payload_max is " +
              std::to_string(most)};
}

std::optional<Raised> refuse_attached(const std::vector<Attached>& attached, std::uint64_t most) {
  std::uint64_t sum = 0;
  for (const Attached& each : attached) sum += each.bytes.size();
  most = std::min<std::uint64_t>(most, UINT32_MAX - wire::kHeadMax);  // they fit into frames
  if (sum <= most && attached.size() <= wire::kAttachmentsMax) return std::nullopt;
  return Raised{wire::ErrorKind::kError, "keelback.ResultError",
                "the result's attachments are too large: " + std::to_string(sum) +
                    " bytes; attachments.max is " + std::to_string(most)};
}

Out attached_frame(std::uint64_t call, const Attached& attached, std::uint32_t slab) {
  Out frame;
  // Each is one that a call has brought, or plain bytes, and refuse_attached() has seen them.
  CHECK(wire::append_attachment_head(frame.head, wire::Type::kAttached,
                                     {.call = call,
                                      .slab = slab,
                                      .bytes = attached.bytes.size(),
                                      .shape = attached.shape,
                                      .dtype = attached.dtype,
                                      .name = attached.name,
                                      .filename = attached.filename,
                                      .content_type = attached.content_type}));
  if (slab == 0) frame.payload = attached.bytes;
  return frame;
}

Out answer_frame(std::uint64_t call, Answer answer, std::uint8_t flags) {
  Out frame;
  if (auto* returned = std::get_if<Returned>(&answer)) {
    frame.payload = std::move(returned->json);
    wire::append_payload_head(frame.head, wire::Type::kResult, call, frame.payload.size(), flags);
  } else if (const auto* raised = std::get_if<Raised>(&answer)) {
    frame.payload = error_json(*raised);
    wire::append_error_head(frame.head, call, {.kind = raised->kind, .json = frame.payload}, flags);
  } else {
    wire::append_end(frame.head, call, flags);
  }
  return frame;
}

Out saved_frame(std::uint64_t call, Answer answer, std::uint8_t flags, const State& state) {
  const auto type = std::holds_alternative<Returned>(answer) ? wire::Type::kResult
                    : std::holds_alternative<Raised>(answer) ? wire::Type::kError
                                                             : wire::Type::kEnd;
  const Out plain = answer_frame(call, std::move(answer), flags);
  const std::string body = plain.head.substr(wire::kHeaderBytes) + plain.payload;
  Out frame;
  wire::append_saved(frame.head, call,
                     {.answer = type, .format = state.format, .state = state.bytes, .body = body},
                     flags);
  return frame;
}

}  // namespace keelback::fakeworker
