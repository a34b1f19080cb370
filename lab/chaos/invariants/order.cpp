// Invariants about turns: who goes first, where calls that run alone and calls that run beside each
// other want the same workers; and a session's calls.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/id.h"
#include "chaos/checkers.h"
#include "chaos/spells.h"
#include "chaos/words.h"

namespace keelback::chaos {
namespace {

// A call that waits, without a session and not suspected: all that goes before it is to be
// explained. The laboratory sends all its calls with one priority, so the order of sending is the
// order.
struct Waiting {
  const CallEvent* call = nullptr;
  bool alone = false;    // it waits to run alone
  bool batched = false;  // it may wait for others of its batch: who runs alone passes it
  Duration from{0};      // it certainly waited from this
  Duration to{0};        // … to this
};

bool is_stateless(const CallEvent& call) {
  return word_of(call) != nullptr && call.session.empty() && call.call != 0 && call.finished();
}
bool runs_alone(const CallEvent& call) {
  const Word* word = word_of(call);
  return word != nullptr && word->runs_alone();
}

// Requests of which a worker may have died, and since when: the next call like them may have to
// wait until another suspect of its function has been answered.
class Suspected {
 public:
  explicit Suspected(const History& history) {
    for (const CallEvent& call : history.calls) {
      if (call.death_cause.empty() && call.attempts <= 1) continue;
      const auto [at, first] = since_.try_emplace(call.request, call.sent);
      if (!first) at->second = std::min(at->second, call.sent);
    }
  }
  bool may_be(const CallEvent& call) const {
    const auto found = since_.find(call.request);
    return found != since_.end() && found->second <= call.done;
  }

 private:
  std::map<std::uint64_t, Duration> since_;
};

// When it certainly waited; nullopt: that is not known.
std::optional<Waiting> waiting(const CallEvent& call, const CheckInput& input) {
  if (!is_stateless(call) || call.left || call.attempts > 1) return std::nullopt;
  Waiting out{.call = &call,
              .alone = runs_alone(call),
              .batched = word_of(call)->batched,
              .from = call.done - call.ran - call.queued};
  if (const auto spell = last_spell(call)) {
    out.to = spell->begun_from;
  } else if (call.kind == OutcomeKind::kTimeout) {
    const auto& limits = input.scenario.settings.calls;
    const Duration asked = call.deadline > Duration{0} ? call.deadline : limits.deadline;
    out.to = call.sent + std::min(asked, limits.deadline_max);
  } else {
    return std::nullopt;  // it was refused, or ended in the queue for another reason
  }
  return out;
}

struct Begun {
  Spell spell;
  const CallEvent* call = nullptr;
};

// Who was up, from one change to the next.
class UpWorkers {
 public:
  explicit UpWorkers(const History& history) : history_(history) {
    std::set<WorkerId> up;
    for (const WorkerEvent& event : history.workers) {
      if (event.what == "ready" || event.what == "suspect") {
        up.insert(event.worker);
      } else {
        up.erase(event.worker);
      }
      if (changes_.empty() || changes_.back().first != event.at)
        changes_.emplace_back(event.at, up);
      changes_.back().second = up;
    }
  }

  // Those that were up all the time between `from` and `to`, where `from` is moved behind the last
  // change. Empty: nobody was, or there was a change that cannot be told from one before `to`.
  std::set<WorkerId> between(Duration& from, Duration to) const {
    // What a sample shows may have happened right after the sample before it.
    const auto next = std::ranges::lower_bound(history_.samples, to, {}, &Sample::at);
    if (next == history_.samples.end()) return {};
    const auto later = std::ranges::upper_bound(changes_, next->at, {},
                                                [](const auto& change) { return change.first; });
    if (later == changes_.begin()) return {};
    const auto& last = *std::prev(later);
    from = std::max(from, last.first);
    return last.second;
  }

 private:
  const History& history_;
  std::vector<std::pair<Duration, std::set<WorkerId>>> changes_;
};

class Turns {
 public:
  Turns(const CheckInput& input, Tally& tally) : tally_(tally), up_(input.history) {
    const Suspected suspected(input.history);
    for (const CallEvent& call : input.history.calls) {
      if (const auto spell = last_spell(call)) {
        begun_.push_back({*spell, &call});
        widest_ = std::max(widest_, spell->begun_to - spell->begun_from);
        if (call.attempts > 1) again_.push_back({*spell, &call});
      }
      if (const auto found = waiting(call, input); found && !suspected.may_be(call)) {
        waited_.push_back(*found);
      }
      if (is_stateless(call) && call.worker.generation == 0) {
        gone_.push_back(call.done);
      }
    }
    std::ranges::stable_sort(begun_, {}, [](const Begun& each) { return each.spell.begun_from; });
    std::ranges::sort(gone_);
  }

  void check() {
    one_after_another();
    for (const Waiting& each : waited_) {
      if (each.alone) overtaken(each);
    }
  }

 private:
  // Of the younger calls that were looked at, the one that surely began the earliest.
  struct First {
    const CallEvent* call = nullptr;
    Duration begun = Duration::max();

    void take(const CallEvent& other, Duration when) {
      if (when < begun) *this = {&other, when};
    }
  };

  // A younger call that runs alone had a whole worker, which the older one could have had. Where a
  // younger one of the same function had room, the older one had it, too.
  void one_after_another() {
    First alone;
    std::map<std::string_view, First> of_function;
    for (auto each = waited_.rbegin(); each != waited_.rend(); ++each) {
      for (const First& first : {alone, of_function[each->call->function]}) {
        if (first.call == nullptr || each->from >= each->to) continue;
        if (each->batched && runs_alone(*first.call)) continue;
        tally_.saw();
        if (first.begun >= each->to || first.begun <= each->from) continue;
        tally_.broken(fmt::format("{} began {:.1f} ms before {}, which is older and waited, too",
                                  describe(*first.call), milliseconds(each->to - first.begun),
                                  describe(*each->call)));
        break;
      }
      const auto spell = last_spell(*each->call);
      if (!spell) continue;
      if (each->alone) alone.take(*each->call, spell->begun_to);
      of_function[each->call->function].take(*each->call, spell->begun_to);
    }
  }

  // As long as this one is the first that waits to run alone and nothing older goes before it, one
  // worker takes no younger call: that one is being emptied for it.
  void overtaken(const Waiting& e) {
    Duration from = e.from;
    const auto later = [&](Duration when) { from = std::max(from, when); };
    const auto nearby = [&](auto visit) {
      auto at = std::ranges::lower_bound(begun_, e.from - widest_, {},
                                         [](const Begun& each) { return each.spell.begun_from; });
      for (; at != begun_.end() && at->spell.begun_from < e.to; ++at) visit(*at);
    };
    bool any = false;
    nearby([&](const Begun& each) {
      if (each.call->index < e.call->index) later(each.spell.begun_to);
      any = any || each.call->index > e.call->index;
    });
    if (!any) return;
    // An older call that ran more than once may have begun at any time.
    for (const Begun& each : again_) {
      if (each.call->index < e.call->index) later(each.spell.begun_to);
    }
    // One that leaves the queue may change how many workers are emptied, and so which.
    const auto left = std::ranges::lower_bound(gone_, e.to);
    if (left != gone_.begin()) later(*std::prev(left));
    const std::set<WorkerId> up = up_.between(from, e.to);
    if (from >= e.to || up.empty()) return;
    std::set<WorkerId> took;
    nearby([&](const Begun& each) {
      if (each.call->index > e.call->index && each.spell.begun_from > from &&
          each.spell.begun_to < e.to) {
        took.insert(each.call->worker);
      }
    });
    if (took.empty()) return;
    tally_.saw();
    if (!std::ranges::includes(took, up)) return;
    tally_.broken(fmt::format(
        "{} runs alone and waited; from {:.1f} to {:.1f} ms each of {} workers took a younger call",
        describe(*e.call), milliseconds(from), milliseconds(e.to), up.size()));
  }

  Tally& tally_;
  const UpWorkers up_;
  std::vector<Begun> begun_;     // by the earliest time that they may have begun
  std::vector<Begun> again_;     // of those that ran more than once
  std::vector<Waiting> waited_;  // by the order of sending
  std::vector<Duration> gone_;   // when one without a session left the queue without a worker
  Duration widest_{0};           // between the two bounds of a beginning
};

void check_sessions(const CheckInput& input, Tally& tally) {
  std::map<std::pair<std::string, std::uint64_t>, std::vector<Begun>> sessions;
  for (const CallEvent& call : input.history.calls) {
    const auto spell = last_spell(call);
    if (call.session.empty() || call.birth == 0 || !spell || spell->begun_to >= spell->ran_to) {
      continue;
    }
    sessions[{call.session, call.birth}].push_back({*spell, &call});
  }
  for (auto& [session, calls] : sessions) {
    std::ranges::stable_sort(calls, {}, [](const Begun& each) { return each.spell.begun_to; });
    const Begun* longest = nullptr;  // of those that began before
    for (const Begun& each : calls) {
      tally.saw();
      if (longest != nullptr && surely_together(longest->spell, each.spell)) {
        tally.broken(fmt::format("{} and {} of one session ran at once", describe(*longest->call),
                                 describe(*each.call)));
      }
      if (longest == nullptr || each.spell.ran_to > longest->spell.ran_to) longest = &each;
    }
  }
}

}  // namespace

const Invariant kOrder = {
    .name = "order",
    .sentence =
        "calls that run alone and calls that run beside others take turns, first come, "
        "first served; of one function the older call goes first; a session's calls run one after "
        "another",
    .check = [](const CheckInput& input, Tally tally) -> CheckResult {
      // Each node has a queue of its own.
      if (input.scenario.nodes == 0) Turns(input, tally).check();
      check_sessions(input, tally);
      return tally.done("no call had to wait for its turn");
    }};

std::vector<Invariant> invariants_of_order() { return {kOrder}; }

}  // namespace keelback::chaos
