#include "base/net_names.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace keelback {
namespace {

constexpr unsigned kV4Prefix = 96;  // bits before an IPv4 address

bool is_decimal(char c) { return c >= '0' && c <= '9'; }
char lowered(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lowered, lowered);
}

struct HostAndPort {
  std::string_view host;  // with the brackets of an IPv6 address
  std::string_view port;  // empty: none
};
std::optional<HostAndPort> split_port(std::string_view text) {
  std::size_t end = text.find(':');
  if (text.starts_with('[')) {
    end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    ++end;
    if (end < text.size() && text[end] != ':') return std::nullopt;
  }
  HostAndPort parts{text.substr(0, end), {}};
  if (end >= text.size()) return parts;
  parts.port = text.substr(end + 1);
  unsigned number = 0;
  const auto [stop, error] =
      std::from_chars(parts.port.data(), parts.port.data() + parts.port.size(), number);
  const bool whole = error == std::errc() && stop == parts.port.data() + parts.port.size();
  if (!whole || number > 65535) return std::nullopt;
  return parts;
}

bool is_host_label(std::string_view label) {
  return !label.empty() && label.size() <= 63 && std::ranges::all_of(label, [](char c) {
    return is_decimal(c) || (lowered(c) >= 'a' && lowered(c) <= 'z') || c == '-' || c == '_';
  });
}

bool is_host_name(std::string_view name) {
  for (;;) {
    const auto dot = name.find('.');
    if (!is_host_label(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

}  // namespace

std::optional<NetAddress> parse_address(std::string_view text) {
  const std::string copy(text);
  if (copy.find('\0') != std::string::npos) return std::nullopt;
  NetAddress address;
  if (::inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1) return address;
  address = {};
  if (::inet_pton(AF_INET, copy.c_str(), address.bytes.data() + 12) != 1) return std::nullopt;
  address.bytes[10] = address.bytes[11] = 0xFF;
  return address;
}

std::string format_address(const NetAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool v4 = address.bytes[10] == 0xFF && address.bytes[11] == 0xFF &&
                  std::all_of(address.bytes.begin(), address.bytes.begin() + 10,
                              [](std::uint8_t byte) { return byte == 0; });
  if (v4) {
    ::inet_ntop(AF_INET, address.bytes.data() + 12, text, sizeof text);
  } else {
    ::inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  }
  return text;
}

bool NetBlock::contains(const NetAddress& other) const {
  for (unsigned bit = 0; bit < prefix; bit += 8) {
    const unsigned left = std::min(8U, prefix - bit);
    const auto mask = static_cast<std::uint8_t>(0xFF << (8 - left));
    if (((address.bytes[bit / 8] ^ other.bytes[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

std::expected<NetBlock, std::string> parse_block(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return std::unexpected("'" + std::string(text.substr(0, 100)) + "' " + std::string(why));
  };
  const auto slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return bad("is no address such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32");
  NetBlock block{*address, 128};
  if (slash == std::string_view::npos) return block;
  const std::string_view bits = text.substr(slash + 1);
  const bool v4 = text.substr(0, slash).find(':') == std::string_view::npos;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), number);
  if (error != std::errc() || end != bits.data() + bits.size() || number > (v4 ? 32U : 128U)) {
    return bad(v4 ? "has a prefix that is not from 0 to 32"
                  : "has a prefix that is not from 0 to 128");
  }
  block.prefix = v4 ? kV4Prefix + number : number;
  for (unsigned bit = block.prefix; bit < 128; ++bit) {
    if ((block.address.bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
      return bad("has bits behind its prefix; write the network's own address");
    }
  }
  return block;
}

std::expected<void, std::string> check_proxy(std::string_view text) {
  if (text == "unix") return {};
  if (auto block = parse_block(text); !block) {
    return std::unexpected(block.error() + ", and not the word unix");
  }
  return {};
}

std::expected<void, std::string> check_host_pattern(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return std::unexpected("'" + std::string(text.substr(0, 100)) + "' " + std::string(why));
  };
  if (text == "*")
    return bad("would allow every name; that is what the Host header guards against");
  const auto parts = split_port(text);
  if (!parts)
    return bad("is no name such as api.example.com, api.example.com:8443 or [2001:db8::1]");
  std::string_view host = parts->host;
  if (host.starts_with('[')) {
    const auto address = parse_address(host.substr(1, host.size() - 2));
    if (address && host.find(':') != std::string_view::npos) return {};
    return bad("has no IPv6 address in its brackets");
  }
  const bool below = host.starts_with("*.");
  if (below) host.remove_prefix(2);
  if (!is_host_name(host)) return bad("is no name such as api.example.com or *.example.com");
  if (below && host.find('.') == std::string_view::npos) {
    return bad("is too wide: *. needs a domain of two labels, such as *.example.com");
  }
  return {};
}

bool host_matches(std::string_view pattern, std::string_view host_header) {
  const auto wanted = split_port(pattern);
  const auto given = split_port(host_header);
  if (!wanted || !given || given->host.empty()) return false;
  if (!wanted->port.empty() && wanted->port != given->port) return false;
  std::string_view host = given->host;
  if (!wanted->host.starts_with("*.")) return same_letters(wanted->host, host);
  const std::string_view ending = wanted->host.substr(1);  // with its dot
  if (host.size() <= ending.size()) return false;
  return same_letters(host.substr(host.size() - ending.size()), ending) &&
         is_host_name(host.substr(0, host.size() - ending.size()));
}

std::expected<NodeUrl, std::string> parse_node_url(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return std::unexpected("'" + std::string(text.substr(0, 100)) + "' " + std::string(why));
  };
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) {
    return bad("is https, which nodes do not speak to each other: put a tunnel between them");
  }
  if (!text.starts_with(kScheme)) return bad("is no URL such as http://node-1:8080");
  std::string_view rest = text.substr(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto parts = split_port(rest);
  const bool colon = rest.ends_with(':');
  if (!parts || colon) return bad("is no URL such as http://node-1:8080");
  NodeUrl url;
  url.authority = rest;
  url.host = parts->host;
  if (parts->host.starts_with('[')) {
    url.host = parts->host.substr(1, parts->host.size() - 2);
    if (!parse_address(url.host) || url.host.find(':') == std::string::npos) {
      return bad("has no IPv6 address in its brackets");
    }
  } else if (!is_host_name(url.host)) {
    return bad("names no host; a path, a user or a query have no place there");
  }
  if (!parts->port.empty()) {
    std::from_chars(parts->port.data(), parts->port.data() + parts->port.size(), url.port);
    if (url.port == 0) return bad("has no port from 1 to 65535");
  }
  return url;
}

}  // namespace keelback
