#include "server/hop.h"

#include "httptext/hop.h"

namespace keelback::server {
namespace {

Response not_believed(std::string_view detail) { return problem(401, "bad_hop", detail); }

}  // namespace

std::expected<std::string, Response> check_hop(const Request& request, std::string_view token,
                                               std::optional<Route> route) {
  httptext::SignedHead head{.method = request.method, .target = request.target};
  for (int i = 0; i < kHeaders; ++i) {
    const auto header = static_cast<Header>(i);
    if (request.has(header)) head.set(header, request.get(header));
  }
  auto signer = httptext::signer_of(token, head);
  if (!signer) return std::unexpected(not_believed(signer.error()));
  if (route != Route::kCall && route != Route::kCancelCall && route != Route::kEndSession) {
    return std::unexpected(
        not_believed("nodes make calls, cancel them and end sessions, and nothing else"));
  }
  return std::move(*signer);
}

std::optional<Response> check_hop_body(const Request& request) {
  if (request.get(Header::kContentDigest) == httptext::content_digest(request.body)) {
    return std::nullopt;
  }
  return not_believed("the body is not the one of Content-Digest, which is signed");
}

}  // namespace keelback::server
