#include "cli/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/utf8.h"

namespace keelback::cli {
namespace {

bool is_harmful(char32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029 ||
         code == 0x061C || code == 0x200E || code == 0x200F || (code >= 0x202A && code <= 0x202E) ||
         (code >= 0x2066 && code <= 0x2069);
}

bool is_plain(char c) { return (c >= 0x20 && c < 0x7F) || c == '\t'; }

}  // namespace

std::string printable(std::string_view text, std::string_view margin) {
  if (std::ranges::all_of(text, is_plain)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    if (is_plain(text[0])) {
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    if (text[0] == '\n') {
      text.remove_prefix(1);
      out += '\n';
      if (!text.empty()) out += margin;
      continue;
    }
    const Utf8Character character = first_character(text);
    if (character.length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
      continue;
    }
    if (!is_harmful(character.code)) {
      out += text.substr(0, character.length);
    } else if (character.code < 0x80) {
      out += fmt::format("\\x{:02x}", std::uint32_t{character.code});
    } else {
      out += fmt::format("\\u{:04x}", std::uint32_t{character.code});
    }
    text.remove_prefix(character.length);
  }
  return out;
}

}  // namespace keelback::cli
