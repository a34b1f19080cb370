#include "cli/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace keelback::cli {
namespace {

struct Decoded {
  std::uint32_t code = 0;
  std::size_t length = 0;  // 0: the first byte begins no character
};

// Requires: text is not empty.
Decoded decode(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return {};
  std::uint32_t code = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3FU);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kLeast[length] || code > 0x10FFFF || surrogate) return {};
  return {code, length};
}

bool is_harmful(std::uint32_t code) {
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
    const Decoded character = decode(text);
    if (character.length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
      continue;
    }
    if (!is_harmful(character.code)) {
      out += text.substr(0, character.length);
    } else if (character.code < 0x80) {
      out += fmt::format("\\x{:02x}", character.code);
    } else {
      out += fmt::format("\\u{:04x}", character.code);
    }
    text.remove_prefix(character.length);
  }
  return out;
}

}  // namespace keelback::cli
