// What was seen of a deed, in words, or why there is nothing to see.
#pragma once

#include <expected>
#include <string>

namespace keelback::chaos {

using Evidence = std::expected<std::string, std::string>;

}  // namespace keelback::chaos
