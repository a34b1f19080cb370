// Calls of the laboratory's own that misbehave in the worker that gets them.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/fault.h"

namespace keelback::chaos::faults::calls {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

const std::vector<OutcomeKind> kLoad = {kTimeout, kOverloaded};

struct Crash final : OwnCalls {
  bool met(const CallEvent& call) const override {
    return call.kind == kWorkerDied && call.death_signal == static_cast<int>(count("signal"));
  }
};

struct Exit final : OwnCalls {
  bool met(const CallEvent& call) const override {
    return call.kind == kWorkerDied && call.death_code == static_cast<int>(count("code"));
  }
};

struct Raises : OwnCalls {
  bool met(const CallEvent& call) const override {
    return call.kind == kError && !call.error_type.empty();
  }
};

// One call of each kind: all of them have to end so.
struct EachKind final : Raises {
  void decide(const Seen& seen, Duration at) override {
    if (seen.met != seen.planned) return;
    bit(at, fmt::format("each of {} kinds ended as error", seen.met));
  }
};

// Calls run as long as they are told, or to their deadline. The pool's own limit may be shorter.
struct TakesLong final : OwnCalls {
  bool met(const CallEvent& call) const override {
    const Duration told = std::max({duration("hold"), duration("spin"), duration("takes")});
    const auto& calls = scenario().settings.calls;
    const Duration limit = std::min({call.deadline, calls.deadline, calls.deadline_max});
    return told > 0ns && call.ran >= std::min(told, limit) * 9 / 10;
  }
};

struct Poison final : OwnCalls {
  void decide(const Seen&, Duration at) override {
    const std::uint64_t died = how_many(kWorkerDied), refused = how_many(kQuarantined);
    if (died == 0 || refused == 0) return;
    bit(at, fmt::format("{} workers died of it, {} tries were refused", died, refused));
  }
};

FaultClass of(FaultClass made) {
  made.reach = made.lasts ? Reach::kPool : Reach::kOwnCalls;
  return made;
}
FaultClass everywhere(FaultClass made) {
  made.where = Where::kEverywhere;
  return of(std::move(made));
}

Parameter at_once(std::string_view light, std::string_view medium, std::string_view heavy) {
  return {"calls", kCount, light, medium, heavy, "so many at once"};
}

// Calls of one word, told the number of a parameter.
std::function<void(CallPlan&)> told(std::string_view function, std::string_view parameter) {
  return [=](CallPlan& plan) {
    plan.same(function, fmt::format("[{}]", count_of(plan.fault, parameter)));
  };
}
std::function<void(CallPlan&)> timed(std::string_view function, std::string_view parameter) {
  return [=](CallPlan& plan) { plan.same(function, plan.milliseconds(parameter)); };
}
std::function<void(CallPlan&)> kinds(std::string_view function, std::vector<const char*> all) {
  return [=](CallPlan& plan) {
    for (const char* kind : all) plan.add(plan.call(function, fmt::format("[\"{}\"]", kind)));
  };
}

// The same call, again and again.
std::function<void(CallPlan&)> again_and_again(std::string_view function) {
  return [=](CallPlan& plan) {
    plan.repeat(count_of(plan.fault, "tries"), [&](std::uint64_t i) {
      return plan.call(function, "[11]", 150ms * static_cast<std::int64_t>(i));
    });
  };
}

std::vector<FaultClass> ends() {
  return {everywhere({.name = "call.crash",
                      .what = "A call dies of a signal.",
                      .proof = "its outcome is worker_died with that signal",
                      .parameters = {at_once("1", "2", "4"),
                                     {"signal", kCount, "11", "11", "6", "the signal"}},
                      .expected = kDeath,
                      .plan = told("crash", "signal"),
                      .make = make_fault<Crash>}),
          everywhere({.name = "call.exit",
                      .what = "A call leaves the process with a code.",
                      .proof = "its outcome is worker_died with that exit code",
                      .parameters = {at_once("1", "2", "4"),
                                     {"code", kCount, "3", "3", "0", "the exit code"}},
                      .expected = kDeath,
                      .plan = told("exit", "code"),
                      .make = make_fault<Exit>}),
          everywhere({.name = "call.raise",
                      .what = "Calls raise.",
                      .proof = "their outcome is error with a Python type",
                      .parameters = {at_once("5", "20", "50")},
                      .expected = kLoad,
                      .plan = [](CallPlan& plan) { plan.same("fail", "[\"chaos\"]"); },
                      .make = make_fault<Raises>})};
}

std::vector<FaultClass> hangs() {
  return {
      everywhere({.name = "call.hold",
                  .what = "Calls keep the GIL in C code: only SIGKILL ends them early.",
                  .proof = "they ran as long as they were told, or were killed at their deadline",
                  .parameters = {at_once("1", "2", "4"),
                                 {"hold", kDuration, "200ms", "500ms", "2s", "how long"}},
                  .expected = kHang,
                  .plan = timed("hold", "hold"),
                  .make = make_fault<TakesLong>}),
      everywhere({.name = "call.spin",
                  .what = "Calls compute in a loop.",
                  .proof = "they ran as long as they were told, or to their deadline",
                  .parameters = {at_once("1", "2", "4"),
                                 {"spin", kDuration, "200ms", "500ms", "1s", "how long"}},
                  .expected = kHang,
                  .plan = timed("spin", "spin"),
                  .make = make_fault<TakesLong>}),
      everywhere({.name = "call.slow",
                  .what = "A share of the load becomes slow.",
                  .proof = "those calls ran as long as they were told, or to their deadline",
                  .lasts = true,
                  .parameters = {{"share", kNumber, "0.05", "0.1", "0.2", "of the load"},
                                 {"takes", kDuration, "50ms", "100ms", "200ms", "each"}},
                  .expected = kHang,
                  .plan =
                      [](CallPlan& plan) {
                        const std::string takes = plan.milliseconds("takes");
                        plan.spread(plan.scenario.load.rate * number_of(plan.fault, "share"),
                                    [&](Duration at) { return plan.call("sleep", takes, at); });
                      },
                  .make = make_fault<TakesLong>})};
}

std::vector<FaultClass> others() {
  std::vector<OutcomeKind> poisoned = kDeath;
  poisoned.push_back(kQuarantined);
  return {
      everywhere({.name = "call.poison",
                  .what = "One and the same request kills each worker that runs it.",
                  .proof = "a worker died of it, and then it was quarantined",
                  .poisons = true,
                  .parameters = {{"tries", kCount, "4", "6", "10", "how often it is sent"}},
                  .expected = poisoned,
                  .plan = again_and_again("crash"),
                  .make = make_fault<Poison>}),
      everywhere({.name = "shared.poison",
                  .what = "One and the same request kills each worker that runs it, and may run "
                          "beside others.",
                  .proof = "a worker died of it, and then it was quarantined",
                  .poisons = true,
                  .words = {"together_die"},
                  .parameters = {{"tries", kCount, "5", "7", "11", "how often it is sent"}},
                  .expected = poisoned,
                  .plan = again_and_again("together_die"),
                  .make = make_fault<Poison>}),
      everywhere({.name = "call.unserialisable",
                  .what = "Calls return what JSON cannot write.",
                  .proof = "their outcome is error",
                  .parameters = {at_once("5", "20", "50")},
                  .expected = kLoad,
                  .plan = [](CallPlan& plan) { plan.same("unserialisable", "[]"); },
                  .make = make_fault<Raises>}),
      of({.name = "call.exceptions",
          .what = "Calls raise every kind of exception: SystemExit, KeyboardInterrupt, groups, "
                  "recursion, one that cannot say what it is.",
          .proof = "the outcome of each kind is error with a Python type",
          .expected = kLoad,
          .plan =
              kinds("raise", {"plain", "custom", "mute", "base", "group", "memory", "interrupt",
                              "exit", "stop", "generator_exit", "surrogate", "huge", "recursion"}),
          .make = make_fault<EachKind>}),
      of({.name = "call.results",
          .what = "Calls return every kind of value that JSON cannot carry: cycles, NaN, lists too "
                  "deep.",
          .proof = "the outcome of each kind is error with a Python type",
          .expected = kLoad,
          .plan = kinds("return", {"object", "nan", "cyclic", "deep", "keys", "complex", "module"}),
          .make = make_fault<EachKind>}),
      everywhere({.name = "call.huge",
                  .what = "Calls return more than calls.payload_max.",
                  .proof = "their outcome is error",
                  .parameters = {at_once("1", "3", "5")},
                  .expected = kLoad,
                  .plan =
                      [](CallPlan& plan) {
                        const auto most = plan.scenario.settings.calls.payload_max.count;
                        plan.same("blob", fmt::format("[{}]", most + 1));
                      },
                  .make = make_fault<Raises>})};
}

}  // namespace

std::vector<FaultClass> classes() {
  std::vector<FaultClass> all;
  for (const auto& group : {ends(), hangs(), others()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace keelback::chaos::faults::calls
