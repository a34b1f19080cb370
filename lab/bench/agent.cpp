#include "bench/agent.h"

#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include <filesystem>

#include "bench/agent_orders.h"
#include "bench/machine.h"
#include "bench/pool_under_test.h"

namespace keelback::bench {

using Json = nlohmann::json;

class Agent::Impl {
 public:
  Json perform(const Json& order) {
    const std::string op = order.value("op", "");
    if (op == "hello") return hello();
    if (op == "start") return pool_.start(order);
    if (op == "stop") return pool_.stop();
    if (!pool_.running()) return refusal("no pool is running: start one first");
    if (op == "window") return closed_window(pool_, order);
    if (op == "open") return open_window(pool_, order);
    if (op == "affinity") return affinity(pool_, order);
    if (op == "neighbour") return neighbour(pool_, order);
    if (op == "attachment") return attachment(pool_, order);
    if (op == "pile") return pile(pool_, order);
    if (op == "queue") return queue_cost(pool_, order);
    if (op == "recover") return recover(pool_, order);
    if (op == "kill_all") return kill_all(pool_, order);
    if (op == "recycle") return recycle(pool_);
    if (op == "memory") return memory(pool_);
    if (op == "growth") return memory_growth(pool_, order);
    if (op == "counters") return counters(pool_, order);
    if (op == "calls") return calls(pool_, order);
    if (op == "idle") return idle(pool_, order);
    return refusal(fmt::format("unknown order '{}'", op));
  }

 private:
  static Json hello() {
    return {{"ok", true},
            {"protocol", kAgentProtocol},
            {"pid", ::getpid()},
            {"executable", std::filesystem::read_symlink("/proc/self/exe").string()},
            {"build", build_text()}};
  }

  PoolUnderTest pool_;
};

Agent::Agent() : impl_(std::make_unique<Impl>()) {}
Agent::~Agent() = default;

Json Agent::perform(const Json& order) {
  try {
    return impl_->perform(order);
  } catch (const std::exception& error) {  // nlohmann and <filesystem> throw; our code does not
    return refusal(error.what());
  }
}

int serve_agent(int in, int out) {
  Agent agent;
  FILE* input = ::fdopen(in, "r");
  if (!input) return 2;
  char* line = nullptr;
  std::size_t capacity = 0;
  while (::getline(&line, &capacity, input) > 0) {
    const Json order = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const Json answer = order.is_object() ? agent.perform(order) : refusal("not a JSON object");
    const std::string text = answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    bool whole = true;
    for (std::size_t at = 0; whole && at < text.size();) {  // a pipe may take less at a time
      const ssize_t n = ::write(out, text.data() + at, text.size() - at);
      whole = n > 0;
      if (whole) at += static_cast<std::size_t>(n);
    }
    if (!whole) break;
  }
  ::free(line);
  ::fclose(input);
  return 0;
}

}  // namespace keelback::bench
