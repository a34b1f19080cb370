// A process that the laboratory has started: the warden knows how to end it, and it ends with this
// object. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <expected>
#include <string>
#include <vector>

#include "base/time.h"
#include "chaos/evidence.h"
#include "chaos/processes.h"

namespace keelback::chaos {

class Child {
 public:
  Child() = default;
  ~Child() { kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // What it writes is appended to the file `log`. `name`: what the warden calls it.
  [[nodiscard]] std::expected<void, std::string> start(Processes& processes,
                                                       const std::string& name,
                                                       const std::vector<std::string>& argv,
                                                       const std::string& log);
  pid_t pid() const { return pid_; }  // 0: there is none
  bool signal(int number) const;
  // Blocks until it has ended. The error: it has not.
  Evidence wait(Duration limit);
  void kill();  // SIGKILL; blocks until it has ended

 private:
  Processes* processes_ = nullptr;
  std::string name_;
  pid_t pid_ = 0;
};

// Runs a program to its end. The error has what it wrote.
[[nodiscard]] std::expected<std::string, std::string> output_of(
    const std::vector<std::string>& argv, const std::string& log, Duration limit);

}  // namespace keelback::chaos
