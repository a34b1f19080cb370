// Addresses of machines and names of hosts, as settings and HTTP headers write them. Pure: nothing
// is resolved.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace keelback {

// An IPv4 address is kept as ::ffff:a.b.c.d, so that both ways to write it are equal.
struct NetAddress {
  std::array<std::uint8_t, 16> bytes{};
  friend bool operator==(const NetAddress&, const NetAddress&) = default;
};
// "192.0.2.1", "2001:db8::1"; nothing else, no port.
std::optional<NetAddress> parse_address(std::string_view text);
std::string format_address(const NetAddress& address);

// All addresses that begin with the same `prefix` bits.
struct NetBlock {
  NetAddress address;
  unsigned prefix = 128;  // of the 128 bits
  bool contains(const NetAddress& other) const;
};
// An address, or "10.0.0.0/8", "2001:db8::/32". The error is a sentence that names the text.
std::expected<NetBlock, std::string> parse_block(std::string_view text);

// What server.trusted_proxies may hold: a block, or "unix".
std::expected<void, std::string> check_proxy(std::string_view text);

// What server.allowed_hosts may hold: a name, an address, "*.example.com"; with a port or without.
std::expected<void, std::string> check_host_pattern(std::string_view text);
// Does the Host header name what the pattern allows? A pattern without a port allows every port.
// Upper and lower case are equal. "*.example.com" allows all names below example.com.
bool host_matches(std::string_view pattern, std::string_view host_header);

// Where a node of a cluster is reached: "http://node-1:8080", "http://[2001:db8::1]". A slash may
// follow. The error is a sentence.
struct NodeUrl {
  std::string host;  // a name or an address, without brackets
  std::uint16_t port = 80;
  std::string authority;  // as it stands in the URL, for the Host header
  friend bool operator==(const NodeUrl&, const NodeUrl&) = default;
};
std::expected<NodeUrl, std::string> parse_node_url(std::string_view text);

}  // namespace keelback
