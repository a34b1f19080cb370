#include "postgres/target.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <cstdint>
#include <string_view>

namespace keelback::postgres {
namespace {

// "a,b" and "" as libpq means them: an empty part is the default.
std::vector<std::string> parts(std::string_view list) {
  std::vector<std::string> found;
  for (;;) {
    const std::size_t comma = list.find(',');
    found.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return found;
    list.remove_prefix(comma + 1);
  }
}

std::string at_or_only(const std::vector<std::string>& list, std::size_t index) {
  return list.size() == 1 ? list.front() : index < list.size() ? list[index] : "";
}

void replace_all(std::string& text, std::string_view part, std::string_view with) {
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + with.size())) {
    text.replace(at, part.size(), with);
  }
}

// What libpq finds out only when it connects, and then quotes. Most often it is a password with a
// character that the URL should have had as %40 or the like: the rest of it stands elsewhere then.
bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return text.empty() || (error == std::errc() && end == text.data() + text.size() && port != 0);
}
bool is_host(std::string_view text) {
  return text.starts_with('/') || text.find_first_of("@/:%? ") == std::string_view::npos ||
         text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}
bool is_database(std::string_view text) {
  return text.find_first_of("@/:") == std::string_view::npos;
}

}  // namespace

bool Target::Host::to_resolve() const {
  if (!address.empty() || name.empty() || name.front() == '/' || name.front() == '@') return false;
  boost::system::error_code no_address;
  boost::asio::ip::make_address(name, no_address);
  return static_cast<bool>(no_address);
}

std::expected<Target, std::string> Target::parse(const Libpq& libpq, const std::string& url) {
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(libpq.PQconninfoFree)> parsed(
      libpq.PQconninfoParse(url.c_str(), &error), libpq.PQconninfoFree);
  if (error != nullptr) libpq.PQfreemem(error);  // it quotes the URL, with the password perhaps
  const std::unexpected<std::string> no_url(
      "cluster.store is not a URL as PostgreSQL wants it: "
      "postgres://user:password@host:5432/database, with %40 for an @ in the password, and so on");
  if (!parsed) return no_url;
  Target target;
  target.secrets_.push_back(url);
  std::string names, addresses, ports;
  bool is_sound = url.starts_with("postgres://") || url.starts_with("postgresql://");
  bool has_attributes = false;
  bool has_gss = false;
  for (const PQconninfoOption* each = parsed.get(); each->keyword != nullptr; ++each) {
    if (each->val == nullptr) continue;
    const std::string keyword = each->keyword;
    const std::string value = each->val;
    if (keyword == "host")
      names = value;
    else if (keyword == "hostaddr")
      addresses = value;
    else if (keyword == "port")
      ports = value;
    else
      target.options_.emplace_back(keyword, value);
    is_sound &= keyword != "dbname" || is_database(value);
    has_attributes |= keyword == "target_session_attrs";
    has_gss |= keyword == "gssencmode";
    if (keyword.ends_with("password") && !value.empty()) target.secrets_.push_back(value);
  }
  if (!is_sound) return no_url;
  const auto name_list = parts(names);
  const auto address_list = parts(addresses);
  const auto port_list = parts(ports);
  for (std::size_t i = 0; i < std::max(name_list.size(), address_list.size()); ++i) {
    target.hosts_.push_back({.name = i < name_list.size() ? name_list[i] : "",
                             .address = i < address_list.size() ? address_list[i] : "",
                             .port = at_or_only(port_list, i)});
    const Host& host = target.hosts_.back();
    if (!is_host(host.name) || !is_host(host.address) || !is_port(host.port)) return no_url;
  }
  // Of several servers only one takes writes.
  if (target.hosts_.size() > 1 && !has_attributes) {
    target.options_.emplace_back("target_session_attrs", "read-write");
  }
  // Asking a Kerberos server would block, for what hardly anybody has.
  if (!has_gss) target.options_.emplace_back("gssencmode", "disable");
  return target;
}

PGconn* Target::start(const Libpq& libpq, const Host& host, const std::string& application) const {
  std::vector<const char*> keywords, values;
  const auto add = [&](const char* keyword, const std::string& value) {
    if (value.empty()) return;
    keywords.push_back(keyword);
    values.push_back(value.c_str());
  };
  add("host", host.name);
  add("hostaddr", host.address);
  add("port", host.port);
  for (const auto& [keyword, value] : options_) add(keyword.c_str(), value);
  const std::string encoding = "UTF8";
  add("client_encoding", encoding);
  add("fallback_application_name", application);
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  return libpq.PQconnectStartParams(keywords.data(), values.data(), 0);
}

std::string Target::without_secrets(std::string text) const {
  for (const std::string& secret : secrets_) replace_all(text, secret, "…");
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace keelback::postgres
