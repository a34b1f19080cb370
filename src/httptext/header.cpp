#include "httptext/header.h"

#include <array>

namespace keelback::httptext {
namespace {

constexpr std::array<std::string_view, kHeaders> kNames = {
    "Host",
    "Origin",
    "Authorization",
    "Content-Type",
    "Accept",
    "Expect",
    "Transfer-Encoding",
    "If-Match",
    "Content-Encoding",
    "Forwarded",
    "X-Forwarded-For",
    "Content-Digest",
    "traceparent",
    "Idempotency-Key",
    "Keelback-Session",
    "Keelback-Affinity",
    "Keelback-Session-Open",
    "Keelback-Deadline-Ms",
    "Keelback-Expect-Epoch",
    "Keelback-Priority",
    "Keelback-Batch-Key",
    "Keelback-Idempotent",
    "Keelback-Call",
    "Keelback-Parent",
    "Keelback-Attachment",
    "Keelback-Dtype",
    "Keelback-Shape",
    "Keelback-Arguments",
    "Keelback-Hop",
};

}  // namespace

std::string_view to_string(Header header) { return kNames[static_cast<std::size_t>(header)]; }

std::span<const std::string_view, kHeaders> header_names() { return kNames; }

}  // namespace keelback::httptext
