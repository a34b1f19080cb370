#include "chaos/processes.h"

#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>

#include "host/environment.h"
#include "load/soon.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// For a signal to show: a process that has to wait for a processor first dies late. The load waits
// too.
constexpr Duration kProofWait = 1s;
constexpr std::uint64_t kLeaseSlackMs = 2000;  // beyond the planned undo

std::optional<char> state_of(pid_t pid) {
  const auto stat = os::read_stat(pid);
  return stat ? std::optional(stat->state) : std::nullopt;
}

// A process that a signal was sent to, and how it takes that.
struct Signalled {
  pid_t pid = 0;
  Processes::Ours process;
  bool ignored = false, caught = false;
  Clock::time_point sent;
};

bool has(pid_t pid, std::string_view field, int signal) {
  return (os::read_status_number(pid, field, 16).value_or(0) >> (signal - 1) & 1) != 0;
}

Evidence taken_by(const Signalled& who, int signal) {
  if (!load::soon([&] { return !has(who.pid, "ShdPnd:", signal); }, kProofWait)) {
    return std::unexpected(fmt::format("pid {}: signal {} was not taken", who.pid, signal));
  }
  return fmt::format("pid {}: signal {} sent, in {}, and taken; state {}", who.pid, signal,
                     who.caught ? "SigCgt" : "SigIgn", state_of(who.pid).value_or('-'));
}

Evidence death_of(const Signalled& who, int signal) {
  int status = 0;
  const bool dead = load::soon(
      [&] {
        const auto stat = os::read_stat(who.pid);
        const bool same = stat && stat->start_time == who.process.start_time;
        if (same && stat->state == 'Z') status = stat->exit_status;
        const auto over = who.process.handle.wait_dead(0ms);
        return over && *over;
      },
      kProofWait);
  if (!dead) {
    return std::unexpected(fmt::format("pid {} lives on after signal {}{}", who.pid, signal,
                                       who.caught ? ", which the application catches" : ""));
  }
  if (const auto stat = os::read_stat(who.pid);
      status == 0 && stat && stat->state == 'Z' && stat->start_time == who.process.start_time) {
    status = stat->exit_status;
  }
  const double took = std::chrono::duration<double, std::milli>(Clock::now() - who.sent).count();
  return fmt::format("pid {}: pidfd says dead {:.2f} ms after signal {}{}", who.pid, took, signal,
                     status != 0 ? fmt::format("; wait status {}", status) : "");
}

}  // namespace

std::expected<std::unique_ptr<Processes>, std::string> Processes::start(
    const std::string& journal) {
  auto warden = Warden::start(journal);
  if (!warden) return std::unexpected(warden.error());
  std::unique_ptr<Processes> made(new Processes);
  made->warden_ = std::move(*warden);
  return made;
}

std::expected<Processes::Ours, std::string> Processes::ours(pid_t pid) {
  if (pid <= 1) return std::unexpected("the worker has no process yet");
  auto handle = os::Pidfd::open(pid);
  if (!handle) return std::unexpected("the process is gone");
  const auto owner = os::environment_value(pid, "KEELBACK_OWNER=");
  const auto stat = os::read_stat(pid);
  if (!stat) return std::unexpected("the process is gone");
  if (!owner || *owner != host::owner_of_this_process()) {
    return std::unexpected(fmt::format("pid {} does not carry our owner token", pid));
  }
  return Ours{std::move(*handle), stat->start_time};
}

Evidence Processes::signal(const std::vector<pid_t>& pids, int signal, bool harmless) {
  std::vector<Signalled> all;
  for (const pid_t pid : pids) {
    auto process = ours(pid);
    if (!process) return std::unexpected(process.error());
    all.push_back({.pid = pid,
                   .process = std::move(*process),
                   .ignored = has(pid, "SigIgn:", signal),
                   .caught = has(pid, "SigCgt:", signal)});
  }
  for (Signalled& each : all) {
    each.sent = Clock::now();
    if (const auto done = each.process.handle.send_signal(signal); !done) {
      return std::unexpected(done.error().message());
    }
  }
  std::string proof;
  for (const Signalled& each : all) {
    const bool taken = harmless && (each.ignored || each.caught);
    const Evidence evidence = taken ? taken_by(each, signal) : death_of(each, signal);
    if (!evidence) return evidence;
    proof += (proof.empty() ? "" : "; ") + *evidence;
  }
  return proof;
}

Evidence Processes::stop(pid_t pid, Duration at_most) {
  const auto process = ours(pid);
  if (!process) return std::unexpected(process.error());
  return stop(*process, pid, at_most);
}

Evidence Processes::stop_own(pid_t pid, Duration at_most) {
  auto handle = os::Pidfd::open(pid);
  const auto stat = os::read_stat(pid);
  if (!handle || !stat) return std::unexpected("the process is gone");
  return stop({std::move(*handle), stat->start_time}, pid, at_most);
}

Evidence Processes::stop(const Ours& process, pid_t pid, Duration at_most) {
  const auto armed = arm(fmt::format("stop {}", pid), {.lease_ms = lease(at_most),
                                                       .kind = Undo::Kind::kContinue,
                                                       .pid = pid,
                                                       .start_time = process.start_time});
  if (!armed) return std::unexpected(armed.error());
  if (const auto sent = process.handle.send_signal(SIGSTOP); !sent) {
    return std::unexpected(sent.error().message());
  }
  if (!load::soon([&] { return state_of(pid) == 'T'; }, kProofWait)) {
    return std::unexpected(
        fmt::format("pid {} is in state {} after SIGSTOP", pid, state_of(pid).value_or('-')));
  }
  return fmt::format("pid {}: state T in /proc/{}/stat", pid, pid);
}

Evidence Processes::resume(pid_t pid) { return undo(fmt::format("stop {}", pid)); }

std::uint64_t Processes::lease(Duration planned) {
  return static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(planned).count()) +
         kLeaseSlackMs;
}

std::expected<void, std::string> Processes::arm(const std::string& name, Undo record) {
  const std::lock_guard lock(mutex_);
  const auto id = warden_.arm(std::move(record));
  if (!id) return std::unexpected(id.error());
  armed_[name] = *id;
  return {};
}

Evidence Processes::undo(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = armed_.find(name);
  if (found == armed_.end()) return "nothing was in force";
  const auto done = warden_.undo(found->second);
  armed_.erase(found);
  return done;
}

bool Processes::armed(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return armed_.contains(name);
}

void Processes::left_behind(const std::vector<std::string>& processes) {
  left_.insert(left_.end(), processes.begin(), processes.end());
}

}  // namespace keelback::chaos
