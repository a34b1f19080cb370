// The sentences that callers and operators read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/time.h"
#include "core/session_table.h"
#include "core/tombstones.h"
#include "keelback/outcome.h"

namespace keelback::core {

// "signal 9", "exit code 3", "a failed start (setup): …": how a worker ended, as part of a
// sentence.
std::string describe(const Death& death);
// "200ms", "5s", "1.5s".
std::string describe(Duration duration);
// Why a call is refused whose like has killed so many workers in a row; for how long it still is.
std::string held_back(std::uint32_t deaths, Duration remaining);
// Why a call of a session is refused whose function takes several calls at once.
std::string no_session_of_batch(std::string_view function);
// Why a session is over, as a full sentence that says what to do.
// `limit`: what it was over when it expired. death null: of a loss, nothing usable is stored of it.
std::string session_over(SessionOver why, std::string_view id, Duration limit, const Death* death);

}  // namespace keelback::core
