// How a node of a cluster proves to another one that a request is its own (docs/http.md, Between
// nodes). The header Keelback-Hop is "1 SENDER SIGNATURE": 1 is the version of this scheme, SENDER
// the name of the node, SIGNATURE an HMAC-SHA256 with cluster.token as 64 hex digits. It covers
// the sender, the method, the target, and each header that says what is asked for. Content-Digest
// (RFC 9530) is one of them and has the SHA-256 of the body. So a server can tell a stranger when
// it has read the header, before it takes the body. Pure.
//
// There is no date and no number in it: who can read a request can send it again.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "httptext/header.h"

namespace keelback::httptext {

// The head of a request. Everything is borrowed.
struct SignedHead {
  std::string_view method;
  std::string_view target;  // as it stands in the request line
  std::array<std::optional<std::string_view>, kHeaders> headers{};

  void set(Header header, std::string_view value) {
    headers[static_cast<std::size_t>(header)] = value;
  }
};

// Whether a signature covers the header. Those that it does not cover are of the connection
// (Host, Expect, …), of a proxy (Forwarded), or of other ways to be known (Authorization, Origin).
bool is_signed(Header header);

// The value of Keelback-Hop. Requires: a token; a sender without blanks.
std::string sign_hop(std::string_view token, std::string_view sender, const SignedHead& head);

// The name of the node that has signed the head with this token. The error is a sentence. The time
// that the comparison takes says nothing about the right signature.
std::expected<std::string, std::string> signer_of(std::string_view token, const SignedHead& head);

// The value of Content-Digest for these bytes: "sha-256=:…:".
std::string content_digest(std::string_view body);

}  // namespace keelback::httptext
