// Soft limits of a living worker, felt by calls that it gets.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "chaos/fault.h"
#include "os/process.h"

namespace keelback::chaos::faults::limits {
namespace {

using enum OutcomeKind;
using enum ParameterType;

std::uint64_t highest_descriptor(pid_t pid) {
  const auto open = os::descriptors_of(pid);
  const bool some = open && !open->empty();
  return some ? static_cast<std::uint64_t>(std::max(2, std::ranges::max(*open))) : 2;
}

struct Limited : OwnCalls {
  void inject(Duration) override {
    begun(
        each_target([this](const auto& worker) { return lower(static_cast<pid_t>(worker.pid)); }));
  }
  Evidence undo() override {
    return undo_each([this](const auto& worker) {
      return world().processes()->undo(name_of(static_cast<pid_t>(worker.pid)));
    });
  }

 protected:
  // RLIMIT_…, and how much of that the process has now.
  virtual __rlimit_resource resource() const = 0;
  virtual std::uint64_t used(pid_t pid) const = 0;
  virtual std::uint64_t room() const = 0;

 private:
  std::string name_of(pid_t pid) const {
    return fmt::format("limit {} {}", static_cast<int>(resource()), pid);
  }
  Evidence lower(pid_t pid) {
    const auto process = Processes::ours(pid);
    if (!process) return std::unexpected(process.error());
    rlimit old{};
    if (::prlimit(pid, resource(), nullptr, &old) != 0) {
      return std::unexpected(std::strerror(errno));
    }
    const auto armed = world().processes()->arm(
        name_of(pid), {.lease_ms = Processes::lease(std::chrono::minutes(1)),
                       .kind = Undo::Kind::kLimit,
                       .pid = pid,
                       .start_time = process->start_time,
                       .resource = static_cast<int>(resource()),
                       .soft = old.rlim_cur,
                       .hard = old.rlim_max});
    if (!armed) return std::unexpected(armed.error());
    const rlimit lower{.rlim_cur = std::min<rlim_t>(used(pid) + room(), old.rlim_max),
                       .rlim_max = old.rlim_max};
    if (::prlimit(pid, resource(), &lower, nullptr) != 0) {
      return std::unexpected(std::strerror(errno));
    }
    return fmt::format("pid {}: soft limit {} (was {})", pid, lower.rlim_cur, old.rlim_cur);
  }
};

struct Memory final : Limited {
  __rlimit_resource resource() const override { return RLIMIT_AS; }
  std::uint64_t used(pid_t pid) const override {
    return os::read_status_number(pid, "VmSize:").value_or(0) * 1024;
  }
  std::uint64_t room() const override { return bytes("room"); }
  bool met(const CallEvent& call) const override {
    return on_target(call) && call.error_type == "MemoryError";
  }
};

struct Descriptors final : Limited {
  __rlimit_resource resource() const override { return RLIMIT_NOFILE; }
  std::uint64_t used(pid_t pid) const override { return highest_descriptor(pid) + 1; }
  std::uint64_t room() const override { return count("room"); }
  bool met(const CallEvent& call) const override {
    return on_target(call) && call.error_type == "OSError" &&
           call.message.find("[Errno 24]") != std::string::npos;
  }
};

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "mem.rlimit",
           .what = "A soft limit on a living worker's address space; calls then allocate.",
           .proof = "calls on that worker raised MemoryError",
           .undo = "the old soft limit, by the warden",
           .lasts = true,
           .parameters = {{"room", kSize, "64MiB", "32MiB", "16MiB", "above what it has now"},
                          {"calls", kCount, "10", "20", "40", "allocating calls"},
                          {"size", kSize, "128MiB", "128MiB", "128MiB", "each allocates"}},
           .expected = {kError, kTimeout, kWorkerDied, kSessionLost},
           .plan =
               [](CallPlan& plan) {
                 plan.same("alloc", fmt::format("[{}]", bytes_of(plan.fault, "size")));
                 plan.after_bite();
               },
           .make = make_fault<Memory>},
          {.name = "fd.exhaust",
           .what = "A soft limit on a living worker's descriptors; calls then open files.",
           .proof = "calls on that worker raised OSError with EMFILE",
           .undo = "the old soft limit, by the warden",
           .lasts = true,
           .parameters = {{"room", kCount, "4", "2", "0", "above what it has now"},
                          {"calls", kCount, "10", "20", "40", "calls that open files"},
                          {"files", kCount, "16", "16", "16", "each opens"}},
           .expected = {kError, kTimeout, kWorkerDied, kSessionLost},
           .plan =
               [](CallPlan& plan) {
                 plan.same("open", fmt::format("[{}]", count_of(plan.fault, "files")));
                 plan.after_bite();
               },
           .make = make_fault<Descriptors>}};
}

}  // namespace keelback::chaos::faults::limits
