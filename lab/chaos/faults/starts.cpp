// Starting workers obey an order: to fail, to leave, to be slow, to hang, to stay when told to go.
#include <fmt/format.h>

#include "chaos/fault.h"

namespace keelback::chaos::faults::starts {
namespace {

using enum OutcomeKind;
using enum ParameterType;

// Its words are what the control file tells a starting worker.
struct Ordered final : Fault {
  void before() override { obeyed_ = world().obeyed(spec().id); }
  void inject(Duration) override { begun(world().order_start({spec().id, words()})); }
  void prove(Duration at) override {
    const std::uint64_t n = world().obeyed(spec().id) - obeyed_;
    if (n > 0) bit(at, fmt::format("{} starting workers obeyed", n));
  }
  Evidence undo() override { return world().lift_start(spec().id); }

 private:
  // "spawn.fail" says "fail"; the two with a parameter say that, too.
  std::string words() const {
    const std::string word(kind().name.substr(kind().name.find('.') + 1));
    if (word == "exit") return fmt::format("exit {}", count("code"));
    if (word != "slow") return word;
    const auto delay = std::chrono::ceil<std::chrono::milliseconds>(duration("delay"));
    return fmt::format("sleep {}", delay.count());
  }

  std::uint64_t obeyed_ = 0;
};

FaultClass start(std::string_view name, std::string_view what, Where where,
                 std::vector<Parameter> parameters = {}) {
  return {.name = name,
          .what = what,
          .proof = "a worker that started in the window wrote into the ledger that it obeyed",
          .undo = "the order is taken out of the control file, by the warden if need be",
          .reach = Reach::kCapacity,
          .lasts = true,
          .hits_starts = true,
          .where = where,
          .parameters = std::move(parameters),
          .expected = {kTimeout, kOverloaded, kNotReady, kSessionLost, kWorkerDied},
          .make = make_fault<Ordered>};
}

}  // namespace

std::vector<FaultClass> classes() {
  using enum Where;
  return {start("spawn.fail", "worker_setup raises.", kEverywhere),
          start("spawn.exit", "A starting worker leaves with a code.", kProcesses,
                {{"code", kCount, "1", "1", "0", "the exit code"}}),
          start("spawn.slow", "A start takes longer.", kEverywhere,
                {{"delay", kDuration, "100ms", "300ms", "1s", "added to each start"}}),
          start("spawn.hang", "A starting worker never becomes ready.", kProcesses),
          start("spawn.stay", "A worker that does not leave when it is told to.", kProcesses)};
}

}  // namespace keelback::chaos::faults::starts
