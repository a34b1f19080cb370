// Invariants about several nodes that share a database: what its journal says of sessions, beside
// what callers heard and what workers did.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "chaos/checkers.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

constexpr const char* kOnePool = "there is one pool, and no other node";
constexpr const char* kNoJournal = "the database's journal could not be read";

bool has_nodes(const CheckInput& input) { return input.scenario.nodes > 0; }

using Life = std::pair<std::string, std::uint64_t>;  // a session, and its birth

// As the ledger names the call; empty: it does not.
std::string key_of(const CallEvent& call) {
  const Word* word = word_of(call);
  if (word == nullptr || word->shared) return "";
  return word->is_chain()  ? std::to_string(call.token)
         : word->is_text() ? fmt::format("n{:x}", call.token)
                           : "";
}

std::string describe(const CommitEvent& commit) {
  return fmt::format("session {} of birth {:x}: {} by node {} (owner {}, epoch {}, commit {})",
                     commit.session, commit.birth, commit.what, commit.writer,
                     commit.owner.empty() ? "nobody" : commit.owner, commit.epoch, commit.number);
}

}  // namespace

const Invariant kOwnersCommit = {
    .name = "owner-commits",
    .sentence = "only the node that owns a session commits it, and only after its last claim",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!has_nodes(input)) return tally.not_applicable(kOnePool);
      if (!input.history.facts.commits_known) return tally.unknown(kNoJournal);
      std::map<Life, const CommitEvent*> last;
      for (const CommitEvent& commit : input.history.commits) {
        const CommitEvent*& before = last[{commit.session, commit.birth}];
        tally.saw();
        const bool commits = before != nullptr && commit.number != before->number;
        const bool claims = before != nullptr && commit.token != before->token;
        if (commits && commit.writer != commit.owner) {
          tally.broken(describe(commit) + ": it does not own the session");
        }
        if (claims && (commit.writer != commit.owner || commit.epoch <= before->epoch)) {
          tally.broken(describe(commit) + ": a claim is made by the new owner, for a new epoch");
        }
        before = &commit;
      }
      return tally.done("no session was stored");
    }};

const Invariant kStateForward = {
    .name = "state-forward",
    .sentence = "a stored state never goes back, and what was acknowledged is stored",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!has_nodes(input)) return tally.not_applicable(kOnePool);
      if (!input.history.facts.commits_known) return tally.unknown(kNoJournal);
      std::map<Life, CommitEvent> last;
      for (const CommitEvent& commit : input.history.commits) {
        const auto [found, first] = last.try_emplace({commit.session, commit.birth}, commit);
        if (first) continue;
        CommitEvent& before = found->second;
        tally.saw();
        if (commit.position < before.position || commit.epoch < before.epoch ||
            commit.number < before.number) {
          tally.broken(fmt::format("{}: step {} after step {} of commit {}, epoch {}",
                                   describe(commit), commit.position, before.position,
                                   before.number, before.epoch));
        }
        before = commit;
      }
      if (input.scenario.settings.sessions.snapshot != SnapshotMode::kEachCall) {
        return tally.done("no session was stored twice");
      }
      for (const CallEvent& call : input.history.calls) {
        const Word* word = word_of(call);
        if (!call.ok() || word == nullptr || !word->is_chain()) continue;
        tally.saw();
        const auto found = last.find({call.session, call.birth});
        const std::uint64_t stored = found == last.end() ? 0 : found->second.position;
        if (stored < call.position) {
          tally.broken(fmt::format("{} was told step {}; the last that was stored is {}",
                                   describe(call), call.position, stored));
        }
      }
      return tally.done("no session was stored twice");
    }};

const Invariant kOneRun = {
    .name = "one-run",
    .sentence = "a call runs at most once on all nodes together, and its effect is what it is told",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!has_nodes(input)) return tally.not_applicable(kOnePool);
      std::map<std::string, std::uint32_t> runs, sent;
      for (const EffectEvent& effect : input.history.effects) ++runs[effect.key];
      for (const CallEvent& call : input.history.calls) ++sent[key_of(call)];
      for (const CallEvent& call : input.history.calls) {
        const std::string key = key_of(call);
        if (key.empty() || !call.finished()) continue;
        tally.saw();
        const auto found = runs.find(key);
        const std::uint32_t n = found == runs.end() ? 0 : found->second;
        // The latch test sends some calls again.
        if (n > sent[key] && !call.idempotent) {
          tally.broken(fmt::format("{} may not run twice, and ran {} times", describe(call), n));
        }
        if (sent[key] > 1) continue;
        if (n > 0 && call.effect == Effect::kNone) {
          tally.broken(describe(call) + " says effect none, and ran");
        }
        if (n == 0 && call.effect == Effect::kDone) {
          tally.broken(describe(call) + " says effect done, and never ran");
        }
      }
      return tally.done("no call carried a token");
    }};

const Invariant kToldOnce = {
    .name = "told-once",
    .sentence = "the loss of a session is told once",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      if (!has_nodes(input)) return tally.not_applicable(kOnePool);
      std::map<std::string, std::vector<const CallEvent*>> sessions;
      for (const CallEvent& call : input.history.calls) {
        if (!call.session.empty() && call.finished()) sessions[call.session].push_back(&call);
      }
      for (auto& [session, calls] : sessions) {
        std::ranges::stable_sort(calls, {}, &CallEvent::sent);
        const CallEvent* told = nullptr;  // since then nothing else has happened to the session
        for (const CallEvent* call : calls) {
          tally.saw();
          const bool tells =
              call->kind == OutcomeKind::kSessionLost && call->effect == Effect::kNone;
          if (tells && told != nullptr && call->sent > told->done) {
            tally.broken(fmt::format("session {}: {} and {} were both told of one loss", session,
                                     describe(*told), describe(*call)));
          }
          if (tells && told == nullptr) told = call;
          if (!tells && (call->ok() || call->effect != Effect::kNone)) told = nullptr;
        }
      }
      return tally.done("no call had a session");
    }};

std::vector<Invariant> invariants_of_nodes() {
  return {kOwnersCommit, kStateForward, kOneRun, kToldOnce};
}

}  // namespace keelback::chaos
