// Words of Outcome::reason that several folders know.
#pragma once

#include <string_view>

namespace keelback {

inline constexpr std::string_view kNotOwner = "not_owner";

}  // namespace keelback
