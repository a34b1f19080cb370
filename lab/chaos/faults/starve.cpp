// A worker's only processor is used by others without rest.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "chaos/fault.h"
#include "chaos/processors.h"
#include "host/install.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos::faults::starve {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

constexpr Duration kStarved = 20ms;  // of waiting for a processor

struct Starved final : Fault {
  ~Starved() override { dismiss(); }

  void before() override {
    if (!targets().empty()) before_ = processor_time(pid_of(targets().front()));
  }
  void inject(Duration) override {
    begun(each_target([this](const auto& worker) { return starve(pid_of(worker)); }));
  }
  void prove(Duration at) override {
    if (over || targets().empty() || !before_) return;
    const auto now = processor_time(pid_of(targets().front()));
    if (!now) return;
    const std::uint64_t ran = now->ran_ns - before_->ran_ns;
    const std::uint64_t waited = now->waited_ns - before_->waited_ns;
    if (std::chrono::nanoseconds(waited) < kStarved || waited < ran) return;
    bit(at,
        fmt::format("pid {}: waited {:.1f} ms for its processor and ran {:.1f} ms, by schedstat",
                    targets().front().pid, static_cast<double>(waited) / 1e6,
                    static_cast<double>(ran) / 1e6));
  }
  Evidence undo() override {
    for (const pid_t other : competitors_) {
      static_cast<void>(world().processes()->undo(fmt::format("compete {}", other)));
    }
    dismiss();
    return undo_each([this](const auto& worker) {
      return world().processes()->undo(fmt::format("bind {}", worker.pid));
    });
  }

 private:
  static pid_t pid_of(const host::WorkerInfo& worker) { return static_cast<pid_t>(worker.pid); }

  // The laboratory must have another processor than the one it makes scarce.
  Evidence starve(pid_t pid) {
    Processes& processes = *world().processes();
    const auto process = Processes::ours(pid);
    if (!process) return std::unexpected(process.error());
    const std::vector<int> usual = processors_of(pid);
    if (usual.size() < 2) return std::unexpected("there is one processor only");
    const std::string warden = host::find_program("keelback-warden");
    const auto null = os::open_null();
    if (warden.empty() || !null) return std::unexpected("nobody can compete");
    const std::uint64_t lease = Processes::lease(spec().lasts);
    const auto armed =
        processes.arm(fmt::format("bind {}", pid), {.lease_ms = lease,
                                                    .kind = Undo::Kind::kBind,
                                                    .pid = pid,
                                                    .start_time = process->start_time,
                                                    .path = processors_text(usual)});
    if (!armed) return std::unexpected(armed.error());
    const std::string scarce = std::to_string(usual.back());
    if (!bind_to(pid, {usual.back()})) return std::unexpected(std::strerror(errno));
    const int fds[] = {null->get(), null->get(), null->get()};
    const std::uint64_t n = std::max<std::uint64_t>(1, count("competitors"));
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto other = os::spawn({warden, "--compete", scarce, std::to_string(lease)}, fds);
      if (!other) return std::unexpected(other.error().message());
      competitors_.push_back(*other);
      const auto stat = os::read_stat(*other);
      const auto undoing = processes.arm(fmt::format("compete {}", *other),
                                         {.lease_ms = lease,
                                          .kind = Undo::Kind::kKill,
                                          .pid = *other,
                                          .start_time = stat ? stat->start_time : 0});
      if (!undoing) return std::unexpected(undoing.error());
    }
    return fmt::format("pid {} has processor {} and {} competitors", pid, scarce, n);
  }

  // Kills and reaps; what is gone already is reaped.
  void dismiss() {
    for (const pid_t pid : competitors_) {
      ::kill(pid, SIGKILL);  // our own child, not yet reaped: the number is its own
      static_cast<void>(os::reap_own_child(pid));
    }
    competitors_.clear();
  }

  std::optional<ProcessorTime> before_;
  std::vector<pid_t> competitors_;
};

void plan(CallPlan& plan) {
  plan.same("spin", plan.milliseconds("spin"));
  plan.after_bite();
}

}  // namespace

std::vector<FaultClass> classes() {
  return {{.name = "cpu.starve",
           .what = "A worker gets one processor, which others use without rest: slow, not broken.",
           .proof =
               "/proc/PID/task/*/schedstat: since then it waited for a processor for 20 ms, and at "
               "least as long as it ran",
           .undo = "the competitors are killed and it may use all processors again, by the warden",
           .lasts = true,
           .where = Where::kProcesses,
           .parameters = {{"competitors", kCount, "2", "4", "8", "so many"},
                          {"calls", kCount, "4", "6", "8", "of the worker's that compute"},
                          {"spin", kDuration, "50ms", "50ms", "50ms", "each, for so long"}},
           .expected = {kTimeout, kOverloaded, kSessionBusy},
           .plan = plan,
           .make = make_fault<Starved>}};
}

}  // namespace keelback::chaos::faults::starve
