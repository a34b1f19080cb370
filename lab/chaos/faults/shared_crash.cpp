// One of many calls ends its worker.
#include <fmt/format.h>
#include <signal.h>

#include "chaos/one_of_many.h"

namespace keelback::chaos::faults::shared_crash {
namespace {

using enum OutcomeKind;
using namespace std::chrono_literals;

constexpr std::string_view kCrash = "together_crash", kUnknown = "together_die";
constexpr Duration kLives = 40ms;  // so that its neighbours have begun, too

// What its calls are told they were to the death is for the invariants to judge.
template <const std::string_view& kWord, int kSignal>
struct Crash final : OneOfMany {
  std::optional<std::string> shown() const override {
    const CallEvent* call = culprit(kWord, kWorkerDied);
    if (call == nullptr || call->death_signal != kSignal || call->death_role.empty()) {
      return std::nullopt;
    }
    return fmt::format("call {} died of signal {}, and was not alone", call->index, kSignal);
  }
};

template <const std::string_view& kWord, int kSignal>
FaultClass crash(std::string_view name, std::string_view what) {
  return one_of_many({.name = name,
                      .what = what,
                      .proof = "its outcome is worker_died with that signal, and it was not alone",
                      .words = {kWord},
                      .plan =
                          [](CallPlan& plan) {
                            plan_neighbours(plan);
                            // No two rounds alike: this one is not suspected of the last one's
                            // death.
                            const auto ms = (kLives / 1ms) + plan.round;
                            plan.add(beside(plan, kWord, fmt::format("[{}]", ms)));
                          },
                      .make = make_fault<Crash<kWord, kSignal>>},
                     "600ms");
}

}  // namespace

std::vector<FaultClass> classes() {
  return {crash<kCrash, SIGSEGV>(
              "shared.crash",
              "One of many calls in a worker dies of SIGSEGV, and the dying thread leads to it."),
          crash<kUnknown, SIGKILL>(
              "shared.unknown",
              "One of many calls in a worker ends it by SIGKILL, and nobody can know which.")};
}

}  // namespace keelback::chaos::faults::shared_crash
