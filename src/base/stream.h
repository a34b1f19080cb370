// What the two ends of a stream agree on.
#pragma once

#include <cstdint>

namespace keelback {

// So many items come without a grant. The reader grants each further one.
inline constexpr std::uint32_t kStreamCredit = 16;

}  // namespace keelback
