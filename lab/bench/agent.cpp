#include "bench/agent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "bench/agent_orders.h"
#include "bench/machine.h"

namespace keelback::bench {
namespace {

using Json = nlohmann::json;

constexpr std::pair<std::string_view, Json (*)(PoolUnderTest&, const Json&)> kOrders[] = {
    {"window", closed_window},  {"open", open_window},  {"wave", wave},
    {"settle", settle},         {"affinity", affinity}, {"neighbour", neighbour},
    {"attachment", attachment}, {"host", host_window},  {"pile", pile},
    {"queue", queue_cost},      {"recover", recover},   {"kill_all", kill_all},
    {"recycle", recycle},       {"memory", memory},     {"growth", memory_growth},
    {"counters", counters},     {"calls", calls},       {"idle", idle}};

Json perform(PoolUnderTest& pool, const Json& order) {
  const std::string op = order.value("op", "");
  if (op == "hello")
    return {{"ok", true},
            {"protocol", kAgentProtocol},
            {"pid", ::getpid()},
            {"executable", std::filesystem::read_symlink("/proc/self/exe").string()},
            {"build", build_text()}};
  if (op == "start") return pool.start(order);
  if (op == "stop") return pool.stop();
  if (!pool.running()) return refusal("no pool is running: start one first");
  for (const auto& [name, act] : kOrders) {
    if (op == name) return act(pool, order);
  }
  return refusal(fmt::format("unknown order '{}'", op));
}

// An order that cannot be done is refused.
Json answer(PoolUnderTest& pool, const std::string& line) {
  try {
    const Json order = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    return order.is_object() ? perform(pool, order) : refusal("not a JSON object");
  } catch (const std::exception& error) {  // nlohmann and <filesystem> throw; our code does not
    return refusal(error.what());
  }
}

}  // namespace

int serve_agent() {
  PoolUnderTest pool;
  for (std::string line; std::cout && std::getline(std::cin, line);)
    std::cout << answer(pool, line).dump(-1, ' ', false, Json::error_handler_t::replace)
              << std::endl;
  return 0;
}

}  // namespace keelback::bench
