#include "server/call_headers.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/utf8.h"
#include "httptext/number.h"
#include "httptext/same_word.h"
#include "server/accept.h"
#include "server/target.h"

namespace keelback::server {
namespace {

using Error = std::optional<std::string>;  // nullopt: fine

constexpr std::size_t kSessionMax = 256;
constexpr std::size_t kBatchKeyMax = 256;
constexpr std::size_t kKeyMax = 255;
constexpr std::size_t kNameMax = 128;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Error read_session(std::string_view text, Call& call) {
  if (text.empty()) return "is empty";
  if (text.size() > kSessionMax) return fmt::format("is longer than {} bytes", kSessionMax);
  if (!is_utf8(text)) return "is not UTF-8";
  call.session = text;
  return std::nullopt;
}

Error read_affinity(std::string_view text, Call& call) {
  if (text == "strict_queue") {
    call.affinity = Affinity::kStrictQueue;
  } else if (text == "strict_fail_fast") {
    call.affinity = Affinity::kStrictFailFast;
  } else if (text == "hint") {
    call.affinity = Affinity::kHint;
  } else {
    return "must be strict_queue, strict_fail_fast or hint";
  }
  return std::nullopt;
}

Error read_session_open(std::string_view text, Call& call) {
  if (text == "any") {
    call.open = SessionOpen::kAny;
  } else if (text == "new") {
    call.open = SessionOpen::kNew;
  } else if (text == "existing") {
    call.open = SessionOpen::kExisting;
  } else {
    return "must be any, new or existing";
  }
  return std::nullopt;
}

Error read_deadline(std::string_view text, Call& call) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max() / 1'000'000;
  const auto milliseconds = httptext::number<std::uint64_t>(text);
  if (!milliseconds || *milliseconds == 0) return "must be a whole number of milliseconds, above 0";
  call.deadline = std::chrono::milliseconds(std::min(*milliseconds, kMost));
  return std::nullopt;
}

Error read_fence(std::string_view text, Call& call) {
  Fence fence;
  if (const auto dot = text.find('.'); dot != std::string_view::npos) {
    const std::string_view hex = text.substr(0, dot);
    const auto birth = httptext::number<std::uint64_t>(hex, 16);
    if (!birth || *birth == 0 || hex.starts_with('-')) {
      return "must be birth.epoch with the birth in hex, or the epoch alone";
    }
    fence.birth = *birth;
    text.remove_prefix(dot + 1);
  }
  const auto epoch = httptext::number<std::uint32_t>(text);
  if (!epoch || *epoch == 0) return "must be birth.epoch with the birth in hex, or the epoch alone";
  fence.epoch = *epoch;
  call.expect_epoch = fence;
  return std::nullopt;
}

Error read_priority(std::string_view text, Call& call) {
  if (text == "high") {
    call.priority = Priority::kHigh;
  } else if (text == "normal") {
    call.priority = Priority::kNormal;
  } else if (text == "low") {
    call.priority = Priority::kLow;
  } else {
    return "must be high, normal or low";
  }
  return std::nullopt;
}

Error read_idempotent(std::string_view text, Call& call) {
  if (text != "true" && text != "false") return "must be true or false";
  call.idempotent = text == "true";
  return std::nullopt;
}

Error read_batch_key(std::string_view text, Call& call) {
  if (text.empty()) return "is empty";
  if (text.size() > kBatchKeyMax) return fmt::format("is longer than {} bytes", kBatchKeyMax);
  call.batch_key = text;
  return std::nullopt;
}

Error read_key(std::string_view text, Call& call) {
  if (text.empty()) return "is empty";
  if (text.size() > kKeyMax) return fmt::format("is longer than {} bytes", kKeyMax);
  call.idempotency_key = text;
  return std::nullopt;
}

// W3C: version-traceid-parentid-flags in lower hex; later versions may append "-…".
Error read_trace(std::string_view text, Call& call) {
  const bool shape = text.size() >= 55 && text[2] == '-' && text[35] == '-' && text[52] == '-';
  if (!shape || !is_hex(text.substr(0, 2)) || !is_hex(text.substr(3, 32)) ||
      !is_hex(text.substr(36, 16)) || !is_hex(text.substr(53, 2)) || text.starts_with("ff") ||
      (text.size() > 55 && (text.starts_with("00") || text[55] != '-' || text.size() > 256))) {
    return "is not a W3C traceparent (00-32 hex-16 hex-2 hex)";
  }
  call.traceparent = text;
  return std::nullopt;
}

Error read_name(std::string_view text, std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto rest = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  if (text.empty() || text.size() > kNameMax || !letter(text[0]) ||
      !std::ranges::all_of(text, rest)) {
    return fmt::format(
        "must begin with a letter and have only letters, digits, '-', '_' and '.', at most {}",
        kNameMax);
  }
  name = text;
  return std::nullopt;
}

Error read_parent(std::string_view text, Call& call) {
  const auto parent = httptext::number<std::uint64_t>(text);
  if (!parent || *parent == 0) return "must be the number of a call";
  call.parent = *parent;
  return std::nullopt;
}

Error read_one(Header header, std::string_view text, CallHeaders& out) {
  switch (header) {
    case Header::kSession:
      return read_session(text, out.call);
    case Header::kAffinity:
      return read_affinity(text, out.call);
    case Header::kSessionOpen:
      return read_session_open(text, out.call);
    case Header::kDeadlineMs:
      return read_deadline(text, out.call);
    case Header::kExpectEpoch:
      return read_fence(text, out.call);
    case Header::kPriority:
      return read_priority(text, out.call);
    case Header::kBatchKey:
      return read_batch_key(text, out.call);
    case Header::kIdempotent:
      return read_idempotent(text, out.call);
    case Header::kIdempotencyKey:
      return read_key(text, out.call);
    case Header::kTraceparent:
      return read_trace(text, out.call);
    case Header::kCall:
      return read_name(text, out.name);
    case Header::kParent:
      return read_parent(text, out.call);
    default:
      return std::nullopt;
  }
}

// These headers are about a session and mean nothing without one.
std::optional<Header> needs_session(const Call& call) {
  if (!call.session.empty()) return std::nullopt;
  if (call.expect_epoch) return Header::kExpectEpoch;
  if (call.open != SessionOpen::kAny) return Header::kSessionOpen;
  return std::nullopt;
}

}  // namespace

std::expected<CallHeaders, std::string> read_call_headers(const Request& request) {
  if (!request.unknown.empty()) {
    return std::unexpected(fmt::format("there is no request header {}; did you mean {}?",
                                       request.unknown, nearest_header(request.unknown)));
  }
  CallHeaders out;
  constexpr std::uint32_t kOurs = ~0U << static_cast<int>(Header::kTraceparent);
  if (std::uint32_t left = request.seen & kOurs; left != 0) {
    for (int i = static_cast<int>(Header::kTraceparent); i < kHeaders; ++i) {
      if ((left >> i & 1) == 0) continue;
      const auto header = static_cast<Header>(i);
      if (auto error = read_one(header, request.get(header), out)) {
        return std::unexpected(fmt::format("{} {}", to_string(header), *error));
      }
    }
    if (const auto header = needs_session(out.call)) {
      return std::unexpected(
          fmt::format("{} means nothing without Keelback-Session", to_string(*header)));
    }
  }
  out.wants_stream =
      request.has(Header::kAccept) && accepts(request.get(Header::kAccept), "text/event-stream");
  return out;
}

bool is_json_type(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  return httptext::same_word(content_type, "application/json");
}

}  // namespace keelback::server
