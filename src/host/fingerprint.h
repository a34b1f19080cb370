// 64 bits that name a request: function, session and payload. The same request in one process gives
// the same number; no promise beyond that.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/hash.h"

namespace keelback::host {

inline std::uint64_t fingerprint(std::string_view function, std::string_view session,
                                 std::string_view payload) {
  return seeded_hash(payload, seeded_hash(session, seeded_hash(function, 1)));
}

}  // namespace keelback::host
