// The body of a call and of its answer: JSON, or JSON with attachments. Pure (but for
// fresh_boundary); fuzzed.
//
//   application/json           the arguments
//   multipart/form-data        a part named "arguments" is the arguments, the others attachments
//   application/octet-stream   one attachment; Keelback-Attachment names it, Keelback-Arguments is
//                              the JSON
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keelback/call.h"
#include "keelback/outcome.h"
#include "server/request.h"

namespace keelback::server {

enum class BodyKind : std::uint8_t { kJsonOnly, kOctets, kMultipart };

// nullopt: a type that calls do not have. No type at all is kJsonOnly.
std::optional<BodyKind> body_kind(const Request& request);

// A Keelback-* header about an attachment, although the body has no attachment or describes it
// itself. nullopt: there is no such header.
std::optional<Header> stray_header(BodyKind kind, const Request& request);

// Takes the body apart into the call's payload and attachments, which share its memory. The error
// is a sentence; the call is bad_request then.
std::optional<std::string> read_call_body(BodyKind kind, Request& request, Call& call);

// The body for an ok outcome with attachments: a form, or the bytes of its single attachment. It is
// the bytes, under the attachment's own content_type, if `accept` (the Accept header; empty: there
// is none) names that type or its kind ("image/*"), or if `accept` takes anything and the
// attachment is the whole result. It is the bytes as application/octet-stream if `accept` names
// that type.
struct AttachedReply {
  std::string content_type;
  std::string headers;  // further lines, each with its CRLF
  std::string body;
};
AttachedReply write_attached(Outcome&& outcome, std::string_view accept, std::string_view boundary);
// Always a form, from which the receiver makes the same attachments: an attachment that has no type
// or no file name has none there.
AttachedReply write_exactly(const Outcome& outcome, std::string_view boundary);

// A new random text each time, so that nobody can have put it into the bytes. Thread-safe.
std::string fresh_boundary();

}  // namespace keelback::server
