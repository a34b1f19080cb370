// Words of Outcome::reason that several folders know.
#pragma once

#include <string_view>

namespace keelback {

inline constexpr std::string_view kNotOwner = "not_owner";
inline constexpr std::string_view kNoSession = "no_such_session";

}  // namespace keelback
