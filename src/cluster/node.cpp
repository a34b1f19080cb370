#include "cluster/node.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "cluster/arrivals.h"
#include "cluster/claims.h"
#include "cluster/commits.h"
#include "cluster/compare.h"
#include "cluster/keys.h"
#include "cluster/membership.h"
#include "cluster/sweeper.h"

namespace keelback::cluster {

class Node::Impl {
 public:
  Impl(Config config, std::uint64_t seed)
      : frame(std::move(config), seed),
        members(frame),
        arrivals(frame, members, sessions, claims),
        claims(frame, members, sessions, arrivals, commits),
        commits(frame, members, sessions, claims),
        compare(frame, members, sessions, claims, commits),
        keys(frame, members),
        sweeper(frame) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void handle(Time now, const Event& event, Actions& out) {
    frame.now = std::max(frame.now, now);
    frame.out = &out;
    std::visit([this](const auto& each) { on(each); }, event);
    members.tick();
    claims.tick();
    keys.tick();
    sweeper.tick(members.is_member() && !members.is_away());
    if (drained) leave();
    frame.out = nullptr;
  }

  // ---- events
  void on(const CallCame& event) { arrivals.on(event); }
  void on(const KeyedCallCame& event) { keys.on(event); }
  void on(const TicketGone& event) {
    arrivals.on(event);
    keys.on(event);
  }
  void on(const HopFailed& event) {
    if (!arrivals.on(event)) keys.on(event);
  }
  void on(const CommitWanted& event) { commits.on(event); }
  void on(const VouchWanted& event) { commits.on(event); }
  void on(const FetchWanted& event) { commits.on(event); }
  void on(const KeyedCallEnded& event) { keys.on(event); }
  void on(const SessionOpened& event) { claims.on(event); }
  void on(const SessionOver& event) { claims.on(event); }
  void on(const RulesChanged& event) { frame.rules = event.rules; }
  void on(const SettingsChanged& event) { write_settings(event.text); }
  void on(const DrainRequested&) { members.drain(); }
  void on(const Drained&) {
    members.drain();
    drained = true;
  }
  void on(const Tick&) {}
  void on(const Replied& event) {
    const auto found = frame.asked.find(event.ask);
    if (found == frame.asked.end()) return;
    const Purpose purpose = std::move(found->second);
    frame.asked.erase(found);
    std::visit([&](const auto& each) { answered(each, event.reply); }, purpose);
  }

  // ---- replies, by why they were asked for
  void answered(const ForMember& purpose, const Reply& reply) {
    const Membership::News news = members.on(purpose, reply);
    if (news.retired) {
      claims.retired();
      keys.retired();
      compare.retired();
    }
    if (news.went_away) {
      arrivals.went_away();
      claims.went_away();
      keys.went_away();
    }
    if (news.beat) {
      arrivals.beat();
      keys.beat();
      commits.beat();
      compare.beat();
    }
    if (news.compare) compare.begin();
    if (news.left) left();
  }
  void answered(const ForOthers&, const Reply&) {}
  void answered(const ForSession& purpose, const Reply& reply) { claims.on(purpose, reply); }
  void answered(const ForCommit& purpose, const Reply& reply) { commits.on(purpose, reply); }
  void answered(const ForOrphan& purpose, const Reply& reply) { commits.on(purpose, reply); }
  void answered(const ForFetch& purpose, const Reply& reply) { commits.on(purpose, reply); }
  void answered(const ForLookup& purpose, const Reply& reply) { arrivals.on(purpose, reply); }
  void answered(const ForCompare& purpose, const Reply& reply) { compare.on(purpose, reply); }
  void answered(const ForKey& purpose, const Reply& reply) { keys.on(purpose, reply); }
  // Another node may have written at the same time: the later of two operators wins.
  void answered(const ForSettings& purpose, const Reply& reply) {
    const auto* written = std::get_if<SettingsWritten>(&reply);
    if (!written) {
      frame.notice(Notice::Level::kWarn,
                   "The database did not answer: the settings of sessions are as they were.");
      return;
    }
    members.obey(written->settings);
    if (!written->done && written->settings.text != purpose.text) write_settings(purpose.text);
  }

  void write_settings(const std::string& text) {
    frame.ask(WriteSettings{{members.settings_version(), text}}, ForSettings{text});
  }
  void leave() {
    if (members.is_leaving()) return;  // its reply says when
    if (!members.is_member()) return left();
    claims.release_all();
    if (sessions.empty()) members.leave();
  }
  void left() {
    if (!std::exchange(has_left, true)) frame.emit(Left{});
  }

  Frame frame;
  Membership members;
  Sessions sessions;
  Arrivals arrivals;
  Claims claims;
  Commits commits;
  Compare compare;
  Keys keys;
  Sweeper sweeper;
  bool drained = false;
  bool has_left = false;
};

Node::Node(Config config, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(std::move(config), seed)) {}
Node::~Node() = default;
Node::Node(Node&&) noexcept = default;
Node& Node::operator=(Node&&) noexcept = default;

void Node::handle(Time now, const Event& event, Actions& out) { impl_->handle(now, event, out); }

std::optional<Time> Node::next_deadline() const {
  std::optional<Time> first = impl_->sweeper.next_deadline();
  for (const std::optional<Time>& each :
       {impl_->members.next_deadline(), impl_->claims.next_deadline(),
        impl_->keys.next_deadline()}) {
    if (each) first = std::min(*first, *each);
  }
  return first;
}

Status Node::status(Time now) const {
  impl_->frame.now = std::max(impl_->frame.now, now);
  Status out;
  impl_->members.describe(out);
  out.counters = impl_->frame.counters;
  out.sessions = static_cast<std::uint64_t>(std::ranges::count_if(
      impl_->sessions, [](const auto& each) { return each.second.step == Session::Step::kOwned; }));
  return out;
}

bool Node::owns(const std::string& session) const {
  const auto found = impl_->sessions.find(session);
  return found != impl_->sessions.end() && found->second.step == Session::Step::kOwned;
}

void Node::check_invariants() const {
  std::size_t restoring = 0;
  for (const auto& [id, session] : impl_->sessions) {
    CHECK(session.id == id);
    if (session.restoring) ++restoring;
    const bool owned = session.step == Session::Step::kOwned;
    CHECK(owned || session.commits.empty());
    CHECK(owned || session.vouches.empty());
    CHECK(!owned || session.token != 0);
    // Whoever waits is answered by something that is under way.
    CHECK(!session.waiting.empty() || session.step != Session::Step::kQueued);
    CHECK(impl_->members.is_member() || !owned);
  }
  CHECK(restoring == impl_->claims.restoring());
  CHECK(restoring <= impl_->frame.config.restores_at_once);
}

}  // namespace keelback::cluster
