// The coordinator's end of an agent: a child process that is gone when this object is.
#pragma once

#include <sys/types.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "os/fd.h"

namespace keelback::bench {

class AgentProcess {
 public:
  // Starts `program bench agent` and checks its protocol version. Blocks until it answers.
  static std::expected<AgentProcess, std::string> start(const std::string& program);
  AgentProcess(AgentProcess&&) noexcept = default;
  AgentProcess& operator=(AgentProcess&&) noexcept;
  ~AgentProcess();

  // Blocks until the answer is there. The error is the agent's own sentence, or that it died.
  std::expected<nlohmann::json, std::string> ask(const nlohmann::json& order);
  const nlohmann::json& identity() const { return identity_; }

 private:
  AgentProcess() = default;
  void end();

  struct Pid {  // moves like the descriptors do
    pid_t value = -1;
    Pid() = default;
    Pid(Pid&& other) noexcept : value(std::exchange(other.value, -1)) {}
    Pid& operator=(Pid&& other) noexcept {
      value = std::exchange(other.value, -1);
      return *this;
    }
  } pid_;
  os::Fd to_, from_;
  std::string buffer_;
  nlohmann::json identity_;
};

}  // namespace keelback::bench
