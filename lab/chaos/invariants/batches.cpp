// Invariants about calls that run in batches.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "chaos/catalogue.h"
#include "chaos/checkers.h"
#include "chaos/deaths.h"
#include "chaos/spells.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

bool is_batched(const CallEvent& call) {
  const Word* word = word_of(call);
  return word != nullptr && word->batched;
}

// Workers may have ended for a fault that names none of them.
bool others_end_workers(const History& history) {
  return std::ranges::any_of(history.faults, [](const FaultEvent& fault) {
    const FaultClass* kind = find_fault_class(fault.fault_class);
    const bool everywhere =
        kind == nullptr || kind->reach == Reach::kPool || kind->reach == Reach::kCapacity;
    return everywhere && (kind == nullptr || !kind->callers_only);
  });
}

// ---- what one call does is its own

void check_end(Tally& tally, const CallEvent& call, const History& history, bool others) {
  using enum OutcomeKind;
  const Word& word = *word_of(call);
  tally.saw();
  if (call.kind == kError && word.act != "raise") {
    tally.broken(fmt::format("{} raises nothing, and has the error of another call ({})",
                             describe(call), call.error_type));
  }
  if (call.ok() && !word.act.empty()) {
    tally.broken(fmt::format("{} is ok, and was to {}", describe(call), word.act));
  }
  if (word.kills_its_batch()) return;
  if (call.kind == kQuarantined && !others) {
    tally.broken(fmt::format("{} ends no worker", describe(call)));
  }
  if (call.kind != kWorkerDied || !call.idempotent || call.left) return;
  if (!call.death_role.empty()) {
    tally.broken(
        fmt::format("{} is idempotent, ended no worker, and did not run again", describe(call)));
  } else if (!others && !was_hit(call.worker, history)) {
    tally.broken(fmt::format("{} ends no worker, and nothing hit {}", describe(call),
                             describe(call.worker)));
  }
}

// ---- a batch begins as a whole, and has its worker to itself

struct Ran {
  Spell spell;
  const CallEvent* call = nullptr;
};

void check_worker(Tally& tally, std::vector<Ran>& all) {
  std::ranges::stable_sort(all, {}, [](const Ran& each) { return each.spell.begun_to; });
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Ran& one = all[i];
    for (std::size_t k = i + 1; k < all.size(); ++k) {
      const Ran& other = all[k];  // it began no earlier, as far as one can know
      if (other.spell.begun_to >= one.spell.ran_to) break;
      if (!surely_together(one.spell, other.spell)) continue;
      const bool one_is = is_batched(*one.call), other_is = is_batched(*other.call);
      if (one_is != other_is) {
        tally.broken(fmt::format("{} ran beside {}, which runs in batches",
                                 describe(one_is ? *other.call : *one.call),
                                 describe(one_is ? *one.call : *other.call)));
      } else if (one_is && one.spell.begun_to < other.spell.begun_from) {
        tally.broken(fmt::format("{} began in the midst of the batch of {}", describe(*other.call),
                                 describe(*one.call)));
      }
    }
  }
}

}  // namespace

const Invariant kBatches = {
    .name = "batches",
    .sentence =
        "the calls of a batch begin together and have their worker to themselves; an error is that "
        "of one call alone; a call that may run twice and ends no worker never ends as worker_died "
        "for another one",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      const History& history = input.history;
      const bool others = others_end_workers(history);
      std::map<std::uint32_t, std::vector<Ran>> by_worker;
      for (const CallEvent& call : history.calls) {
        if (call.call == 0 || !call.finished()) continue;
        if (is_batched(call)) check_end(tally, call, history, others);
        // What is said of a session's call may include that its state was saved, while the worker
        // ran the next one already.
        if (const auto spell = last_spell(call); spell && call.session.empty()) {
          by_worker[call.worker.generation].push_back({*spell, &call});
        }
      }
      for (auto& [generation, all] : by_worker) check_worker(tally, all);
      return tally.done("no call ran in a batch");
    }};

std::vector<Invariant> invariants_of_batches() { return {kBatches}; }

}  // namespace keelback::chaos
