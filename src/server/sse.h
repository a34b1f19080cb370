// Server-sent events, as text. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "keelback/outcome.h"

namespace keelback::server {

// "event: NAME\ndata: …\n\n"; each line of the data gets its own "data: ".
void append_event(std::string& out, std::string_view name, std::string_view data);
// The last event: "end" with {outcome, effect, items, …} for ok, else "error" with the problem.
void append_last_event(std::string& out, const Outcome& outcome, std::uint64_t items);
inline constexpr std::string_view kHeartbeat = ": keep-alive\n\n";
inline constexpr std::string_view kEventStream = "text/event-stream";

}  // namespace keelback::server
