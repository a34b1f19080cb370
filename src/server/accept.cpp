#include "server/accept.h"

#include <algorithm>
#include <cctype>

#include "httptext/same_word.h"

namespace keelback::server {
namespace {

std::string_view without_spaces(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

// A token of RFC 9110.
bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

// "q=0", "q=0.000": what has it is not wanted.
bool is_refused(std::string_view parameters) {
  while (!parameters.empty()) {
    const auto semicolon = parameters.find(';');
    const std::string_view each = without_spaces(parameters.substr(0, semicolon));
    if (each.size() > 2 && (each[0] == 'q' || each[0] == 'Q') && each[1] == '=') {
      return each.substr(2).find_first_not_of("0.") == std::string_view::npos;
    }
    if (semicolon == std::string_view::npos) return false;
    parameters.remove_prefix(semicolon + 1);
  }
  return false;
}

}  // namespace

std::string_view media_type(std::string_view text) {
  return without_spaces(text.substr(0, text.find(';')));
}

bool is_media_type(std::string_view text) {
  const std::string_view type = media_type(text);
  const auto slash = type.find('/');
  return slash != std::string_view::npos && is_token(type.substr(0, slash)) &&
         is_token(type.substr(slash + 1)) && type.find('*') == std::string_view::npos &&
         std::ranges::all_of(text, [](char c) { return c >= 32 && c < 127; });
}

Taken taken(std::string_view accept, std::string_view type) {
  if (without_spaces(accept).empty()) return Taken::kAsAnything;
  type = media_type(type);
  const std::string_view kind = type.substr(0, type.find('/') + 1);  // "image/"
  Taken best = Taken::kNo;
  bool wanted = false;
  while (!accept.empty()) {
    const auto comma = accept.find(',');
    const std::string_view range = accept.substr(0, comma);
    const std::string_view named = media_type(range);
    Taken how = Taken::kNo;
    if (httptext::same_word(named, type)) {
      how = Taken::kByName;
    } else if (named.size() == kind.size() + 1 && named.ends_with("/*") &&
               httptext::same_word(named.substr(0, kind.size()), kind)) {
      how = Taken::kAsItsKind;
    } else if (named == "*/*") {
      how = Taken::kAsAnything;
    }
    if (how > best) {
      best = how;
      const auto semicolon = range.find(';');
      wanted = semicolon == std::string_view::npos || !is_refused(range.substr(semicolon + 1));
    }
    if (comma == std::string_view::npos) break;
    accept.remove_prefix(comma + 1);
  }
  return wanted ? best : Taken::kNo;
}

}  // namespace keelback::server
