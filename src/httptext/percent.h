// Percent encoding of URLs (RFC 3986). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace keelback::httptext {

// %XX becomes its byte; nullopt on a broken escape. plus_is_space: in queries.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// One segment of a path: all but letters, digits and "_-.~" is escaped.
std::string percent_encode(std::string_view text);

}  // namespace keelback::httptext
