#include "bench/agent_process.h"

#include <fmt/format.h>

#include "bench/agent.h"

namespace keelback::bench {

std::expected<LineProcess, std::string> start_agent(const std::string& program) {
  auto agent = LineProcess::start({program, "bench", "agent"});
  if (!agent) return agent;
  const auto hello = agent->ask({{"op", "hello"}});
  if (!hello) return std::unexpected(fmt::format("{}: {}", program, hello.error()));
  if (hello->value("protocol", 0) != kAgentProtocol) {
    return std::unexpected(fmt::format("{} speaks agent protocol {}, this program {}", program,
                                       hello->value("protocol", 0), kAgentProtocol));
  }
  return agent;
}

}  // namespace keelback::bench
