// Words of HTTP: field names, media types, schemes.
#pragma once

#include <boost/beast/core/string.hpp>
#include <string_view>

namespace keelback::httptext {

// Whether they differ in the case of ASCII letters only.
inline bool same_word(std::string_view a, std::string_view b) {
  return boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

}  // namespace keelback::httptext
