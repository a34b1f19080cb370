// Invariants about sessions. The load's `chain` calls make each session a register that only moves
// forward: every one appends its token and answers how many steps the session has had (and, on
// Python, the chain's value). From that the order of effects can be read without guessing.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "chaos/recovery.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

using Calls = std::vector<const CallEvent*>;

// Every call that was sent in a session, by session, in the order of sending: those of the
// laboratory, or its chains alone.
std::map<std::string, Calls> session_calls(const History& history, bool chains) {
  std::map<std::string, Calls> out;
  for (const CallEvent& call : history.calls) {
    const Word* word = word_of(call);
    const bool wanted = word != nullptr && !call.session.empty() && (word->is_chain() || !chains);
    if (wanted && call.call != 0) out[call.session].push_back(&call);
  }
  for (auto& [session, calls] : out) std::ranges::stable_sort(calls, {}, &CallEvent::sent);
  return out;
}

// One life of a session, which saved state carries over its workers' deaths: its ok replies in the
// order of the positions they got.
void check_life(Tally& tally, const std::string& session, Calls& life, const Calls& all,
                bool links_known) {
  std::ranges::stable_sort(life, {}, &CallEvent::position);
  Duration latest_sent{0};  // of those at smaller positions
  const CallEvent* before = nullptr;
  for (const CallEvent* call : life) {
    tally.saw();
    if (call->position == 0 || (before != nullptr && call->position == before->position)) {
      tally.broken(fmt::format("session {}: {} and {} both are step {}", session, describe(*call),
                               before != nullptr ? describe(*before) : "nothing", call->position));
    } else if (before != nullptr && latest_sent > call->done) {
      tally.broken(fmt::format(
          "session {}: {} had ended before an earlier step of the session was even sent", session,
          describe(*call)));
    }
    // Steps in between belong to calls that may have run and were not answered ok.
    const std::uint64_t from = before != nullptr ? before->position : 0;
    if (call->position > from + 1) {
      const auto possible = std::ranges::count_if(all, [&](const CallEvent* other) {
        return !other->ok() && (!other->finished() || other->effect != Effect::kNone) &&
               other->sent <= call->done;
      });
      if (call->position - from - 1 > static_cast<std::uint64_t>(possible)) {
        tally.broken(
            fmt::format("session {}: {} is step {} after step {}, and only {} other calls "
                        "may have run",
                        session, describe(*call), call->position, from, possible));
      }
    } else if (links_known && call->position == from + 1) {
      const std::uint64_t expected = chain_step(before != nullptr ? before->link : 0, call->token);
      if (call->link != expected) {
        tally.broken(
            fmt::format("session {}: {} does not extend the chain", session, describe(*call)));
      }
    }
    latest_sent = std::max(latest_sent, call->sent);
    before = call;
  }
}

bool says_lost(const CallEvent& call) {
  return call.finished() &&
         (call.kind == OutcomeKind::kSessionLost || call.kind == OutcomeKind::kSessionExpired ||
          // The call that met the death: it names the worker that died with the session.
          call.kind == OutcomeKind::kWorkerDied || call.kind == OutcomeKind::kTimeout ||
          call.kind == OutcomeKind::kCancelled);
}

}  // namespace

const Invariant kSessionOrder = {
    .name = "session-order",
    .alias = "I5",
    .sentence = "a session's calls took effect one after another, in real-time order",
    .advice = [](const CheckInput&) -> std::string {
      return "A session's state went back or forward by itself: keep it in "
             "keelback.session().state, not in a global or a file.";
    },
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      // Saved state goes with the session from epoch to epoch: what it is restored to is what the
      // last answered call left, and one chain goes through all of them.
      const Settings::SessionsSection& settings = input.scenario.settings.sessions;
      const bool saved =
          settings.snapshot != SnapshotMode::kOff && settings.mode != Affinity::kHint;
      for (auto& [session, calls] : session_calls(input.history, /*chains=*/true)) {
        std::map<std::pair<std::uint64_t, std::uint32_t>, Calls> lives;
        for (const CallEvent* call : calls) {
          if (!call->ok() || !call->intact) continue;
          lives[{call->birth, saved ? 0 : call->epoch}].push_back(call);
        }
        for (auto& [life, members] : lives) {
          check_life(tally, session, members, calls, input.history.facts.links_known);
        }
      }
      return tally.done("no session call ended ok");
    }};

const Invariant kLossTold = {
    .name = "loss-told",
    .alias = "I6",
    .sentence = "a session that lost its state was told so before it was served again",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      for (const auto& [session, all] : session_calls(input.history, /*chains=*/false)) {
        Calls ended;
        for (const CallEvent* call : all) {
          if (call->finished()) ended.push_back(call);
        }
        std::ranges::stable_sort(ended, {}, &CallEvent::done);
        const CallEvent* before = nullptr;
        bool told = false;
        for (const CallEvent* call : ended) {
          if (says_lost(*call)) told = true;
          if (!call->ok()) continue;
          tally.saw();
          if (before != nullptr && before->birth != call->birth && !told) {
            tally.broken(
                fmt::format("session {} began anew with {}, and nobody was told of its loss",
                            session, describe(*call)));
          }
          if (before == nullptr || before->birth != call->birth) told = false;
          before = call;
        }
      }
      return tally.done("no session call ended ok");
    }};

const Invariant kAffinity = {
    .name = "one-home",
    .alias = "I7",
    .sentence = "a session stays on one worker within an epoch, and epochs only grow",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      struct Home {
        WorkerRef worker;
        const CallEvent* first = nullptr;
      };
      std::map<std::tuple<std::string, std::uint64_t, std::uint32_t>, Home> homes;
      std::map<std::pair<std::string, std::uint64_t>, Calls> births;
      for (const CallEvent& call : input.history.calls) {
        if (!call.ok() || call.session.empty() || call.birth == 0) continue;
        tally.saw();
        Home& home = homes[{call.session, call.birth, call.epoch}];
        if (home.first == nullptr) home = {call.worker, &call};
        if (home.worker != call.worker) {
          tally.broken(fmt::format("session {} in one epoch: {} ran on {}, {} on {}", call.session,
                                   describe(*home.first), describe(home.worker), describe(call),
                                   describe(call.worker)));
        }
        births[{call.session, call.birth}].push_back(&call);
      }
      for (auto& [key, calls] : births) {
        std::ranges::stable_sort(calls, {}, &CallEvent::done);
        std::uint32_t settled = 0;  // the epoch of a call that ended before this one was sent
        for (std::size_t i = 0, ended = 0; i < calls.size(); ++i) {
          while (calls[ended]->done < calls[i]->sent) {
            settled = std::max(settled, calls[ended++]->epoch);
          }
          if (calls[i]->epoch < settled) {
            tally.broken(fmt::format("session {}: {} went back to epoch {}", key.first,
                                     describe(*calls[i]), calls[i]->epoch));
          }
        }
      }
      // The workers' own words: within an epoch one worker runs a session, whatever callers were
      // told.
      std::map<std::tuple<std::string, std::uint64_t, std::uint32_t>, WorkerRef> ran;
      for (const EffectEvent& effect : input.history.effects) {
        if (effect.session.empty() || effect.birth == 0) continue;
        const auto [it, first] =
            ran.try_emplace({effect.session, effect.birth, effect.epoch}, effect.worker);
        if (!first && it->second != effect.worker) {
          tally.broken(fmt::format("session {} in one epoch ran on {} and on {}", effect.session,
                                   describe(it->second), describe(effect.worker)));
        }
      }
      return tally.done("no session call ended ok");
    }};

const Invariant kControl = {
    .name = "untouched-sessions",
    .alias = "I16",
    .sentence = "sessions on untouched workers keep their service",
    .verdict = Verdict::kBudget,
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (std::ranges::any_of(input.history.faults,
                              [](const FaultEvent& fault) { return fault.targets.empty(); })) {
        return tally.not_applicable("a fault reached the whole pool: there is no control group");
      }
      const std::set<std::string> control = control_group(input);
      std::uint64_t offered = 0, ok = 0;
      const CallEvent* lost = nullptr;
      for (const CallEvent& call : input.history.calls) {
        if (call.origin != "load" || !control.contains(call.session)) continue;
        if (call.planned < input.plan.phases.faults || call.planned >= input.plan.phases.recovery) {
          continue;
        }
        tally.saw();
        ++offered;
        ok += call.ok();
        if (!call.ok() && lost == nullptr) lost = &call;
      }
      const double wanted = input.scenario.during.control_ok.value_or(
          std::min(input.scenario.during.ok, input.scenario.baseline_ok));
      if (offered > 0 && static_cast<double>(ok) < wanted * static_cast<double>(offered)) {
        tally.broken(
            fmt::format("sessions on workers that no fault touched: {} of {} ok, {:.1f} % "
                        "wanted; first {}",
                        ok, offered, 100 * wanted, describe(*lost)));
      }
      return tally.done("no session lived on a worker that no fault touched");
    }};

std::vector<Invariant> invariants_of_sessions() {
  return {kSessionOrder, kLossTold, kAffinity, kControl};
}

}  // namespace keelback::chaos
