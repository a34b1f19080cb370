#include "bench/agent_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>

#include "bench/agent.h"
#include "os/process.h"

namespace keelback::bench {

std::expected<AgentProcess, std::string> AgentProcess::start(const std::string& program) {
  auto orders = os::make_pipe();
  auto answers = os::make_pipe();
  if (!orders || !answers) return std::unexpected("no pipes are to be had");
  const std::array<int, 3> fds{orders->read.get(), answers->write.get(), STDERR_FILENO};
  const auto pid = os::spawn({program, "bench", "agent"}, fds);
  if (!pid) return std::unexpected(fmt::format("{} cannot be started", program));
  AgentProcess agent;
  agent.pid_.value = *pid;
  agent.to_ = std::move(orders->write);
  agent.from_ = std::move(answers->read);
  orders->read.reset();
  answers->write.reset();
  auto hello = agent.ask({{"op", "hello"}});
  if (!hello) return std::unexpected(fmt::format("{}: {}", program, hello.error()));
  if (hello->value("protocol", 0) != kAgentProtocol) {
    return std::unexpected(fmt::format("{} speaks agent protocol {}, this program {}", program,
                                       hello->value("protocol", 0), kAgentProtocol));
  }
  agent.identity_ = std::move(*hello);
  return agent;
}

AgentProcess& AgentProcess::operator=(AgentProcess&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::move(other.pid_);
    to_ = std::move(other.to_);
    from_ = std::move(other.from_);
    buffer_ = std::move(other.buffer_);
    identity_ = std::move(other.identity_);
  }
  return *this;
}

AgentProcess::~AgentProcess() { end(); }

// End of file ends the agent in order; one that does not go within a second is killed, and its
// pool's guard ends the rest.
void AgentProcess::end() {
  to_.reset();
  from_.reset();
  if (pid_.value < 0) return;
  if (auto handle = os::Pidfd::open(pid_.value)) {
    if (!handle->wait_dead(std::chrono::seconds(1)).value_or(false))
      (void)handle->send_signal(SIGKILL);
  }
  (void)os::reap_own_child(pid_.value);
  pid_.value = -1;
}

std::expected<nlohmann::json, std::string> AgentProcess::ask(const nlohmann::json& order) {
  const std::string text = order.dump() + "\n";
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(to_.get(), text.data() + at, text.size() - at);
    if (n <= 0) return std::unexpected("the agent is gone");
    at += static_cast<std::size_t>(n);
  }
  std::size_t end_of_line;
  while ((end_of_line = buffer_.find('\n')) == std::string::npos) {
    char chunk[65536];
    const auto n = os::read_some(from_.get(), chunk, sizeof chunk);
    if (!n || *n == 0) {
      return std::unexpected(fmt::format("the agent died during '{}'", order.value("op", "?")));
    }
    buffer_.append(chunk, *n);
  }
  auto answer = nlohmann::json::parse(buffer_.substr(0, end_of_line), nullptr, false);
  buffer_.erase(0, end_of_line + 1);
  if (!answer.is_object()) return std::unexpected("the agent answered something that is not JSON");
  if (!answer.value("ok", false))
    return std::unexpected(answer.value("error", "the agent gave no reason"));
  return answer;
}

}  // namespace keelback::bench
