// Chance from the operating system: nobody can guess it. Any thread; does not block.
#pragma once

#include <cstdint>
#include <string>

namespace keelback::os {

std::uint64_t random_word();  // never 0
std::string random_text();    // 128 bits as 32 hex digits

}  // namespace keelback::os
