// Cuts the argument list of a call into the raw JSON texts of its values. Not a JSON parser: a
// model function answers with the bytes that it was given, and each simulated call comes through
// here, so nothing is parsed or allocated. Tolerant, but never reads past the end and never
// recurses: a hostile payload costs one pass.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace keelback::sim {

// The arguments of one call, borrowed from its payload. No model function takes more than two; a
// ninth argument makes the whole list unreadable, which the function answers with bad_request.
struct Arguments {
  static constexpr std::size_t kMax = 8;
  struct Argument {
    std::string_view name;  // empty: positional
    std::string_view raw;   // the value's JSON text, without surrounding blanks
  };
  std::array<Argument, kMax> items{};
  std::size_t count = 0;

  // The argument called `name`, else the positional one at `position`.
  std::optional<std::string_view> find(std::size_t position, std::string_view name) const;
};

// nullopt: the text is neither an object nor an array, or does not end where it should.
std::optional<Arguments> read_arguments(std::string_view json);

// 12, 12.0 and 12.7 are 12; nullopt for what is no number or does not fit.
std::optional<std::int64_t> as_integer(std::string_view raw);
}  // namespace keelback::sim
