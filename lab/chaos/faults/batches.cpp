// Calls that run in batches: one of them ends its worker, or many of them come to every end.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>

#include "chaos/fault.h"
#include "chaos/words.h"

namespace keelback::chaos::faults::batches {
namespace {

using enum OutcomeKind;
using enum ParameterType;
using namespace std::chrono_literals;

constexpr std::string_view kGather = "gather", kDie = "gather_die", kRaise = "gather_raise";
// So long each batch lives that is to die: whoever looks every few milliseconds sees it.
constexpr Duration kLives = 60ms;
constexpr Duration kComesAgain = 1500ms;

// The call that kills is not alone at first: every worker loses a batch that had it.
class Crash final : public OwnCalls {
 public:
  void prove(Duration at) override {
    note_workers();
    OwnCalls::prove(at);
  }

 protected:
  bool strikes(const CallEvent& call) const override { return kills(call); }
  void decide(const Seen& seen, Duration) override {
    if (seen.sent != seen.planned) return;
    const CallEvent* killer = nullptr;
    const CallEvent* again = nullptr;  // the same request, later
    std::size_t ran_again = 0;
    for (const std::uint64_t index : calls()) {
      const CallEvent& call = recorder().history().calls[index];
      if (!call.finished()) return;
      if (kills(call)) (killer == nullptr ? killer : again) = &call;
      if (!kills(call) && call.ok() && call.attempts > 1) ++ran_again;
    }
    if (killer == nullptr || killer->kind != kWorkerDied || killer->death_signal != SIGSEGV) return;
    if (ran_again == 0) return no_bite("the call that kills was in no batch with others");
    if (again != nullptr && again->kind != kQuarantined) {
      return no_bite("the call that kills was not found out: it was not refused later");
    }
    bit(killer->done, fmt::format("call {} ended its worker in {} attempts, {} other calls of its "
                                  "batches ran again",
                                  killer->index, killer->attempts, ran_again));
  }

 private:
  static bool kills(const CallEvent& call) {
    const Word* word = word_of(call);
    return word != nullptr && word->kills_its_batch();
  }
  // Its outcome names the last worker only.
  void note_workers() {
    auto& hit = noted().targets;
    for (const host::WorkerInfo& worker : recorder().workers()) {
      const bool has_it = std::ranges::any_of(worker.running, [&](const auto& each) {
        return std::ranges::any_of(calls(), [&](std::uint64_t index) {
          const CallEvent& call = recorder().history().calls[index];
          return kills(call) && call.call == each.call.value;
        });
      });
      if (has_it && std::ranges::find(hit, worker.worker) == hit.end()) {
        hit.push_back(worker.worker);
      }
    }
  }
};

// In the first round the call that kills may run twice, so that halves of its batch find it; in the
// second it may not, and so on.
void plan_crash(CallPlan& plan) {
  const bool may_run_twice = plan.round % 2 == 0;
  const std::uint64_t n = count_of(plan.fault, "beside");
  // No two rounds alike: this call is not in quarantine for the last one's deeds.
  const auto ms = (kLives / 1ms) + plan.round;
  const auto killer = [&](Duration at) {
    PlannedCall made = plan.call(kDie, fmt::format("[{}, \"die\"]", ms), at);
    made.idempotent = may_run_twice;
    return made;
  };
  for (std::uint64_t i = 0; i < n; ++i) {
    if (i == n * 3 / 4) plan.add(killer(0ms));
    PlannedCall made = plan.call(kGather);
    made.idempotent = i % 4 != 1;
    plan.add(std::move(made));
  }
  if (may_run_twice) plan.add(killer(kComesAgain));
}

// Of ten calls one raises, one has no time, and one is left by its client.
class Burst final : public OwnCalls {
 protected:
  void decide(const Seen& seen, Duration at) override {
    if (seen.sent != seen.planned) return;
    std::size_t left = 0;
    for (const std::uint64_t index : calls()) {
      if (!recorder().history().calls[index].finished()) return;
      left += recorder().cancelled_known(index);
    }
    const std::uint64_t ok = how_many(kOk), raised = how_many(kError), late = how_many(kTimeout);
    if (ok == 0 || raised == 0 || late == 0 || left == 0) return;
    bit(at, fmt::format("{} calls ended ok, {} raised, {} were late, {} were left", ok, raised,
                        late, left));
  }
};

void plan_burst(CallPlan& plan) {
  std::uint64_t i = 0;
  plan.spread(plan.scenario.load.rate * number_of(plan.fault, "factor"), [&](Duration at) {
    const std::uint64_t which = i++ % 10;
    PlannedCall made = plan.call(which == 3 ? kRaise : kGather, "", at);
    made.idempotent = i % 2 == 0;
    if (which == 5) made.deadline = duration_of(plan.fault, "deadline");
    if (which == 7) made.leave_after = 10ms;
    return made;
  });
}

}  // namespace

std::vector<FaultClass> classes() {
  std::vector<OutcomeKind> died = kDeath;
  died.push_back(kQuarantined);
  const std::vector<std::string_view> words = {kGather, kDie, kRaise};
  return {{.name = "batch.crash",
           .what = "One call of a batch dies of SIGSEGV, and nobody can know which.",
           .proof = "it ended as worker_died, the others of its batch ran again, and where it may "
                    "run twice the next call like it was refused",
           .reach = Reach::kOwnCalls,
           .where = Where::kEverywhere,
           .words = words,
           .parameters = {{"beside", kCount, "16", "24", "40", "so many other calls at once"}},
           .expected = died,
           .plan = plan_crash,
           .make = make_fault<Crash>},
          {.name = "batch.burst",
           .what = "More calls that run in batches: some raise, some have too little time, some "
                   "are left by their clients.",
           .proof = "some of its calls ended in each of these ways, and others ok",
           .reach = Reach::kPool,
           .lasts = true,
           .callers_only = true,
           .where = Where::kEverywhere,
           .words = words,
           .parameters = {{"factor", kNumber, "1", "2", "4", "times the rate"},
                          {"deadline", kDuration, "15ms", "15ms", "15ms", "of those without time"}},
           .expected = {kTimeout, kOverloaded, kCircuitOpen},
           .plan = plan_burst,
           .make = make_fault<Burst>}};
}

}  // namespace keelback::chaos::faults::batches
