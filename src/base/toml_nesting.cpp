#include "base/toml_nesting.h"

namespace keelback {
namespace {

// The index behind the string that begins at `at` with a quote. A string of one line ends with its
// line, closed or not, so that a mistake in one line hides nothing of the next.
std::size_t behind_string(std::string_view text, std::size_t at) {
  const char quote = text[at];
  const std::string three(3, quote);
  const bool escapes = quote == '"';
  if (text.substr(at).starts_with(three)) {
    for (std::size_t i = at + 3; i < text.size(); ++i) {
      if (escapes && text[i] == '\\') {
        ++i;
      } else if (text.substr(i).starts_with(three)) {
        i += 3;
        // One or two quotes may stand before the closing three.
        for (int more = 0; more < 2 && i < text.size() && text[i] == quote; ++more) ++i;
        return i;
      }
    }
    return text.size();
  }
  for (std::size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '\n') return i;
    if (text[i] == quote) return i + 1;
    if (escapes && text[i] == '\\' && i + 1 < text.size() && text[i + 1] != '\n') ++i;
  }
  return text.size();
}

}  // namespace

std::optional<TomlTooDeep> toml_too_deep(std::string_view text) {
  std::size_t line = 1;
  std::size_t dots = 0;  // since anything that ends a key
  std::size_t brackets = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"' || c == '\'') {
      const std::size_t end = behind_string(text, i);
      for (; i < end; ++i) line += text[i] == '\n' ? 1 : 0;
      continue;
    }
    ++i;
    switch (c) {
      case '#':
        while (i < text.size() && text[i] != '\n') ++i;
        break;
      case '\n':
        ++line;
        dots = 0;
        break;
      case '=':
      case ',':
        dots = 0;
        break;
      case '.':
        if (++dots > kTomlKeyDotsMax) {
          return TomlTooDeep{line,
                             "a key has more than " + std::to_string(kTomlKeyDotsMax) + " dots"};
        }
        break;
      case '[':
      case '{':
        dots = 0;
        if (++brackets > kTomlBracketsMax) {
          return TomlTooDeep{
              line, "values nest deeper than " + std::to_string(kTomlBracketsMax) + " levels"};
        }
        break;
      case ']':
      case '}':
        dots = 0;
        if (brackets > 0) --brackets;
        break;
      default:
        break;
    }
  }
  return std::nullopt;
}

}  // namespace keelback
