// Processes: handles that cannot be confused by a reused pid, and what /proc says about them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::os {

// Readable when the process is dead (also while it is a zombie).
class Pidfd {
 public:
  Pidfd() = default;
  // The caller must know that `pid` cannot have been reused: it is its own child or a process whose
  // reaper waits for an order.
  static Result<Pidfd> open(pid_t pid);

  int get() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }
  // ESRCH: it is dead. A zombie takes signals without effect.
  Result<void> send_signal(int signal) const;
  // Blocks until the process is dead; false: the time is over.
  Result<bool> wait_dead(std::chrono::milliseconds limit) const;
  void reset() { fd_.reset(); }

 private:
  explicit Pidfd(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

// A signal for one thread of a process, which must be named as surely as for Pidfd::open. ESRCH: it
// is gone.
Result<void> signal_thread(pid_t pid, pid_t thread, int signal);

// Limits how much `pid`, and every process that it starts from now on, may allocate (RLIMIT_DATA:
// heap and private mappings, with those that fork inherits). The limit cannot be raised again.
Result<void> limit_data(pid_t pid, std::uint64_t bytes);

// What tells the descendants of one process from all others, whatever they become: a number in
// RLIMIT_RTTIME, which every fork and exec hands on, and which nobody reads but real-time
// schedulers. It is far above any time that one of those could use up. A process may lower its own,
// and one with CAP_SYS_RESOURCE may set any.
std::uint64_t draw_kin();                   // a new one; 0: there is none to be had
bool take_kin(std::uint64_t kin);           // this process and all below it; async-signal-safe
bool is_kin(pid_t pid, std::uint64_t kin);  // never of kin 0. Waits for nobody

// SIGKILL for a whole group. Only while its leader stands, be it as a zombie: else the number may
// belong to somebody else. ESRCH: nobody is left in it.
Result<void> kill_group(pid_t group);

// A line of /proc/PID/stat.
struct ProcStat {
  char state = '?';              // R S D T t Z X
  pid_t parent = 0;              // ppid
  pid_t group = 0;               // pgrp
  pid_t session = 0;             // sid
  bool exiting = false;          // it is ending, or a zombie
  std::uint64_t threads = 0;     // num_threads
  std::uint64_t start_time = 0;  // clock ticks since boot: names a process for ever, with its pid
  // As wait(2) gives it. Only for a zombie that we may trace (of our own user); else 0.
  int exit_status = 0;
};
Result<ProcStat> read_stat(pid_t pid);
// Parses the text of /proc/PID/stat; nullopt if it is not one.
std::optional<ProcStat> parse_stat(std::string_view text);

struct MemoryUse {
  std::uint64_t resident = 0;  // bytes: Rss
  std::uint64_t own = 0;       // bytes: Private_Clean + Private_Dirty
};
// From smaps_rollup: walks the page tables, about 1 ms for 100 MB.
Result<MemoryUse> read_memory_use(pid_t pid);
// From statm: cheap; counts shared pages as resident too.
Result<std::uint64_t> read_resident_bytes(pid_t pid);
// Of the main thread since its start, from schedstat. A wait counts when it has ended.
struct ProcessorUse {
  std::chrono::nanoseconds ran{0};
  std::chrono::nanoseconds waited{0};  // it was ready to run and had no processor
  friend bool operator==(const ProcessorUse&, const ProcessorUse&) = default;
};
Result<ProcessorUse> read_processor_use(pid_t pid);
// The same of all its threads together. ESRCH: the process is gone.
Result<ProcessorUse> read_processor_use_of_threads(pid_t pid);

// What counts against RLIMIT_DATA, from status: VmData.
Result<std::uint64_t> read_data_bytes(pid_t pid);
// A number of /proc/PID/status by the name of its line, e.g. "VmSize:" in KiB, "SigCgt:" in
// base 16. 0: there is no such line.
Result<std::uint64_t> read_status_number(pid_t pid, std::string_view name, int base = 10);

// Empty: the process is gone.
std::vector<pid_t> threads_of(pid_t pid);
// The numbers of its open descriptors, in no order. ENOENT: the process is gone.
Result<std::vector<int>> descriptors_of(pid_t pid);

// The children of every thread of `pid`. Empty for a dead process.
std::vector<pid_t> children_of(pid_t pid);
// The children, their children, and so on. A process that forks meanwhile may be missed.
std::vector<pid_t> descendants_of(pid_t pid);
// Whether the environment it was started with contains `entry` ("NAME=value").
bool environment_has(pid_t pid, std::string_view entry);

// The rest of the first entry that begins with `prefix` ("NAME="); nullopt: none, or not ours.
std::optional<std::string> environment_value(pid_t pid, std::string_view prefix);
// Whether it maps the memfd with this inode (0: no).
bool maps_inode(pid_t pid, std::uint64_t inode);
// Every process there is in our view of /proc.
std::vector<pid_t> all_processes();

// Reads the text of /proc/self/cgroup: the path in the hierarchy of `controller`. An empty
// `controller` means the unified hierarchy.
std::optional<std::string> cgroup_path(std::string_view self, std::string_view controller);
// How often the kernel's OOM killer has killed in our memory cgroup; nullopt: unknown.
std::optional<std::uint64_t> oom_kills();

// Starts `argv[0]` (a path) in a new session, with no signal blocked or ignored. Descriptor i of
// `fds` becomes number i; all other descriptors with close-on-exec are closed. Safe in a program
// with threads.
Result<pid_t> spawn(const std::vector<std::string>& argv, std::span<const int> fds);
// Waits for this child only, and reaps it. ECHILD: somebody else did.
// A debugger that is attached to the child makes it wait, for as long as the debugger likes.
Result<int> reap_own_child(pid_t pid);
// The same for at most `limit`. False: the child is there still, alive or held by a debugger.
bool try_to_reap(pid_t pid, std::chrono::milliseconds limit);

// Other processes of this user can no longer trace this one, nor read its memory, environment and
// descriptors; and it leaves no core. Those of root still can. An exec ends it. Does nothing if
// the environment has KEELBACK_INSPECTABLE=1.
void forbid_inspection();
// Removes a variable from the environment, and its value from the memory that /proc/PID/environ
// shows. While there is one thread.
void forget_variable(const char* name);

// Descriptors this process may have open.
Result<std::uint64_t> fd_limit();

}  // namespace keelback::os
