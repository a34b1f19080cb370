// One node of a cluster, driven step by step over a model database: each request is answered at
// once, not at all, or after it took effect without a word, as the test says.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/node.h"
#include "support/model_database.h"

namespace keelback::cluster {

// How the database behaves to a node.
enum class Link : std::uint8_t {
  kUp,
  kDown,     // nothing is sent: surely no effect
  kDeaf,     // nothing arrives, and nobody knows that
  kMute,     // it takes effect, and no answer comes back
  kWaiting,  // nothing happens until answer()
};

class NodeDriver {
 public:
  // `now` is the time of all nodes of a test.
  NodeDriver(ModelDatabase& database, Time& now, Config config, std::uint64_t seed)
      : database_(database), now_(now), node(std::move(config), seed) {}

  void handle(const Event& event) {
    Actions out;
    node.handle(now_, event, out);
    if (checks) node.check_invariants();
    for (Action& action : out) due_.push_back(std::move(action));
    if (performing_) return;
    performing_ = true;
    while (!due_.empty()) {
      Action next = std::move(due_.front());
      due_.pop_front();
      perform(std::move(next));
    }
    performing_ = false;
  }
  // Ticks at its deadlines until `until`, which is the time then.
  void run_until(Time until) {
    while (true) {
      const std::optional<Time> due = node.next_deadline();
      if (!due || *due > until) break;
      now_ = std::max(now_, *due);
      handle(Tick{});
    }
    now_ = until;
    handle(Tick{});
  }
  void join() { handle(Tick{}); }

  TicketId call(const std::string& session, bool hop = false, std::string key = {}) {
    CallCame event;
    event.ticket = ++last_id;
    event.session = session;
    event.hop = hop;
    event.key = std::move(key);
    handle(event);
    return event.ticket;
  }
  // A ticket that ends the session.
  TicketId end(const std::string& session, bool hop = false) {
    CallCame event;
    event.ticket = ++last_id;
    event.session = session;
    event.hop = hop;
    event.ends = true;
    handle(event);
    return event.ticket;
  }
  TicketId keyed_call(const std::string& key, bool idempotent = false, bool hop = false,
                      std::uint64_t fingerprint = 1) {
    handle(KeyedCallCame{++last_id, key, fingerprint, idempotent, hop});
    return last_id;
  }
  CommitId commit(const std::string& session, std::string text, std::string key = {}) {
    CommitWanted event;
    event.commit = ++last_id;
    event.session = session;
    event.birth = adopted(session).birth;
    event.epoch = adopted(session).epoch;
    event.state = State{1, std::make_shared<const std::string>(std::move(text))};
    event.answer.key = std::move(key);
    event.answer.fingerprint = 1;
    handle(event);
    return event.commit;
  }
  CommitId vouch(const std::string& session) {
    handle(VouchWanted{++last_id, session, adopted(session).birth});
    return last_id;
  }
  void over(const std::string& session, Over how) {
    handle(SessionOver{session, adopted(session).birth, how});
  }
  // Of the requests that wait: the first is performed and answered.
  void answer() {
    const Ask ask = waiting.front();
    waiting.pop_front();
    handle(Replied{ask.ask, database_.perform(now_, ask.request)});
  }
  void answer_none(bool surely_none) {
    const Ask ask = waiting.front();
    waiting.pop_front();
    handle(Replied{ask.ask, NoReply{surely_none, "The test says so."}});
  }

  // The last action of this type; fails the test if there is none.
  template <typename ActionT>
  const ActionT& last() const {
    for (std::size_t i = actions.size(); i > 0; --i) {
      if (const auto* found = std::get_if<ActionT>(&actions[i - 1])) return *found;
    }
    ADD_FAILURE() << "there is no such action";
    static const ActionT kNone{};
    return kNone;
  }
  template <typename ActionT>
  std::size_t count() const {
    std::size_t found = 0;
    for (const Action& action : actions) found += std::holds_alternative<ActionT>(action) ? 1 : 0;
    return found;
  }
  const Adopt& adopted(const std::string& session) const {
    for (std::size_t i = actions.size(); i > 0; --i) {
      const auto* found = std::get_if<Adopt>(&actions[i - 1]);
      if (found && found->session == session) return *found;
    }
    ADD_FAILURE() << session << " was not adopted";
    static const Adopt kNone{};
    return kNone;
  }
  bool admitted(TicketId ticket) const {
    for (const Action& action : actions) {
      const auto* found = std::get_if<Admit>(&action);
      if (found && found->ticket == ticket) return true;
    }
    return false;
  }
  // How often a notice has these words.
  std::size_t notices(const std::string& words) const {
    std::size_t found = 0;
    for (const Action& action : actions) {
      const auto* notice = std::get_if<Notice>(&action);
      if (notice && notice->text.find(words) != std::string::npos) ++found;
    }
    return found;
  }
  Counters counters() const { return node.status(now_).counters; }
  Phase phase() const { return node.status(now_).phase; }

 private:
  ModelDatabase& database_;
  Time& now_;
  std::deque<Action> due_;
  bool performing_ = false;

 public:
  Node node;
  Link link = Link::kUp;
  bool beats_fail = false;  // however the link is, beats do not arrive
  bool checks = true;       // of the node's invariants, after each event
  Rules rules;              // what the settings say, once they are obeyed
  Actions actions;          // all but Ask
  std::vector<Request> asked;
  std::deque<Ask> waiting;
  static inline std::uint64_t last_id = 0;

 private:
  void perform(Action&& action) {
    if (auto* ask = std::get_if<Ask>(&action)) return perform(std::move(*ask));
    const bool obeys = std::holds_alternative<ObeySettings>(action);
    actions.push_back(std::move(action));
    if (obeys) handle(RulesChanged{rules});
  }
  void perform(Ask&& ask) {
    asked.push_back(ask.request);
    const bool is_beat = std::holds_alternative<Beat>(ask.request);
    const Link how = is_beat && beats_fail ? Link::kDown : link;
    if (how == Link::kWaiting && !is_beat) return waiting.push_back(std::move(ask));
    Reply reply = NoReply{how == Link::kDown, "The test says so."};
    const bool arrives = how == Link::kUp || how == Link::kMute || how == Link::kWaiting;
    if (arrives) {
      Reply real = database_.perform(now_, ask.request);
      if (how != Link::kMute) reply = std::move(real);
    }
    handle(Replied{ask.ask, std::move(reply)});
  }
};

}  // namespace keelback::cluster
