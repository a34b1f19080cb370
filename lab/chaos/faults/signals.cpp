// Signals to workers: those that end one, those that must not, and SIGSTOP for a while or in turn.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "chaos/fault.h"

namespace keelback::chaos::faults::signals {
namespace {

using enum ParameterType;
using namespace std::chrono_literals;

template <int kSignal>
struct Signal : Fault {
  void inject(Duration) override {
    if (targets().empty()) return no_bite("there was no worker to hit");
    bit_if(world().send_signal(targets(), kSignal, kind().harmless));
  }
};

// A signal that must do nothing. If it ends a worker, that is harm.
template <int kSignal>
struct Stray final : Signal<kSignal> {
  std::optional<Duration> turn(Duration) override {
    if (!this->noted().bit) return std::nullopt;
    if (!std::exchange(watched_, true)) return kHarmShows;
    this->recorder().sample(this->recorder().now());
    for (const host::WorkerInfo& target : this->targets()) watch(target);
    return std::nullopt;
  }

 private:
  // It must still be there, unless something else ended it.
  void watch(const host::WorkerInfo& target) {
    const WorkerRef& mine = target.worker;
    const bool there = std::ranges::any_of(this->recorder().workers(), [&](const auto& worker) {
      return worker.worker == target.worker;
    });
    const bool other = this->excused([&](const FaultEvent& fault, const FaultClass&) {
      return fault.targets.empty() || std::ranges::find(fault.targets, mine) != fault.targets.end();
    });
    if (there || other) return;
    this->noted().harm =
        fmt::format("worker {} (pid {}) is gone after a signal that must not end it",
                    to_string(mine), target.pid);
  }

  bool watched_ = false;
};

struct Stopped : Fault {
  void inject(Duration) override { bit_if(stop()); }
  Evidence undo() override {
    return undo_each([this](const auto& worker) { return world().resume(worker); });
  }

 protected:
  Evidence stop() {
    return each_target([this](const auto& worker) { return world().stop(worker, spec().lasts); });
  }
};

struct Throttled final : Stopped {
  void inject(Duration) override {}
  std::optional<Duration> turn(Duration at) override {
    if (over) return std::nullopt;
    stopped_ = !stopped_;
    const Evidence done = stopped_ ? stop() : undo();
    if (stopped_ && done && ++stops_ == 3) bit(at, "state T seen in three turns: " + *done);
    return duration(stopped_ ? "stopped" : "running");
  }

 private:
  bool stopped_ = false;
  int stops_ = 0;
};

template <int kSignal>
FaultClass deadly(std::string_view name, std::string_view what, Where where = Where::kProcesses) {
  return {.name = name,
          .what = what,
          .proof = "the worker's pidfd reports its end; its wait status where the zombie was seen",
          .where = where,
          .expected = kDeath,
          .make = make_fault<Signal<kSignal>>};
}

template <int kSignal>
FaultClass stray(std::string_view name, std::string_view what) {
  return {.name = name,
          .what = what,
          .proof = kStrayProof,
          .harmless = true,
          .where = Where::kProcesses,
          .make = make_fault<Stray<kSignal>>};
}

}  // namespace

std::vector<FaultClass> classes() {
  return {
      deadly<SIGKILL>("proc.kill", "SIGKILL to a worker.", Where::kEverywhere),
      deadly<SIGSEGV>("proc.segv", "SIGSEGV to a worker, as a broken C extension."),
      deadly<SIGABRT>("proc.abort", "SIGABRT to a worker, as a failed assertion."),
      stray<SIGTERM>("proc.term", "SIGTERM to a worker, for whom it is not meant."),
      stray<SIGINT>("proc.int", "SIGINT to a worker, whose call it must not end."),
      deadly<SIGHUP>("proc.hup", "SIGHUP to a worker, as when a terminal goes."),
      {.name = "proc.stop",
       .what = "SIGSTOP to a worker: alive, silent.",
       .proof = "state T in /proc/PID/stat",
       .undo = "SIGCONT, by the warden",
       .lasts = true,
       .where = Where::kEverywhere,
       .expected = kHang,
       .make = make_fault<Stopped>},
      {.name = "proc.throttle",
       .what = "SIGSTOP and SIGCONT in turn: a worker with a fraction of its CPU.",
       .proof = "state T seen in at least three turns",
       .undo = "SIGCONT, by the warden",
       .lasts = true,
       .where = Where::kProcesses,
       .parameters = {{"stopped", kDuration, "10ms", "20ms", "45ms", "stopped per turn"},
                      {"running", kDuration, "10ms", "10ms", "5ms", "running per turn"}},
       .expected = kHang,
       .make = make_fault<Throttled>},
  };
}

}  // namespace keelback::chaos::faults::signals
