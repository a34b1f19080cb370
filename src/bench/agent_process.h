// The coordinator's end of an agent.
#pragma once

#include <string>

#include "bench/line_process.h"

namespace keelback::bench {

// Starts `program bench agent` and checks its protocol version. Blocks until it answers.
std::expected<LineProcess, std::string> start_agent(const std::string& program);

}  // namespace keelback::bench
