// The processes of the pool under test, and the warden that undoes what is done to them. A signal
// or a limit goes only to a process that carries this process's owner token.
//
// Threads: arm() and undo() from any thread, all else from the conductor's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "chaos/evidence.h"
#include "chaos/warden.h"
#include "os/process.h"

namespace keelback::chaos {

class Processes {
 public:
  [[nodiscard]] static std::expected<std::unique_ptr<Processes>, std::string> start(
      const std::string& journal);

  struct Ours {
    os::Pidfd handle;
    std::uint64_t start_time = 0;
  };
  // A handle on a process that is a worker or zygote of this very pool; else why not.
  static std::expected<Ours, std::string> ours(pid_t pid);

  // Sends the signal to all of them first and looks for the proof afterwards: to wait for each
  // death would delay the next signal and the load. They must die, or (`harmless`) take it and live
  // on.
  static Evidence signal(const std::vector<pid_t>& pids, int signal, bool harmless);
  // SIGSTOP; the warden resumes it a little after `at_most`.
  Evidence stop(pid_t pid, Duration at_most);
  // The same for a process that the laboratory has started itself.
  Evidence stop_own(pid_t pid, Duration at_most);
  Evidence resume(pid_t pid);

  // Tells the warden how to undo what is done next under this name.
  [[nodiscard]] std::expected<void, std::string> arm(const std::string& name, Undo record);
  Evidence undo(const std::string& name);
  // When the warden undoes by itself what is planned to last so long.
  static std::uint64_t lease(Duration planned);
  bool armed(const std::string& name);

  pid_t warden() const { return warden_.pid(); }
  // Processes that a fault started and that are still there: the run's residue.
  void left_behind(const std::vector<std::string>& processes);
  const std::vector<std::string>& left() const { return left_; }

 private:
  Processes() = default;
  Evidence stop(const Ours& process, pid_t pid, Duration at_most);
  std::mutex mutex_;  // guards warden_ and armed_
  Warden warden_;
  std::map<std::string, std::uint64_t> armed_;
  std::vector<std::string> left_;
};

}  // namespace keelback::chaos
