// What the core does in a simulation, watched from outside with structures too simple to be wrong.
// For tests: a broken promise is a failed expectation.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "sim/simulation.h"

namespace keelback::sim {

// The order between calls that run alone and calls that share a worker (DESIGN-2, section 15).
//
// E is the first call that waits to run alone: of those without a session, the highest priority
// first, then the oldest. A call overtakes E if it is dispatched, is younger, and its priority is
// not higher. What holds:
//
//   O1  Among calls that run alone, nobody without a session overtakes E.
//   O2  As long as E is the first, no call that goes before it is dispatched, and no worker comes
//       or goes, at least one worker takes no call that overtakes E. The calls in that worker end
//       by their deadlines, then E runs there. Of one priority only so many calls go before E as
//       are older: so E is not overtaken for ever.
//
// A worker that has just become empty may fill itself with younger calls in the same step. Only a
// strict witness counts these.
class OrderWitness {
 public:
  explicit OrderWitness(bool strict) : strict_(strict) {}
  void submitted(const core::CallSubmitted& event, bool alone) {
    if (event.session.empty() && alone && event.idempotency_key.empty()) {
      waiting_.insert({event.priority, event.call});
      keep_first();
    }
    priorities_[event.call] = event.priority;
  }
  void settled(CallId call) {
    if (waiting_.erase({priorities_.at(call), call}) > 0) keep_first();
  }
  // serving: the workers that take calls of all kinds. fills: the worker was empty in this step.
  void dispatched(const core::Dispatch& d, const std::set<WorkerId>& serving, bool fills) {
    if (d.batch.index > 0) return settled(d.call);  // it goes along with the first of its batch
    const Place place{priorities_.at(d.call), d.call};
    const bool first_attempt = d.attempt == 1;
    if (std::exchange(serving_, serving) != serving) took_.clear();
    if (first_ && place < *first_) took_.clear();
    if (first_ && *first_ < place) {
      ++overtaken_;
      if (d.alone && !d.session && first_attempt && plain_.contains(d.call)) {
        ADD_FAILURE() << "call " << d.call.value << " runs alone before call "
                      << first_->second.value;
      }
      if (strict_ || !fills) took_.insert(d.worker);
      EXPECT_TRUE(serving.empty() || !std::ranges::includes(took_, serving))
          << "no worker is emptied for call " << first_->second.value;
    }
    settled(d.call);
  }
  void plain(CallId call) { plain_.insert(call); }
  std::uint64_t overtaken() const { return overtaken_; }

 private:
  using Place = std::pair<Priority, CallId>;
  void keep_first() {
    const std::optional<Place> now =
        waiting_.empty() ? std::nullopt : std::optional(*waiting_.begin());
    if (now != first_) took_.clear();
    first_ = now;
  }

  const bool strict_;
  std::set<Place> waiting_;
  std::set<CallId> plain_;  // run alone, have no session and no key
  std::map<CallId, Priority> priorities_;
  std::optional<Place> first_;
  std::set<WorkerId> serving_;
  std::set<WorkerId> took_;  // a call that overtakes the first one, since that is the first
  std::uint64_t overtaken_ = 0;
};

class Witness {
 public:
  Witness(Simulation& sim, const Settings& settings, bool strict = false)
      : sim_(sim), order_(strict), cap_(settings.workers.concurrency) {
    sim.observe([this](Time, const core::Event& e) { see(e); },
                [this](Time, const core::Action& a) { see(a); });
  }

  std::uint64_t submitted() const { return submitted_; }
  std::uint64_t resolved() const { return resolved_.size(); }
  // Dispatches to a worker that ran others; calls that overtook one that waited to run alone.
  std::uint64_t shared() const { return shared_; }
  std::uint64_t overtaken() const { return order_.overtaken(); }
  std::uint64_t suspects() const { return suspects_; }  // calls that ran alone for a suspicion
  std::uint64_t innocent() const { return innocent_; }  // outcomes of bystanders and suspects
  std::uint64_t culprits() const { return culprits_; }  // outcomes of calls that ended their worker
  std::uint64_t batched() const { return batched_; }    // dispatches in a batch of several

 private:
  struct Asked {
    std::string function;
    bool idempotent = false;  // as its caller says
    std::uint64_t fingerprint = 0;
    std::string batch_key;
    Priority priority = Priority::kNormal;
    bool started = false;   // an attempt of it, by the marks of a worker that died
    bool answered = false;  // user code of it has run to its end
  };
  struct Seen {
    bool stopping = false;
    std::uint64_t empty_at = 0;    // the last step in which it ran nothing
    std::map<CallId, bool> calls;  // that it runs, and whether alone
  };

  void see(const core::Event& event) {
    ++step_;
    if (const auto* submitted = std::get_if<core::CallSubmitted>(&event)) {
      see(*submitted);
    } else if (const auto* announced = std::get_if<core::FunctionsAnnounced>(&event)) {
      for (const core::FunctionSpec& each : announced->functions) functions_[each.name] = each;
    } else if (const auto* changed = std::get_if<core::ConfigChanged>(&event)) {
      cap_ = changed->settings.workers.concurrency;
    } else if (const auto* ready = std::get_if<core::WorkerReady>(&event)) {
      ready_[ready->worker];
    } else if (const auto* reply = std::get_if<core::WorkerReplied>(&event)) {
      see(*reply);
    } else if (const auto* failed = std::get_if<core::RestoreFailed>(&event)) {
      if (const auto at = ready_.find(failed->worker); at != ready_.end()) {
        at->second.calls.erase(failed->call);
      }
    } else if (const auto* exit = std::get_if<core::WorkerExited>(&event)) {
      see(*exit);
    } else if (const auto* blocked = std::get_if<core::LoopBlocked>(&event)) {
      const auto at = ready_.find(blocked->worker);
      EXPECT_TRUE(at != ready_.end() && at->second.calls.contains(blocked->by));
      blocked_.insert(blocked->by);
    }
  }
  void see(const core::CallSubmitted& event) {
    ++submitted_;
    asked_[event.call] = {.function = std::string(event.function),
                          .idempotent = event.idempotent,
                          .fingerprint = event.fingerprint,
                          .batch_key = std::string(event.batch_key),
                          .priority = event.priority};
    const bool alone = always_alone_.contains(event.function);
    if (alone && event.session.empty() && event.idempotency_key.empty()) order_.plain(event.call);
    order_.submitted(event, alone);
  }
  void see(const core::WorkerReplied& reply) {
    if (const auto at = ready_.find(reply.worker); at != ready_.end()) {
      EXPECT_EQ(at->second.calls.erase(reply.call), 1u) << "an answer of a call that did not run";
    }
    const bool ran = reply.kind != core::ReplyKind::kBadRequest &&
                     reply.kind != core::ReplyKind::kUnknownFunction;
    asked_.at(reply.call).answered |= ran;
  }
  void see(const core::WorkerExited& exit) {
    for (const core::StartedCall& each : exit.started) {
      Asked& call = asked_.at(each.call);
      call.started = true;
      // Of several, if it is known who it was, the others are free of suspicion.
      if (!exit.culprit || exit.culprit == each.call) died_.insert(call.fingerprint);
    }
    if (exit.culprit) enders_.insert(exit.culprit);
    gone_.insert(exit.worker);
    ready_.erase(exit.worker);
  }

  void see(const core::Action& action) {
    if (const auto* d = std::get_if<core::Dispatch>(&action)) {
      see(*d);
    } else if (const auto* r = std::get_if<core::Resolve>(&action)) {
      see(*r);
      order_.settled(r->call);
    } else if (const auto* t = std::get_if<core::TellCaller>(&action)) {
      EXPECT_NE(t->answer.effect, Effect::kNone) << "it runs";
    } else if (const auto* p = std::get_if<core::ReplayOutcome>(&action)) {
      EXPECT_TRUE(resolved_.insert(p->call).second) << "two outcomes for call " << p->call.value;
      order_.settled(p->call);
    } else if (const auto* s = std::get_if<core::StopWorker>(&action)) {
      leave(s->worker);
    } else if (const auto* k = std::get_if<core::KillWorker>(&action)) {
      leave(k->worker);
    }
  }
  void leave(WorkerId worker) {
    if (const auto at = ready_.find(worker); at != ready_.end()) at->second.stopping = true;
  }
  void see(const core::Resolve& r) {
    EXPECT_TRUE(resolved_.insert(r.call).second) << "two outcomes for call " << r.call.value;
    EXPECT_TRUE(r.kind != OutcomeKind::kOk || r.effect == Effect::kDone);
    // The effect is what the marks and answers say.
    const Asked& call = asked_.at(r.call);
    if (r.effect == Effect::kNone) {
      EXPECT_FALSE(call.started || call.answered) << "call " << r.call.value << " had begun";
    } else if (r.effect == Effect::kDone) {
      EXPECT_TRUE(call.answered) << "call " << r.call.value << " has not ended";
    }
    if (!r.death || r.death->role == DeathRole::kNone) return;
    EXPECT_EQ(r.effect, Effect::kMaybe);
    if (r.death->role != DeathRole::kCulprit) ++innocent_;
    if (r.death->role == DeathRole::kCulprit) {
      ++culprits_;
      EXPECT_TRUE(blocked_.contains(r.call) || enders_.contains(r.call))
          << "nobody has seen what call " << r.call.value << " did";
    }
  }
  void see(const core::Dispatch& d) {
    const Asked& call = asked_.at(d.call);
    EXPECT_EQ(resolved_.count(d.call), 0u) << "dispatched after its outcome";
    EXPECT_TRUE(!call.started || call.idempotent || functions_.at(call.function).idempotent)
        << "what is not idempotent began twice";
    const auto at = ready_.find(d.worker);
    ASSERT_TRUE(at != ready_.end() && !at->second.stopping) << "dispatched to no ready worker";
    check_room(at->second, d, call);
    if (d.session) dispatched_in_session(d);
    if (at->second.calls.empty()) at->second.empty_at = step_;
    at->second.calls[d.call] = d.alone || d.batch.size > 0;
    if (d.batch.size > 1) ++batched_;
    order_.dispatched(d, serving(), at->second.empty_at == step_);
  }
  void check_room(const Seen& worker, const core::Dispatch& d, const Asked& call) {
    const core::FunctionSpec& spec = functions_.at(call.function);
    if (d.batch.size > 0) return check_batch(worker, d, call);
    if (d.alone) {
      EXPECT_TRUE(worker.calls.empty()) << "what runs alone is dispatched beside others";
      if (spec.concurrency == 1) return;
      EXPECT_TRUE(died_.contains(call.fingerprint)) << "a shared call runs alone without a reason";
      ++suspects_;
      return;
    }
    EXPECT_GT(spec.concurrency, 1u);
    std::size_t same = 0;
    for (const auto& [other, alone] : worker.calls) {
      EXPECT_FALSE(alone) << "dispatched beside what runs alone";
      same += asked_.at(other).function == call.function;
    }
    EXPECT_LT(same, spec.concurrency) << "more than the function's concurrency";
    EXPECT_TRUE(cap_ == 0 || worker.calls.size() < cap_) << "more than workers.concurrency";
    shared_ += !worker.calls.empty();
  }
  void check_batch(const Seen& worker, const core::Dispatch& d, const Asked& call) {
    EXPECT_EQ(worker.calls.size(), d.batch.index) << "a batch is given to an idle worker, in a row";
    EXPECT_LE(d.batch.size, functions_.at(call.function).batch);
    EXPECT_FALSE(d.alone || d.session);
    for (const auto& [other, alone] : worker.calls) {
      EXPECT_EQ(asked_.at(other).function, call.function);
      EXPECT_EQ(asked_.at(other).batch_key, call.batch_key);
      EXPECT_EQ(asked_.at(other).priority, call.priority);
    }
  }
  // The workers that take calls of all kinds: not those that serve only the sessions they hold.
  std::set<WorkerId> serving() const {
    std::set<WorkerId> found;
    for (const core::WorkerView& each : sim_.pool().workers(sim_.now())) {
      const auto at = ready_.find(each.worker);
      if (each.state == core::WorkerState::kDraining || at == ready_.end()) continue;
      if (!at->second.stopping) found.insert(each.worker);
    }
    return found;
  }
  void dispatched_in_session(const core::Dispatch& d) {
    const core::SessionTicket& ticket = *d.session;
    // An epoch opens with its first dispatch; if that worker dies before any user code ran, the
    // same epoch may open again elsewhere, and nowhere else is it served.
    const auto [home, fresh] = home_.try_emplace({ticket.birth, ticket.epoch}, d.worker);
    const bool anew = ticket.opens || ticket.restore != 0;
    EXPECT_TRUE(!fresh || anew) << "an epoch was never opened";
    if (!fresh && anew) {
      EXPECT_TRUE(gone_.contains(home->second)) << "an epoch was opened twice";
      home->second = d.worker;
    }
    birth_of_[d.call] = ticket.birth;
    EXPECT_EQ(home->second, d.worker) << "a session on two workers in one epoch";
    for (const auto& [worker, seen] : ready_) {
      for (const auto& [call, alone] : seen.calls) {
        if (call == d.call || !birth_of_.contains(call)) continue;
        EXPECT_NE(birth_of_[call], ticket.birth)
            << "two calls of session " << ticket.id << " at once";
      }
    }
    // FIFO: ids count up in the order of submission; only a retry may repeat its own.
    CallId& last = last_call_[ticket.id];
    EXPECT_LE(last, d.call) << "session " << ticket.id << " overtook itself";
    last = d.call;
  }

  // Whose concurrency no test changes.
  const std::set<std::string, std::less<>> always_alone_{"fail", "spin", "hold", "pid"};
  const Simulation& sim_;
  OrderWitness order_;
  std::uint32_t cap_;  // workers.concurrency
  std::uint64_t step_ = 0;
  std::uint64_t submitted_ = 0, shared_ = 0, suspects_ = 0, innocent_ = 0, culprits_ = 0;
  std::uint64_t batched_ = 0;
  std::map<std::string, core::FunctionSpec> functions_;
  std::map<CallId, Asked> asked_;
  std::set<std::uint64_t> died_;  // fingerprints of calls that were in a worker that died
  std::set<CallId> blocked_;      // calls that have blocked an event loop
  std::set<CallId> enders_;       // calls that were seen to end their worker
  std::set<CallId> resolved_;
  std::map<WorkerId, Seen> ready_;
  std::set<WorkerId> gone_;
  std::map<CallId, std::uint64_t> birth_of_;  // of the session it was last dispatched in
  std::map<std::pair<std::uint64_t, std::uint32_t>, WorkerId> home_;
  std::map<std::string, CallId> last_call_;
};

}  // namespace keelback::sim
