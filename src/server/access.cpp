#include "server/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/net_names.h"
#include "httptext/same_word.h"

namespace keelback::server {
namespace {

// 127.0.0.0/8 in dotted form only; a resolver would also accept other forms.
bool is_loopback_v4(std::string_view host) {
  int parts = 0;
  while (parts < 4) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(host.data(), host.data() + host.size(), value);
    const auto digits = static_cast<std::size_t>(end - host.data());
    if (error != std::errc() || digits > 3 || value > 255 || (parts == 0 && value != 127)) {
      return false;
    }
    ++parts;
    host.remove_prefix(digits);
    if (parts == 4) return host.empty();
    if (host.empty() || host[0] != '.') return false;
    host.remove_prefix(1);
  }
  return false;
}

// A browser says where a page comes from. The page is ours if its origin is our own Host.
bool is_same_origin(std::string_view origin, std::string_view host) {
  for (std::string_view scheme : {"http://", "https://"}) {
    if (origin.starts_with(scheme)) return httptext::same_word(origin.substr(scheme.size()), host);
  }
  return false;
}

std::optional<std::string_view> bearer(std::string_view authorization) {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() < kScheme.size() ||
      !httptext::same_word(authorization.substr(0, kScheme.size()), kScheme)) {
    return std::nullopt;
  }
  authorization.remove_prefix(kScheme.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

bool is_own_name(std::string_view host, const OwnNames& names) {
  const auto name = host_name(host);
  if (!name) return false;
  return is_loopback_name(*name) ||
         std::ranges::any_of(names.listen,
                             [&](const auto& own) { return httptext::same_word(own, *name); }) ||
         std::ranges::any_of(names.allowed,
                             [&](const auto& pattern) { return host_matches(pattern, host); });
}

}  // namespace

bool equal_in_constant_time(std::string_view given, std::string_view secret) {
  if (secret.empty()) return false;
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(secret[i % secret.size()]);
  }
  return difference == 0;
}

std::optional<std::string_view> host_name(std::string_view host_header) {
  std::string_view name = host_header;
  std::string_view port;
  if (name.starts_with('[')) {
    const auto close = name.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    port = name.substr(close + 1);
    name = name.substr(1, close - 1);
  } else if (const auto colon = name.find(':'); colon != std::string_view::npos) {
    port = name.substr(colon);
    name = name.substr(0, colon);
  }
  if (!port.empty() && (port[0] != ':' || !std::ranges::all_of(port.substr(1), [](char c) {
                          return c >= '0' && c <= '9';
                        }))) {
    return std::nullopt;
  }
  if (name.empty()) return std::nullopt;
  return name;
}

bool is_loopback_name(std::string_view host) {
  return httptext::same_word(host, "localhost") || host == "::1" || is_loopback_v4(host);
}

Access check_access(const Request& request, Door door, std::string_view token, OwnNames names,
                    bool open) {
  const std::string_view host = request.get(Header::kHost);
  if (request.http11 && !request.has(Header::kHost)) {
    return {false, problem(400, "bad_host", "an HTTP/1.1 request has a Host header")};
  }
  if (request.has(Header::kOrigin) && !is_same_origin(request.get(Header::kOrigin), host)) {
    return {false, problem(403, "foreign_origin",
                           "requests of web pages of other origins are refused (Origin header)")};
  }
  if (door.trusted) return {true, std::nullopt};
  if (token.empty()) {
    if (!door.loopback && !door.unix_socket) {
      return {false, problem(403, "no_token",
                             "this address is reachable from other machines and no server.token "
                             "is set")};
    }
    if (door.unix_socket || !request.has(Header::kHost)) return {true, std::nullopt};
    if (is_own_name(host, names)) return {true, std::nullopt};
    return {false, problem(403, "foreign_host",
                           "the Host header names neither this machine's loopback nor an address "
                           "of server.listen; server.allowed_hosts allows further names")};
  }
  const auto given = bearer(request.get(Header::kAuthorization));
  if (given && equal_in_constant_time(*given, token)) return {true, std::nullopt};
  if (open) return {false, std::nullopt};
  Response refusal =
      problem(401, "unauthorized",
              given ? "the bearer token is not the one of server.token"
                    : "send the token of server.token as: Authorization: Bearer TOKEN");
  refusal.headers = "WWW-Authenticate: Bearer\r\n";
  return {false, std::move(refusal)};
}

}  // namespace keelback::server
