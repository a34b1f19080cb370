#include "cluster/ledger.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <sstream>

namespace keelback::cluster {

std::string text_of(const Calls& calls) { return fmt::format("{}", fmt::join(calls, " ")); }

State state_of(const Calls& calls) {
  return {1, std::make_shared<const std::string>(text_of(calls))};
}

Calls calls_of(const State& state) {
  std::istringstream in(*state.bytes);
  Calls calls;
  for (CallNumber call = 0; in >> call;) calls.push_back(call);
  return calls;
}

void Ledger::wrong(std::string what) { wrongs.push_back(std::move(what)); }

Ledger::Life* Ledger::life(const std::string& session, std::uint64_t birth) {
  const auto found = lives_.find(session);
  return found != lives_.end() && found->second.birth == birth ? &found->second : nullptr;
}

// No acknowledged state is lost or rolled back.
void Ledger::must_hold(const std::string& what, const std::string& session,
                       const std::set<CallNumber>& acknowledged, const Calls& state) {
  if (went_back) return;
  for (const CallNumber call : acknowledged) {
    if (std::ranges::find(state, call) != state.end()) continue;
    wrong(fmt::format("rolled back: {} of session {} is [{}], and call {} was acknowledged", what,
                      session, text_of(state), call));
  }
}

void Ledger::claimed(const Claim& request, const SessionRow& row) {
  if (!epochs_[{row.session, row.birth}].insert(row.epoch).second && !went_back) {
    wrong(fmt::format("two owners: epoch {} of session {} was claimed twice", row.epoch,
                      row.session));
  }
  Life* known = life(row.session, row.birth);
  if (!known) {
    const auto before = lives_.find(row.session);
    if (before != lives_.end()) {
      const Life& old = before->second;
      if (!old.acknowledged.empty() && !old.told_by && !went_back) {
        wrong(fmt::format("not told: session {} opens anew, and nobody heard that it was lost",
                          row.session));
      }
      ++seen["opened anew"];
    }
    Life fresh;
    fresh.birth = row.birth;
    known = &(lives_[row.session] = fresh);
  } else {
    ++seen["taken over"];
  }
  known->epoch = row.epoch;
  known->token = request.token;
}

void Ledger::committed(const Commit& request) {
  Life* known = life(request.session, request.birth);
  if (!known || known->token != request.token) {
    if (!went_back) {
      wrong(fmt::format("lost owner: a commit of session {} by {} took effect after another claim",
                        request.session, request.owner.node));
    }
    return;
  }
  ++seen["committed"];
  if (!request.state) {
    ++seen["stored state taken away"];
    return;
  }
  const Calls state = calls_of(*request.state);
  must_hold("a commit", request.session, known->acknowledged, state);
  const Calls& before = known->committed;
  const bool grows =
      state.size() >= before.size() && std::equal(before.begin(), before.end(), state.begin());
  if (!grows && !went_back) {
    wrong(fmt::format("rolled back: session {} was [{}], and [{}] is committed", request.session,
                      text_of(before), text_of(state)));
  }
  if (std::set(state.begin(), state.end()).size() != state.size()) {
    wrong(fmt::format("twice: session {} is [{}]", request.session, text_of(state)));
  }
  known->committed = state;
}

void Ledger::ran(CallNumber call, const std::string& key, bool idempotent) {
  if (++runs_[call] > 1 && !idempotent) wrong(fmt::format("twice: call {} ran again", call));
  if (!key.empty() && ++key_runs_[key] > 1 && !idempotent) {
    wrong(fmt::format("twice: the call with key {} ran again", key));
  }
}

void Ledger::vouched(const std::string& session, std::uint64_t birth, std::uint32_t epoch,
                     const Calls& state) {
  Life* known = life(session, birth);
  if (!known || known->epoch != epoch) {
    if (!went_back) {
      wrong(
          fmt::format("lost owner: an answer of session {}, epoch {}, was acknowledged after "
                      "another claim",
                      session, epoch));
    }
    return;
  }
  ++seen["vouched"];
  must_hold("an answer", session, known->acknowledged, state);
  known->acknowledged.insert(state.back());
}

void Ledger::kept(const std::string& session, std::uint64_t birth, const Calls& state) {
  Life* known = life(session, birth);
  if (!known) return;  // it was committed, then lost and told, and its answer came late
  if (std::ranges::find(known->committed, state.back()) == known->committed.end() && !went_back) {
    wrong(fmt::format("not stored: call {} of session {} was acknowledged", state.back(), session));
  }
  known->acknowledged.insert(state.back());
}

void Ledger::told(const std::string& session, const Owner& by) {
  const auto found = lives_.find(session);
  if (found == lives_.end()) return;
  Life& known = found->second;
  ++seen["told"];
  if (!losses_allowed && !went_back) {
    wrong(fmt::format("lost: session {}, of which every state was stored", session));
  }
  // A second time only if who told it before did not live to write that down.
  if (known.told_by && (*known.told_by == by || lives(*known.told_by)) && !went_back) {
    wrong(fmt::format("told twice: session {}", session));
  }
  known.told_by = by;
}

void Ledger::heard(CallNumber call, const std::string& key, bool idempotent, const Heard& heard) {
  if (open_.erase(call) == 0) {
    wrong(fmt::format("two outcomes: of call {}", call));
    return;
  }
  last_heard = fmt::format("{} {}", to_string(heard.kind), to_string(heard.effect));
  ++seen[last_heard];
  heard_[call] = heard;
  if (key.empty() || idempotent || heard.kind != OutcomeKind::kOk) return;
  const CallNumber first = key_answers_.try_emplace(key, heard.answer).first->second;
  if (first != heard.answer) wrong(fmt::format("two answers: of key {}", key));
}

void Ledger::finish() {
  for (const CallNumber call : open_) wrong(fmt::format("no outcome: of call {}", call));
  for (const auto& [call, heard] : heard_) {
    const auto runs = runs_.find(call);
    const bool ran = runs != runs_.end();
    if (heard.effect == Effect::kNone && ran) {
      wrong(fmt::format("effect none: call {} ran ({})", call, to_string(heard.kind)));
    }
  }
}

}  // namespace keelback::cluster
