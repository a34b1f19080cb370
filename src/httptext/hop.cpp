#include "httptext/hop.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <iterator>

#include "base/check.h"

namespace keelback::httptext {
namespace {

constexpr std::string_view kVersion = "1";
constexpr std::size_t kHashBytes = 32;
using Hash = std::array<unsigned char, kHashBytes>;

// One line for each thing that is signed. No value has a line end, because it came in a header.
std::string signed_text(std::string_view sender, const SignedHead& head) {
  std::string text =
      fmt::format("keelback-hop {}\n{}\n{}\n{}\n", kVersion, sender, head.method, head.target);
  for (int i = 0; i < kHeaders; ++i) {
    const auto header = static_cast<Header>(i);
    const auto& value = head.headers[static_cast<std::size_t>(i)];
    if (value && is_signed(header)) {
      fmt::format_to(std::back_inserter(text), "{}:{}\n", to_string(header), *value);
    }
  }
  return text;
}

std::string signature_of(std::string_view token, std::string_view sender, const SignedHead& head) {
  const std::string text = signed_text(sender, head);
  Hash hash{};
  unsigned size = 0;
  const auto* const made =
      ::HMAC(::EVP_sha256(), token.data(), static_cast<int>(token.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data(), &size);
  CHECK(made != nullptr && size == kHashBytes);
  std::string hex;
  for (const unsigned char byte : hash) fmt::format_to(std::back_inserter(hex), "{:02x}", byte);
  return hex;
}

}  // namespace

bool is_signed(Header header) {
  switch (header) {
    case Header::kHost:
    case Header::kOrigin:
    case Header::kAuthorization:
    case Header::kExpect:
    case Header::kTransferEncoding:
    case Header::kIfMatch:
    case Header::kContentEncoding:
    case Header::kForwarded:
    case Header::kForwardedFor:
    case Header::kHop:
      return false;
    default:
      return true;
  }
}

std::string sign_hop(std::string_view token, std::string_view sender, const SignedHead& head) {
  CHECK(!token.empty());
  return fmt::format("{} {} {}", kVersion, sender, signature_of(token, sender, head));
}

std::expected<std::string, std::string> signer_of(std::string_view token, const SignedHead& head) {
  const auto& hop = head.headers[static_cast<std::size_t>(Header::kHop)];
  if (token.empty()) return std::unexpected("no cluster.token is set here");
  if (!hop) return std::unexpected("there is no Keelback-Hop");
  const auto first = hop->find(' ');
  const auto second = first == hop->npos ? hop->npos : hop->find(' ', first + 1);
  if (second == hop->npos || second == first + 1) {
    return std::unexpected("Keelback-Hop must be: 1 SENDER SIGNATURE");
  }
  if (hop->substr(0, first) != kVersion) {
    return std::unexpected("Keelback-Hop has a version that is not known here");
  }
  const std::string_view sender = hop->substr(first + 1, second - first - 1);
  const std::string_view given = hop->substr(second + 1);
  const std::string right = signature_of(token, sender, head);
  if (given.size() != right.size() ||
      ::CRYPTO_memcmp(given.data(), right.data(), right.size()) != 0) {
    return std::unexpected("the signature of Keelback-Hop is not made with this cluster.token");
  }
  return std::string(sender);
}

std::string content_digest(std::string_view body) {
  Hash hash{};
  unsigned size = 0;
  const int done =
      ::EVP_Digest(body.data(), body.size(), hash.data(), &size, ::EVP_sha256(), nullptr);
  CHECK(done == 1 && size == kHashBytes);
  unsigned char base64[4 * ((kHashBytes + 2) / 3) + 1];
  const int length = ::EVP_EncodeBlock(base64, hash.data(), kHashBytes);
  return fmt::format("sha-256=:{}:", std::string_view(reinterpret_cast<const char*>(base64),
                                                      static_cast<std::size_t>(length)));
}

}  // namespace keelback::httptext
