// What a text is as JSON (RFC 8259), told without building it and without a stack: a text of others
// may nest as deep as it is long, and libraries use a stack frame for each level that they copy,
// print or destroy.
#pragma once

#include <cstddef>
#include <string_view>

namespace keelback {

// What describes an application or a pool nests less deep. Arguments and results are not bound by
// it: they are passed on as they are.
inline constexpr std::size_t kJsonNestingMax = 128;

// True: the text is one JSON value in UTF-8, however deep. O(n), and no memory but a bit per level.
bool is_json(std::string_view text);

// False: brackets outside of strings nest deeper. Says nothing about the rest of the text.
bool json_nests_within(std::string_view text, std::size_t levels);

// Json::parse() for texts of others: discarded if the text is not JSON, or nests deeper than
// kJsonNestingMax. Never throws.
template <class Json>
Json parse_json(std::string_view text) {
  if (!json_nests_within(text, kJsonNestingMax)) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace keelback
