#include "chaos/nodes/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include "chaos/lab.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kLeaseMs = 30 * 60 * 1000;  // no run takes longer
constexpr auto kDeathLimit = 10s;

std::expected<pid_t, std::string> spawn(const std::vector<std::string>& argv,
                                        const std::string& log) {
  const auto null = os::open_null();
  const os::Fd out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!null || !out) return std::unexpected(fmt::format("{} cannot be written", log));
  const int fds[] = {null->get(), out.get(), out.get()};
  const auto pid = os::spawn(argv, fds);
  if (!pid) return std::unexpected(fmt::format("{}: {}", argv.front(), pid.error().message()));
  return *pid;
}

}  // namespace

std::expected<void, std::string> Child::start(Processes& processes, const std::string& name,
                                              const std::vector<std::string>& argv,
                                              const std::string& log) {
  kill();
  const auto pid = spawn(argv, log);
  if (!pid) return std::unexpected(pid.error());
  pid_ = *pid;
  processes_ = &processes;
  name_ = fmt::format("{} {}", name, pid_);
  const auto stat = os::read_stat(pid_);
  const auto armed = stat ? processes.arm(name_, {.lease_ms = kLeaseMs,
                                                  .kind = Undo::Kind::kKill,
                                                  .pid = pid_,
                                                  .start_time = stat->start_time})
                          : std::unexpected("it is gone already");
  if (armed) return {};
  kill();
  return std::unexpected(
      fmt::format("the warden could not be told of {}: {}", name, armed.error()));
}

bool Child::signal(int number) const { return pid_ != 0 && ::kill(pid_, number) == 0; }

Evidence Child::wait(Duration limit) {
  if (pid_ == 0) return std::unexpected("there is no process");
  const auto handle = os::Pidfd::open(pid_);
  const auto dead = handle ? handle->wait_dead(std::chrono::ceil<std::chrono::milliseconds>(limit))
                           : os::Result<bool>(true);
  if (!dead || !*dead) return std::unexpected(fmt::format("process {} did not end", pid_));
  const auto status = os::reap_own_child(pid_);
  const pid_t pid = std::exchange(pid_, 0);
  static_cast<void>(processes_->undo(name_));
  if (!status) return fmt::format("process {} ended", pid);
  return WIFSIGNALED(*status)
             ? fmt::format("process {} ended by signal {}", pid, WTERMSIG(*status))
             : fmt::format("process {} ended with exit code {}", pid, WEXITSTATUS(*status));
}

void Child::kill() {
  if (pid_ == 0) return;
  signal(SIGKILL);
  static_cast<void>(wait(kDeathLimit));
}

std::expected<std::string, std::string> output_of(const std::vector<std::string>& argv,
                                                  const std::string& log, Duration limit) {
  const auto pid = spawn(argv, log);
  if (!pid) return std::unexpected(pid.error());
  const auto handle = os::Pidfd::open(*pid);
  const auto dead = handle ? handle->wait_dead(std::chrono::ceil<std::chrono::milliseconds>(limit))
                           : os::Result<bool>(true);
  if (!dead || !*dead) ::kill(*pid, SIGKILL);
  const auto status = os::reap_own_child(*pid);
  std::string text = read_file(log).value_or("");
  if (status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0) return text;
  return std::unexpected(fmt::format("{} failed: {}", argv.front(), text));
}

}  // namespace keelback::chaos
