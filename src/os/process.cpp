#include "os/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace keelback::os {

Result<Pidfd> Pidfd::open(pid_t pid) {
  if (int error = fault::next()) return failure(error);
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));  // always closed on exec
  if (fd < 0) return last_failure();
  return Pidfd(Fd(fd));
}

Result<void> Pidfd::send_signal(int signal) const {
  if (int error = fault::next()) return failure(error);
  if (::syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0) < 0) return last_failure();
  return {};
}

Result<bool> Pidfd::wait_dead(std::chrono::milliseconds limit) const {
  pollfd entry{fd_.get(), POLLIN, 0};
  const auto until = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    const int ready = ::poll(&entry, 1, std::max(0, static_cast<int>(left.count())));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return last_failure();
  }
}

Result<void> kill_group(pid_t group) {
  if (int error = fault::next()) return failure(error);
  if (group <= 1) return failure(EINVAL);  // 0 is our own group, 1 and -1 are all processes
  if (::kill(-group, SIGKILL) < 0) return last_failure();
  return {};
}

Result<void> signal_thread(pid_t pid, pid_t thread, int signal) {
  if (int error = fault::next()) return failure(error);
  if (::syscall(SYS_tgkill, pid, thread, signal) < 0) return last_failure();
  return {};
}

Result<void> limit_data(pid_t pid, std::uint64_t bytes) {
  if (int error = fault::next()) return failure(error);
  rlimit limit{};
  if (::prlimit(pid, RLIMIT_DATA, nullptr, &limit) < 0) return last_failure();
  limit.rlim_max = std::min<rlim_t>(limit.rlim_max, bytes);
  limit.rlim_cur = limit.rlim_max;
  if (::prlimit(pid, RLIMIT_DATA, &limit, nullptr) < 0) return last_failure();
  return {};
}

std::uint64_t draw_kin() {
  constexpr std::uint64_t kHighest = std::uint64_t{1} << 62;  // microseconds
  constexpr std::uint64_t kSpan = std::uint64_t{1} << 40;
  rlimit limit{};
  if (::getrlimit(RLIMIT_RTTIME, &limit) < 0) return 0;
  // A supervisor below another one's worker has a kin already, and can only go lower.
  const std::uint64_t highest = std::min<std::uint64_t>(limit.rlim_max, kHighest);
  std::uint64_t chance = 0;
  if (::getrandom(&chance, sizeof(chance), GRND_NONBLOCK) != sizeof(chance)) return 0;
  return highest > kSpan ? highest - 1 - chance % kSpan : 0;
}

bool take_kin(std::uint64_t kin) {
  const rlimit limit{kin, kin};
  return kin != 0 && ::setrlimit(RLIMIT_RTTIME, &limit) == 0;
}

bool is_kin(pid_t pid, std::uint64_t kin) {
  rlimit limit{};
  return kin != 0 && ::prlimit(pid, RLIMIT_RTTIME, nullptr, &limit) == 0 && limit.rlim_max == kin;
}

Result<pid_t> spawn(const std::vector<std::string>& argv, std::span<const int> fds) {
  if (int error = fault::next()) return failure(error);
  // First moves the sources to numbers above the targets, so that no dup2 closes a later source.
  std::vector<Fd> sources;
  for (int fd : fds) {
    auto copy = duplicate(fd, static_cast<int>(fds.size()) + 16);
    if (!copy) return std::unexpected(copy.error());
    sources.push_back(std::move(*copy));
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    ::posix_spawn_file_actions_adddup2(&actions, sources[i].get(), static_cast<int>(i));
  }
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return failure(error);
  return pid;
}

Result<int> reap_own_child(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return last_failure();
  }
  return status;
}

bool try_to_reap(pid_t pid, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const pid_t reaped = ::waitpid(pid, nullptr, WNOHANG);
    if (reaped != 0 && !(reaped < 0 && errno == EINTR)) return true;
    if (std::chrono::steady_clock::now() >= until) return false;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

void forbid_inspection() {
  const char* open = ::getenv("KEELBACK_INSPECTABLE");
  if (open == nullptr || std::strcmp(open, "1") != 0) ::prctl(PR_SET_DUMPABLE, 0);
}

void forget_variable(const char* name) {
  if (char* value = ::getenv(name)) ::explicit_bzero(value, std::strlen(value));
  ::unsetenv(name);
}

Result<std::uint64_t> fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return last_failure();
  return limit.rlim_cur;
}

}  // namespace keelback::os
