// What the two ends of a stream agree on.
#pragma once

#include <cstdint>

namespace keelback {

// So many items come unasked; each further one is granted by the reader.
inline constexpr std::uint32_t kStreamCredit = 16;

}  // namespace keelback
