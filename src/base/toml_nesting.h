// Whether a TOML text is safe to give to a parser that uses a stack frame per level.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace keelback {

inline constexpr std::size_t kTomlKeyDotsMax = 16;   // of one key, or one table's name
inline constexpr std::size_t kTomlBracketsMax = 32;  // arrays and inline tables in one another

struct TomlTooDeep {
  std::size_t line;  // from 1
  std::string why;   // "a key has more than 16 dots"
};

// The first place where the text nests deeper; nullopt: nowhere. What is built of a text that
// passes has at most kTomlKeyDotsMax * (kTomlBracketsMax + 2) levels. Reads strings and comments as
// TOML has them; of a text that is not TOML it may say either.
std::optional<TomlTooDeep> toml_too_deep(std::string_view text);

}  // namespace keelback
