// A child process that answers JSON lines with JSON lines; gone when this object is.
#pragma once

#include <sys/types.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "os/fd.h"

namespace keelback::bench {

class LineProcess {
 public:
  enum class Stderr : bool { kOurs, kNowhere };
  // Starts argv (argv[0] is a path).
  static std::expected<LineProcess, std::string> start(const std::vector<std::string>& argv,
                                                       Stderr where = Stderr::kOurs);
  LineProcess(LineProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        to_(std::move(other.to_)),
        from_(std::move(other.from_)),
        buffer_(std::move(other.buffer_)) {}
  LineProcess& operator=(LineProcess&& other) noexcept;
  ~LineProcess() { end(); }

  // Blocks until the answer is there. The error: what the process gave as "error", or that it died.
  std::expected<nlohmann::json, std::string> ask(const nlohmann::json& order);
  // The next line that it prints by itself, as JSON. Blocks.
  std::expected<nlohmann::json, std::string> next();
  pid_t pid() const { return pid_; }

 private:
  LineProcess() = default;
  // End of file asks it to leave; one that has not left within 3 s is killed.
  void end();

  pid_t pid_ = -1;
  os::Fd to_, from_;
  std::string buffer_;
};

}  // namespace keelback::bench
