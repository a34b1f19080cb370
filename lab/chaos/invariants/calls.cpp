// Invariants about single calls: outcomes, effects, replies.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "chaos/checkers.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

std::unordered_map<std::uint64_t, std::uint32_t> effects_by_call(const History& history) {
  std::unordered_map<std::uint64_t, std::uint32_t> counts;
  for (const EffectEvent& effect : history.effects) ++counts[effect.call];
  return counts;
}

constexpr const char* kNoLedger = "no worker ledger was kept on this backend";

// Only the laboratory's own words, which end in the function's own body.
bool in_ledger(const CallEvent& call) { return call.call != 0 && call.finished(); }

}  // namespace

std::string_view to_string(Status status) {
  switch (status) {
    case Status::kHolds:
      return "holds";
    case Status::kBroken:
      return "broken";
    case Status::kUnknown:
      return "unknown";
    case Status::kVacuous:
      return "vacuous";
  }
  return "?";
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::string describe(const WorkerRef& worker) { return "worker " + to_string(worker); }

std::string describe(const CallEvent& call) {
  return fmt::format("call {} ({}{}{}, of {}, {})", call.index, call.function,
                     call.session.empty() ? "" : ", session ", call.session, call.origin,
                     call.finished() ? to_string(call.kind) : "no outcome");
}

const Invariant kOneOutcome = {
    .name = "one-outcome",
    .alias = "I1",
    .sentence = "every call has exactly one outcome, and the pool's sums say so",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const CallEvent& call : input.history.calls) {
        if (call.call == 0) continue;
        tally.saw();
        if (call.outcomes != 1) {
          tally.broken(fmt::format("{} had {} outcomes", describe(call), call.outcomes));
        }
      }
      for (const Sample& sample : input.history.samples) {
        if (sample.accepted != sample.in_flight + sample.outcomes) {
          tally.broken(fmt::format(
              "at {:.1f} ms the pool said accepted {} but in flight {} and ended {}",
              milliseconds(sample.at), sample.accepted, sample.in_flight, sample.outcomes));
        }
      }
      return tally.done("no call was made");
    }};

const Invariant kEffects = {
    .name = "at-most-once",
    .alias = "I2",
    .sentence = "a call that may not run twice ran at most once; one that ended ok ran",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!input.history.facts.effects_known) return tally.not_applicable(kNoLedger);
      const auto effects = effects_by_call(input.history);
      for (const CallEvent& call : input.history.calls) {
        if (!in_ledger(call)) continue;
        tally.saw();
        const auto found = effects.find(call.call);
        const std::uint32_t n = found == effects.end() ? 0 : found->second;
        if (!call.idempotent && n > 1) {
          tally.broken(fmt::format("{} may not run twice, and ran {} times", describe(call), n));
        }
        if (call.ok() && n == 0) tally.broken(fmt::format("{} never ran", describe(call)));
        if (n > std::max(call.attempts, 1U)) {
          tally.broken(
              fmt::format("{} ran {} times in {} attempts", describe(call), n, call.attempts));
        }
      }
      return tally.done("no call ended");
    }};

const Invariant kHonestEffect = {
    .name = "honest-effect",
    .alias = "I3",
    .sentence = "effect none means it never ran, done means it did",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!input.history.facts.effects_known) return tally.not_applicable(kNoLedger);
      const auto effects = effects_by_call(input.history);
      for (const CallEvent& call : input.history.calls) {
        if (!in_ledger(call)) continue;
        tally.saw();
        const bool ran = effects.contains(call.call);
        if (call.effect == Effect::kNone && ran) {
          tally.broken(fmt::format("{} says effect none, and ran", describe(call)));
        }
        if (call.effect == Effect::kDone && !ran) {
          tally.broken(fmt::format("{} says effect done, and never ran", describe(call)));
        }
        if (call.ok() && call.effect != Effect::kDone) {
          tally.broken(fmt::format("{} is ok without effect done", describe(call)));
        }
      }
      return tally.done("no call ended");
    }};

const Invariant kCrossTalk = {
    .name = "own-reply",
    .alias = "I8",
    .sentence = "no reply belonged to another call",
    .advice = [](const CheckInput&) -> std::string {
      return "A call got an answer that belongs to another one: look for state that is kept in a "
             "global and shared by sessions.";
    },
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const CallEvent& call : input.history.calls) {
        if (!call.ok()) continue;
        const Word* word = word_of(call);
        const bool told = word != nullptr && (word->is_chain() || word->is_text() || word->batched);
        if (told) tally.saw();
        if (!call.mine) tally.broken(fmt::format("{} got another call's reply", describe(call)));
      }
      return tally.done("no reply carried a token");
    }};

const Invariant kCorruption = {
    .name = "intact-reply",
    .alias = "I9",
    .sentence = "no reply was corrupted",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const CallEvent& call : input.history.calls) {
        if (!call.ok()) continue;
        tally.saw();
        if (!call.intact) {
          tally.broken(fmt::format("{} is ok with a reply that does not read as one: {}",
                                   describe(call), call.message));
        }
      }
      return tally.done("no call ended ok");
    }};

const Invariant kPoison = {
    .name = "poison-stopped",
    .alias = "I17",
    .sentence =
        "a poisonous request is quarantined after at most quarantine.deaths workers, not "
        "counting those in which it was not alone",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const std::uint32_t deaths = input.scenario.settings.quarantine.deaths;
      if (deaths == 0) return tally.not_applicable("quarantine.deaths is 0");
      for (const FaultSpec& fault : input.scenario.faults) {
        const FaultClass* kind = find_fault_class(fault.fault_class);
        if (kind == nullptr || !kind->poisons) continue;
        struct Death {
          Duration known{0}, started{0};
        };
        std::vector<Death> died;
        bool refused = false;
        for (const CallEvent& call : input.history.calls) {
          if (call.origin != fault.id || !call.finished()) continue;
          tally.saw();
          if (call.kind == OutcomeKind::kQuarantined) refused = true;
          if (call.kind != OutcomeKind::kWorkerDied || !call.death_role.empty()) continue;
          died.push_back({call.done, call.sent + call.queued});
        }
        if (died.size() < deaths) continue;
        if (!refused) tally.broken("the request was never quarantined");
        // Attempts that were under way already when the last death became known cannot be called
        // back.
        std::ranges::sort(died, {}, &Death::known);
        const Duration known = died[deaths - 1].known;
        const auto late =
            std::ranges::count_if(died, [&](const Death& d) { return d.started > known; });
        if (late > 0) {
          tally.broken(
              fmt::format("{} workers died of one request after {} had; quarantine.deaths is {}",
                          late, deaths, deaths));
        }
      }
      return tally.done("no poisonous request was sent");
    }};

const Invariant kTyped = {
    .name = "typed-failures",
    .alias = "I23",
    .sentence = "every failure says what it is",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const CallEvent& call : input.history.calls) {
        if (!call.finished() || call.ok()) continue;
        tally.saw();
        if (call.kind == OutcomeKind::kError && call.error_type.empty()) {
          tally.broken(fmt::format("{} does not say what was raised", describe(call)));
        }
        // Of a worker of another node, whose connection broke, nobody knows how it died.
        const bool elsewhere = input.scenario.nodes > 0;
        if (call.kind == OutcomeKind::kWorkerDied && call.death_cause.empty() && !elsewhere) {
          tally.broken(fmt::format("{} does not say how the worker died", describe(call)));
        }
        if (call.message.empty()) tally.broken(fmt::format("{} has no message", describe(call)));
      }
      return tally.done("nothing failed");
    }};

const Invariant kDeterminism = {
    .name = "same-history",
    .alias = "I26",
    .sentence = "the same plan gives the same history, event for event (on the simulator)",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const RunFacts& facts = input.history.facts;
      if (facts.trace_hash == 0 || facts.trace_hash_again == 0) {
        return tally.not_applicable("the plan was not run twice");
      }
      tally.saw();
      if (facts.trace_hash != facts.trace_hash_again) {
        tally.broken(fmt::format("one plan, two histories: {:016x} and {:016x}", facts.trace_hash,
                                 facts.trace_hash_again));
      }
      return tally.done("");
    }};

std::vector<Invariant> invariants_of_calls() {
  return {kOneOutcome, kEffects, kHonestEffect, kCrossTalk,
          kCorruption, kPoison,  kTyped,        kDeterminism};
}

}  // namespace keelback::chaos
