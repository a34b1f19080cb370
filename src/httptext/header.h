// The request headers that a server looks at, and their names.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace keelback::httptext {

enum class Header : std::uint8_t {
  kHost,
  kOrigin,
  kAuthorization,
  kContentType,
  kAccept,
  kExpect,
  kTransferEncoding,
  kIfMatch,
  kContentEncoding,
  kForwarded,
  kForwardedFor,  // X-Forwarded-For
  kContentDigest,
  kTraceparent,
  kIdempotencyKey,
  kSession,
  kAffinity,
  kSessionOpen,
  kDeadlineMs,
  kExpectEpoch,
  kPriority,
  kBatchKey,
  kIdempotent,
  kCall,
  kParent,
  kAttachment,
  kDtype,
  kShape,
  kArguments,
  kHop,
};
inline constexpr int kHeaders = 29;
std::string_view to_string(Header header);  // as documented: "Keelback-Session"
// All of them, in the order of Header.
std::span<const std::string_view, kHeaders> header_names();

}  // namespace keelback::httptext
