// The coordinator's end of an agent.
#pragma once

#include <string>

#include "bench/line_process.h"

namespace keelback::bench {

// Starts `program bench agent` and checks that it is that program and speaks our protocol. Blocks
// until it answers.
std::expected<LineProcess, std::string> start_agent(const std::string& program);
// Heap allocations a call of the agent's process, all of its threads together, with one caller:
// counted in an agent of its own, started by `start`, which has the counting library in front of
// libc. The error: it cannot be counted, for instance under a sanitizer.
std::expected<double, std::string> allocations_per_call(const std::string& program,
                                                        const nlohmann::json& start,
                                                        const std::string& function,
                                                        const std::string& payload, unsigned calls);
// How that program was built: compiler and sanitizer.
std::expected<std::string, std::string> build_of(const std::string& program);

// System calls a call, of one caller, counted. `started`: the answer to the start order.
struct SystemCalls {
  double caller = 0;  // all threads of the agent
  double worker = 0;  // all workers together
};
std::expected<SystemCalls, std::string> system_calls_per_call(LineProcess& agent,
                                                              const nlohmann::json& started,
                                                              const std::string& function,
                                                              const std::string& payload,
                                                              unsigned calls);

}  // namespace keelback::bench
