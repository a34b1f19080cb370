#include "bench/syscall_counter.h"

#include <fmt/format.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

namespace keelback::bench {
namespace {

// One traced thread. A stop is an entry and an exit in turn; entries count.
struct Traced {
  pid_t process = 0;
  bool inside = false;
  bool gone = false;
};

class Tracer {
 public:
  // Every thread of the process, until a look finds no new one.
  std::string attach(pid_t process) {
    for (bool found = true; found;) {
      found = false;
      std::error_code error;
      const std::filesystem::directory_iterator tasks(fmt::format("/proc/{}/task", process), error);
      if (error) return fmt::format("process {} is gone", process);
      for (const auto& entry : tasks) {
        const auto thread = static_cast<pid_t>(std::stol(entry.path().filename().string()));
        if (threads_.contains(thread)) continue;
        if (::ptrace(PTRACE_SEIZE, thread, nullptr, PTRACE_O_TRACESYSGOOD) != 0) {
          if (errno == ESRCH) continue;
          return fmt::format("tracing is not allowed: {}", ::strerror(errno));
        }
        threads_[thread] = {.process = process};
        found = true;
        // Only a stopped thread can be told to stop at system calls.
        ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
        wait_stopped(thread);
        ::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr);
      }
    }
    return {};
  }

  // Handles stops until `over`.
  void run(const std::atomic<bool>& over) {
    while (!over) {
      if (!handle_one()) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

  void detach() {
    for (auto& [thread, state] : threads_) {
      if (state.gone) continue;
      ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
      const int status = wait_stopped(thread);
      if (status < 0) continue;
      // A signal on its way is handed on.
      const int signal = WSTOPSIG(status);
      const bool real = status >> 16 == 0 && signal != (SIGTRAP | 0x80) && signal != SIGTRAP;
      ::ptrace(PTRACE_DETACH, thread, nullptr, real ? signal : 0);
    }
  }

  const std::map<pid_t, std::uint64_t>& counts() const { return counts_; }

 private:
  // The status of its stop; -1: it is gone.
  int wait_stopped(pid_t thread) {
    int status = 0;
    pid_t got;
    while ((got = ::waitpid(thread, &status, __WALL)) < 0 && errno == EINTR) {
    }
    if (got == thread && WIFSTOPPED(status)) return status;
    threads_[thread].gone = true;
    return -1;
  }

  // Only threads that we trace are waited for: the program's other children are not ours to reap.
  bool handle_one() {
    bool any = false;
    for (auto& [thread, state] : threads_) {
      int status = 0;
      if (state.gone || ::waitpid(thread, &status, __WALL | WNOHANG) != thread) continue;
      any = true;
      if (!WIFSTOPPED(status)) {
        state.gone = true;
        continue;
      }
      const int signal = WSTOPSIG(status);
      if (signal == (SIGTRAP | 0x80)) {
        state.inside = !state.inside;
        counts_[state.process] += state.inside;
        ::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr);
      } else if (status >> 16 != 0) {  // an event of ptrace itself, such as our interrupt
        ::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr);
      } else {
        ::ptrace(PTRACE_SYSCALL, thread, nullptr, signal);
      }
    }
    return any;
  }

  std::map<pid_t, Traced> threads_;
  std::map<pid_t, std::uint64_t> counts_;
};

}  // namespace

std::expected<std::map<pid_t, std::uint64_t>, std::string> count_system_calls(
    const std::vector<pid_t>& pids, const std::function<void()>& work) {
  Tracer tracer;  // all of ptrace(2) happens on this thread: it belongs to the one that attached
  for (const pid_t pid : pids) {
    if (auto error = tracer.attach(pid); !error.empty()) {
      tracer.detach();
      return std::unexpected(error);
    }
  }
  std::atomic<bool> over{false};
  {
    std::jthread worker([&] {
      work();
      over = true;
    });
    tracer.run(over);
  }
  tracer.detach();
  return tracer.counts();
}

}  // namespace keelback::bench
