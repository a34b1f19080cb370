// Invariants about the calls of a worker that ended while it ran several of them.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <set>

#include "chaos/catalogue.h"
#include "chaos/checkers.h"
#include "chaos/deaths.h"
#include "chaos/spells.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

constexpr std::uint32_t kDispatchesMax = 16;  // core/retry.h: then the pool gives up

using Calls = std::vector<const CallEvent*>;
using ByRequest = std::map<std::uint64_t, Calls>;

ByRequest by_request(const History& history) {
  ByRequest out;
  for (const CallEvent& call : history.calls) {
    if (call.call != 0 && call.finished()) out[call.request].push_back(&call);
  }
  return out;
}

// At most so many workers have died of this request while it ran alone in them. A death beside
// others does not count, also if the request is known to be the cause.
std::uint64_t lone_deaths_at_most(const Calls& same) {
  std::uint64_t n = 0;
  for (const CallEvent* call : same) {
    const bool died_alone = call->kind == OutcomeKind::kWorkerDied && call->death_role.empty();
    n += died_alone ? call->attempts : std::max(call->attempts, 1U) - 1;
  }
  return n;
}

// ---- the roles of one death

// It misbehaved in its worker, or may have. What ran again ended elsewhere and otherwise.
bool may_be_guilty(const CallEvent& call) {
  using enum OutcomeKind;
  return call.death_role == "culprit" || call.kind == kTimeout || call.kind == kCancelled ||
         call.attempts > 1;
}

void check_named(Tally& tally, const WorkerDeath& death,
                 const std::map<std::uint64_t, const CallEvent*>& by_id) {
  std::set<std::uint64_t> named;
  for (const CallEvent* call : death.culprits) named.insert(call->call);
  for (const CallEvent* call : death.bystanders) {
    const auto culprit = named_culprit(*call);
    if (!culprit) {
      tally.broken(
          fmt::format("{} is not told whose fault it is: {}", describe(*call), call->death_detail));
      continue;
    }
    named.insert(*culprit);
    const auto found = by_id.find(*culprit);
    const bool had = found != by_id.end() &&
                     (found->second->worker == death.worker || found->second->attempts > 1);
    if (!had) {
      tally.broken(fmt::format("{} is told that call number {} is the culprit, which {} never had",
                               describe(*call), *culprit, describe(death.worker)));
    } else if (!may_be_guilty(*found->second)) {
      tally.broken(fmt::format("{} is told that {} is the culprit", describe(*call),
                               describe(*found->second)));
    }
  }
  if (named.size() > 1) {
    tally.broken(
        fmt::format("the death of {} has {} culprits", describe(death.worker), named.size()));
  }
}

void check_roles(Tally& tally, const WorkerDeath& death) {
  const std::size_t known = death.culprits.size() + death.bystanders.size();
  if (known > 0 && !death.suspects.empty()) {
    tally.broken(fmt::format("{}: {} is a suspect, although the cause is known",
                             describe(death.worker), describe(*death.suspects.front())));
  }
  for (const Calls* some : {&death.culprits, &death.bystanders, &death.suspects}) {
    for (const CallEvent* call : *some) {
      tally.saw();
      if (call->effect == Effect::kNone) {
        tally.broken(
            fmt::format("{} has not begun, and is called a {}", describe(*call), call->death_role));
      }
    }
  }
}

// A death that the pool did not order: whose fault it is called, and whose it is.
void check_blame(Tally& tally, const WorkerDeath& death, const History& history) {
  if (death.cause == "killed" || was_hit(death.worker, history)) {
    const bool from_outside = death.cause == "signal" && death.signal == SIGKILL;
    if (from_outside && !death.culprits.empty()) {
      tally.broken(fmt::format("{} is blamed for the end of {}, which was killed from outside",
                               describe(*death.culprits.front()), describe(death.worker)));
    }
    return;
  }
  for (const CallEvent* call : death.culprits) {
    if (call->origin == "load" && word_of(*call) != nullptr) {
      tally.broken(fmt::format("{} is blamed for the end of {}, and ends no worker",
                               describe(*call), describe(death.worker)));
    }
  }
  const auto leads = [](const CallEvent* call) {
    const Word* word = word_of(*call);
    return word != nullptr && word->leads;
  };
  const auto misbehaves = [](const CallEvent* call) {
    const Word* word = word_of(*call);
    return call->origin != "load" && (word == nullptr || !word->in_mix);
  };
  const auto found = std::ranges::find_if(death.suspects, leads);
  if (found == death.suspects.end() || death.signal != SIGSEGV) return;
  if (std::ranges::count_if(death.suspects, misbehaves) > 1) return;  // it may be the other's fault
  tally.broken(fmt::format("{} ended {} and is only a suspect: the dying thread leads to it",
                           describe(**found), describe(death.worker)));
}

// ---- who is innocent runs again, and pays for nothing

void check_again(Tally& tally, const CallEvent& call, const Calls& same, std::uint32_t deaths) {
  if (call.kind != OutcomeKind::kWorkerDied || call.left || call.attempts >= kDispatchesMax) return;
  if (call.effect == Effect::kNone) {
    tally.broken(fmt::format("{} had not begun, and was given to no other worker", describe(call)));
  }
  const Word* word = word_of(call);
  const bool spoke = word == nullptr || word->is_stream();  // the application's may be a stream
  if (!is_innocent(call) || !call.idempotent || !call.session.empty() || spoke) return;
  if (deaths > 0 && lone_deaths_at_most(same) >= deaths) return;  // perhaps it is in quarantine
  tally.broken(fmt::format("{} is idempotent and only a {}, and did not run again", describe(call),
                           call.death_role));
}

void check_breaker(Tally& tally, const CheckInput& input) {
  const std::uint32_t least = std::max(input.scenario.settings.breaker.failures, 1U);
  std::map<std::string, Calls> by_function;
  for (const CallEvent& call : input.history.calls) {
    if (call.call != 0 && call.finished()) by_function[call.function].push_back(&call);
  }
  for (auto& [function, calls] : by_function) {
    std::ranges::sort(calls, {}, [](const CallEvent* call) {
      return std::pair(call->done, call->kind == OutcomeKind::kCircuitOpen);
    });
    std::uint32_t failures = 0;
    for (const CallEvent* call : calls) {
      const bool died = call->kind == OutcomeKind::kWorkerDied && !is_innocent(*call);
      failures += died || call->kind == OutcomeKind::kTimeout;
      if (call->kind == OutcomeKind::kCircuitOpen && failures < least) {
        tally.broken(fmt::format(
            "the breaker of {} is open after {} failures; bystanders and suspects are none",
            function, failures));
      }
    }
  }
}

}  // namespace

const Invariant kBystanders = {
    .name = "bystanders",
    .sentence =
        "a death has one culprit at most, and that is the call whose thread died or that did not "
        "end; a call that only ran beside it runs again if it may, and no breaker and no "
        "quarantine counts "
        "it",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      std::map<std::uint64_t, const CallEvent*> by_id;
      for (const CallEvent& call : input.history.calls) {
        if (call.call != 0) by_id[call.call] = &call;
      }
      for (const WorkerDeath& death : deaths_of(input.history)) {
        check_roles(tally, death);
        check_named(tally, death, by_id);
        check_blame(tally, death, input.history);
      }
      const std::uint32_t deaths = input.scenario.settings.quarantine.deaths;
      for (const auto& [request, same] : by_request(input.history)) {
        for (const CallEvent* call : same) {
          check_again(tally, *call, same, deaths);
          if (call->kind == OutcomeKind::kQuarantined && lone_deaths_at_most(same) < deaths) {
            tally.broken(fmt::format("{}, and no more than {} workers died of it alone",
                                     describe(*call), lone_deaths_at_most(same)));
          }
        }
      }
      check_breaker(tally, input);
      return tally.done("no worker ended while it ran several calls");
    }};

namespace {

// From now on the next call like it runs alone. It ended its worker, or may have; where the
// laboratory did that on the pool's own order, the pool suspects nobody.
bool is_suspected(const CallEvent& call, const History& history) {
  const bool ended_it = call.death_role == "culprit" && call.death_cause != "killed";
  return (call.death_role == "suspect" || ended_it) && !was_hit(call.worker, history);
}

// Whether an answer may have cleared the request between the suspect's death and this call.
bool may_be_cleared(const CallEvent& suspect, const CallEvent& call, const Calls& same) {
  return std::ranges::any_of(same, [&](const CallEvent* other) {
    // Of the last two the caller heard before the answer came.
    const bool answered = other->ok() || other->kind == OutcomeKind::kError ||
                          other->kind == OutcomeKind::kTimeout || other->left;
    return other != &call && answered && other->done >= suspect.sent && other->sent <= call.done;
  });
}

using OnWorkers = std::map<std::uint32_t, std::vector<std::pair<Spell, const CallEvent*>>>;

const CallEvent* surely_beside(const CallEvent& call, const Spell& spell, const OnWorkers& all) {
  const auto found = all.find(call.worker.generation);
  if (found == all.end()) return nullptr;
  for (const auto& [other, beside] : found->second) {
    if (beside != &call && surely_together(spell, other)) return beside;
  }
  return nullptr;
}

}  // namespace

const Invariant kSuspectsAlone = {
    .name = "suspects-alone",
    .sentence =
        "a request that is known or suspected to have ended a worker runs alone until it has been "
        "answered",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const History& history = input.history;
      OnWorkers all;
      for (const CallEvent& call : history.calls) {
        if (const auto spell = last_spell(call)) {
          all[call.worker.generation].emplace_back(*spell, &call);
        }
      }
      for (const auto& [request, same] : by_request(history)) {
        for (const CallEvent* suspect : same) {
          if (!is_suspected(*suspect, history)) continue;
          for (const CallEvent* call : same) {
            const auto spell = last_spell(*call);
            if (call == suspect || !spell || spell->begun_from <= suspect->done) continue;
            const Duration ttl = input.scenario.settings.quarantine.ttl;
            if (spell->begun_to - suspect->sent >= ttl) continue;  // it may be forgotten
            if (may_be_cleared(*suspect, *call, same)) continue;
            tally.saw();
            const CallEvent* beside = surely_beside(*call, *spell, all);
            if (call->death_role.empty() && beside == nullptr) continue;
            tally.broken(fmt::format("{} is suspected since {}, and ran beside {}", describe(*call),
                                     describe(*suspect),
                                     beside != nullptr ? describe(*beside) : "others"));
          }
        }
      }
      return tally.done("no request was suspected and came again");
    }};

std::vector<Invariant> invariants_of_bystanders() { return {kBystanders, kSuspectsAlone}; }

}  // namespace keelback::chaos
