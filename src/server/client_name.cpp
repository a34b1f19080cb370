#include "server/client_name.h"

#include <algorithm>
#include <optional>
#include <ranges>

#include "base/net_names.h"
#include "httptext/same_word.h"

namespace keelback::server {
namespace {

constexpr std::string_view kUnixPeer = "unix";

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

// The elements of a list. A comma in quotes separates nothing.
std::vector<std::string_view> elements(std::string_view list, char separator) {
  std::vector<std::string_view> found;
  bool quoted = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '\\' && quoted) {
      ++i;
    } else if (i < list.size() && list[i] == '"') {
      quoted = !quoted;
    } else if (i >= list.size() || (list[i] == separator && !quoted)) {
      found.push_back(trimmed(list.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  if (begin < list.size()) found.push_back(trimmed(list.substr(begin)));
  return found;
}

// "192.0.2.1:80", "[2001:db8::1]:80", "2001:db8::1", "unix:" as an address; nullopt: it is none.
std::optional<std::string> node(std::string_view text) {
  if (text == "unix:" || text == kUnixPeer) return std::string(kUnixPeer);
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    text = text.substr(1, end - 1);
  } else if (std::ranges::count(text, ':') == 1) {
    text = text.substr(0, text.find(':'));
  }
  const auto address = parse_address(text);
  if (!address) return std::nullopt;
  return format_address(*address);
}

// What one element of Forwarded says in for=.
std::string_view for_of(std::string_view element) {
  for (std::string_view pair : elements(element, ';')) {
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos || !httptext::same_word(pair.substr(0, equals), "for"))
      continue;
    std::string_view value = pair.substr(equals + 1);
    if (value.size() >= 2 && value.starts_with('"') && value.ends_with('"')) {
      value = value.substr(1, value.size() - 2);
    }
    return value;
  }
  return {};
}

bool is_trusted(std::string_view name, const std::vector<std::string>& proxies) {
  const auto address = parse_address(name);
  return std::ranges::any_of(proxies, [&](const std::string& proxy) {
    if (!address) return name == kUnixPeer && proxy == kUnixPeer;
    const auto block = parse_block(proxy);
    return block && block->contains(*address);
  });
}

// Requires: the peer is trusted.
std::string walk(std::string_view peer, const std::vector<std::string_view>& nodes,
                 const std::vector<std::string>& proxies) {
  std::string last(peer);
  for (const std::string_view text : std::views::reverse(nodes)) {
    auto name = node(text);
    if (!name) return last;  // "unknown", a hidden name, or no address at all
    last = std::move(*name);
    if (!is_trusted(last, proxies)) return last;
  }
  return last;
}

}  // namespace

std::string client_name(const Request& request, std::string_view peer,
                        const std::vector<std::string>& trusted_proxies) {
  const bool forwarded = request.has(Header::kForwarded);
  const bool forwarded_for = request.has(Header::kForwardedFor);
  if ((!forwarded && !forwarded_for) || !is_trusted(peer, trusted_proxies)) {
    return std::string(peer);
  }
  std::optional<std::string> first;
  if (forwarded) {
    std::vector<std::string_view> nodes;
    for (const std::string_view element : elements(request.get(Header::kForwarded), ',')) {
      nodes.push_back(for_of(element));
    }
    first = walk(peer, nodes, trusted_proxies);
  }
  if (!forwarded_for) return *first;
  std::string second =
      walk(peer, elements(request.get(Header::kForwardedFor), ','), trusted_proxies);
  return !first || *first == second ? second : std::string(peer);
}

}  // namespace keelback::server
