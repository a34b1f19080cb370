// Numbers in what a client sent.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace keelback::httptext {

// The whole text as a number; nullopt if anything else is in it, or it does not fit.
template <typename T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value, base);
  if (error != std::errc() || end != last || text.empty()) return std::nullopt;
  return value;
}

}  // namespace keelback::httptext
