// Signals to the zygote that workers are forked from.
#include <fmt/format.h>
#include <signal.h>

#include <utility>

#include "chaos/fault.h"

namespace keelback::chaos::faults::zygote {
namespace {

using enum OutcomeKind;
using namespace std::chrono_literals;

struct ToZygote : Fault {
  void before() override {
    pid_ = static_cast<pid_t>(world().info().start.zygote_pid);
    noted().pids.push_back(pid_);
  }

 protected:
  // The evidence of what is done to it, if there is one.
  template <class Act>
  void act_on(Act act) {
    if (pid_ == 0) return no_bite("there is no zygote: " + world().info().start.reason);
    bit_if(act(pid_));
  }

  pid_t pid_ = 0;
};

template <int kSignal>
struct Signal final : ToZygote {
  void inject(Duration) override {
    act_on([&](pid_t pid) { return Processes::signal({pid}, kSignal, kind().harmless); });
  }
  // One that must not end it has done no harm if it is still there, or another fault ended it.
  std::optional<Duration> turn(Duration) override {
    if (!kind().harmless || !noted().bit) return std::nullopt;
    if (!std::exchange(watched_, true)) return kHarmShows;
    recorder().sample(recorder().now());
    const bool other =
        excused([](const FaultEvent&, const FaultClass& fault) { return fault.renews_zygote; });
    if (!other && world().info().start.zygote_pid != pid_) {
      noted().harm =
          fmt::format("the zygote (pid {}) is gone after a signal that must not end it", pid_);
    }
    return std::nullopt;
  }

 private:
  bool watched_ = false;
};

struct Stop final : ToZygote {
  void inject(Duration) override {
    act_on([&](pid_t pid) { return world().processes()->stop(pid, spec().lasts); });
  }
  Evidence undo() override { return world().processes()->resume(pid_); }
};

template <int kSignal>
FaultClass death(std::string_view name, std::string_view what) {
  return {.name = name,
          .what = what,
          .proof = "the zygote's pidfd reports its end",
          .reach = Reach::kCapacity,
          .renews_zygote = true,
          .expected = {kTimeout, kOverloaded},
          .make = make_fault<Signal<kSignal>>};
}

template <int kSignal>
FaultClass stray(std::string_view name, std::string_view what) {
  return {.name = name,
          .what = what,
          .proof = kStrayProof,
          .reach = Reach::kCapacity,
          .harmless = true,
          .renews_zygote = true,
          .make = make_fault<Signal<kSignal>>};
}

}  // namespace

std::vector<FaultClass> classes() {
  return {
      death<SIGKILL>("zygote.kill", "SIGKILL to the zygote that workers are forked from."),
      death<SIGHUP>("zygote.hup", "SIGHUP to the zygote, as when a terminal goes."),
      stray<SIGTERM>("zygote.term", "SIGTERM to the zygote, for whom it is not meant."),
      stray<SIGINT>("zygote.int", "SIGINT to the zygote, as Ctrl-C at a terminal sends it to all."),
      {.name = "zygote.stop",
       .what = "SIGSTOP to the zygote: no worker can be forked.",
       .proof = "state T in /proc/PID/stat",
       .undo = "SIGCONT, by the warden",
       .reach = Reach::kCapacity,
       .lasts = true,
       .renews_zygote = true,
       .expected = {kTimeout, kOverloaded, kNotReady},
       .make = make_fault<Stop>}};
}

}  // namespace keelback::chaos::faults::zygote
