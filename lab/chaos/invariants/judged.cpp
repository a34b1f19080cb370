// Invariants about the run as a whole: they look at what the judge has weighed of it.
#include <fmt/format.h>

#include <algorithm>

#include "chaos/recovery.h"

namespace keelback::chaos {
namespace {

constexpr const char* kUnweighed = "the run was not weighed";

// A service that is whole and only slow may be slow because this machine is: other programs use its
// processors. The load generator shows it: it was woken late too. A call needs at least four
// wake-ups (generator, worker, loop, generator), so a quarter of the slowdown is enough.
std::optional<std::string> machine_was_late(const Weighed& run) {
  if (run.latch != Latch::kSlow || run.after.success() < run.baseline.success()) return {};
  const Duration slower = run.after.p99 - run.baseline.p99;
  const Duration later = run.after.lateness - run.baseline.lateness;
  if (slower <= Duration(0) || later * 4 < slower) return {};
  return fmt::format(
      "this machine is busy: the load generator was {:.1f} ms late at p99 after the faults, "
      "{:.1f} ms in the baseline",
      milliseconds(run.after.lateness), milliseconds(run.baseline.lateness));
}

// If calls fail for lack of capacity before any fault, later failures of that kind are not blamed
// on a fault. 0: there are none, or some unexplained loss is of another kind.
std::uint64_t refused_before_any_fault(const CheckInput& input) {
  Duration first = input.plan.phases.end;
  for (const FaultEvent& fault : input.history.faults) first = std::min(first, fault.fired);
  std::uint64_t out = 0;
  for (const Loss& loss : input.weighed->losses.all) {
    if (loss.how != Explanation::kUnexplained) continue;
    const CallEvent& call = input.history.calls.at(loss.call);
    if (!call.finished() || !for_want_of_capacity(call.kind)) return 0;
    out += call.done < first;
  }
  return out;
}

}  // namespace

const Invariant kServiceBack = {
    .name = "service-back",
    .alias = "I13",
    .sentence = "service is back at the run's own baseline",
    .verdict = Verdict::kLiveness,
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (input.weighed == nullptr) return tally.unknown(kUnweighed);
      const Weighed& run = *input.weighed;
      if (!run.recovery_known) return tally.not_applicable("the run did not show its recovery");
      tally.saw(run.after.offered);
      if (run.not_back.empty()) return tally.done("");
      if (const auto busy = machine_was_late(run)) {
        return tally.unknown(fmt::format("{}; {}", run.not_back, *busy));
      }
      tally.broken(run.not_back);
      CheckResult result = tally.done("");
      result.instead = Reason{Verdict::kLiveness, fmt::format("I13 is broken ({}): {}",
                                                              to_string(run.latch), run.not_back)};
      return result;
    }};

const Invariant kExplainedLosses = {
    .name = "explained-losses",
    .alias = "I22",
    .sentence = "every lost call is explained by a fault",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (input.weighed == nullptr) return tally.unknown(kUnweighed);
      const Losses& losses = input.weighed->losses;
      CheckResult result{.id = "I22",
                         .status = Status::kHolds,
                         .looked_at = losses.all.size(),
                         .broken = losses.unexplained};
      if (losses.unexplained <= input.scenario.unexplained_max) return result;
      result.status = Status::kBroken;
      const auto first = std::ranges::find(losses.all, Explanation::kUnexplained, &Loss::how);
      const CallEvent& call = input.history.calls.at(first->call);
      result.witness =
          fmt::format("{} losses that no fault explains; the first at {:.0f} ms: {}{}{}",
                      losses.unexplained, milliseconds(call.planned), describe(call),
                      call.message.empty() ? "" : ": ", call.message);
      if (const std::uint64_t n = refused_before_any_fault(input); n > 0) {
        result.status = Status::kUnknown;
        result.instead =
            Reason{Verdict::kInvalid,
                   fmt::format("{} calls were refused or too late before there was any fault: this "
                               "machine is too busy, or the pool too small, for this load",
                               n)};
      }
      return result;
    }};

std::vector<Invariant> invariants_of_judged() { return {kServiceBack, kExplainedLosses}; }

}  // namespace keelback::chaos
