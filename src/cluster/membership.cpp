#include "cluster/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "cluster/durability.h"

namespace keelback::cluster {
namespace {

const NodeRow* row_of(const std::vector<NodeRow>& nodes, std::string_view name) {
  const auto found = std::ranges::find(nodes, name, &NodeRow::name);
  return found == nodes.end() ? nullptr : &*found;
}

}  // namespace

void Membership::tick() {
  if (waiting_ || phase_ == Phase::kLeft) return;
  const std::optional<Time> due = next_deadline();
  if (due && frame_.now < *due) return;
  if (phase_ == Phase::kLeaving) return ask(Leave{self()});
  if (phase_ != Phase::kJoining) return ask(Beat{self(), ++beat_, draining_});
  if (incarnation_ == 0) incarnation_ = frame_.draw();
  beat_ = confirmed_ = 0;
  NodeRow row;
  row.name = frame_.config.name;
  row.incarnation = incarnation_;
  row.url = frame_.config.url;
  row.digest = frame_.config.digest;
  row.schema = kSchema;
  row.draining = draining_;
  ask(Join{std::move(row), frame_.config.settings});
}

std::optional<Time> Membership::next_deadline() const {
  if (waiting_ || phase_ == Phase::kLeft) return std::nullopt;
  if (phase_ != Phase::kMember) return next_;
  // A beat exactly when it may show that a node is dead: a lease is not rounded up to beats.
  const std::optional<Time> watch = watch_.next(sent_);
  return watch ? std::min(next_, *watch) : next_;
}

void Membership::ask(Request request) {
  waiting_ = true;
  sent_ = frame_.now;
  frame_.ask(std::move(request), frame_.config.beat_patience(), ForMember{frame_.now});
}

Membership::News Membership::on(const ForMember& purpose, const Reply& reply) {
  waiting_ = false;
  next_ = frame_.soon();
  if (const auto* none = std::get_if<NoReply>(&reply)) return unanswered(*none);
  if (phase_ == Phase::kLeaving && std::holds_alternative<Written>(reply)) {
    phase_ = Phase::kLeft;
    lease_.end();
    return {.left = true};
  }
  if (const auto* each = std::get_if<Joined>(&reply)) return joined(purpose, *each);
  if (const auto* each = std::get_if<Beaten>(&reply)) return beaten(purpose, *each);
  return {};
}

Membership::News Membership::unanswered(const NoReply& reply) {
  watch_.reset();
  trouble_ = reply.reason;
  const bool was_away = std::exchange(away_, true);
  if (std::exchange(told_away_, true)) return {};
  frame_.notice(Notice::Level::kWarn,
                fmt::format("The database does not answer: {} Sessions are served until the lease "
                            "ends; calls that need the database are refused.",
                            reply.reason));
  return {.went_away = !was_away};
}

Membership::News Membership::joined(const ForMember& purpose, const Joined& reply) {
  if (phase_ != Phase::kJoining) return {};
  away_ = told_away_ = false;
  if (reply.tables + 1 < kSchema || reply.tables > kSchema + 1) {
    trouble_ = fmt::format("The database's tables have version {}, and this program knows {}.",
                           reply.tables, kSchema);
    frame_.notice(Notice::Level::kError, trouble_);
    next_ = frame_.now + frame_.config.lease;
    return {};
  }
  if (!reply.done) {  // retired before it knew that it had joined
    incarnation_ = 0;
    next_ = frame_.now;
    return {};
  }
  phase_ = Phase::kMember;
  trouble_.clear();
  started_ = reply.server.started;
  lease_.renew(purpose.sent);
  watch_.reset();
  observe(purpose.sent, reply.nodes);
  obey(reply.settings);
  describe_server(reply.server);
  frame_.notice(Notice::Level::kInfo,
                fmt::format("This node is \"{}\" of a cluster of {}.", frame_.config.name,
                            std::ranges::count(reply.nodes, false, &NodeRow::retired)));
  return {.beat = true};
}

void Membership::describe_server(const ServerFacts& server) {
  std::vector<std::string> found = weaknesses(server);
  if (found == weaknesses_) return;
  weaknesses_ = std::move(found);
  for (const std::string& each : weaknesses_) {
    frame_.notice(Notice::Level::kWarn, "The database may lose what it has acknowledged. " + each);
  }
}

Membership::News Membership::beaten(const ForMember& purpose, const Beaten& reply) {
  if (phase_ == Phase::kJoining || phase_ == Phase::kLeft) return {};
  const bool was_away = std::exchange(away_, false);
  told_away_ = false;
  const bool restarted = std::exchange(started_, reply.started) != reply.started;
  if (restarted) watch_.reset();
  if (!reply.done) return refused(purpose, reply, restarted);
  if (phase_ == Phase::kDisplaced) {  // the database went back to when the name was this node's
    phase_ = Phase::kMember;
  }
  trouble_.clear();
  const bool went_back = reply.was < confirmed_;
  if (went_back) {
    ++frame_.counters.went_back;
    frame_.notice(Notice::Level::kError,
                  "The database went back: it has lost what it had acknowledged. States of "
                  "sessions may be lost.");
  }
  confirmed_ = beat_;
  lease_.renew(purpose.sent);
  observe(purpose.sent, reply.nodes);
  obey(reply.settings);
  if (was_away) frame_.notice(Notice::Level::kInfo, "The database answers again.");
  return {.beat = true, .compare = was_away || restarted || went_back};
}

// This incarnation is over.
Membership::News Membership::refused(const ForMember& purpose, const Beaten& reply,
                                     bool restarted) {
  if (phase_ == Phase::kLeaving) {
    phase_ = Phase::kLeft;
    return {.left = true};
  }
  const NodeRow* row = row_of(reply.nodes, frame_.config.name);
  const bool taken = row && row->incarnation != incarnation_ && !row->retired;
  if (phase_ == Phase::kDisplaced) {
    std::vector<NodeRow> dead = watch_.observe(purpose.sent, frame_.now, reply.nodes);
    if (!taken || row_of(dead, frame_.config.name)) rejoin();
    return {};
  }
  nodes_ = reply.nodes;
  lease_.end();
  watch_.reset();
  ++frame_.counters.retired;
  if (!row && restarted) {
    ++frame_.counters.went_back;
    frame_.notice(Notice::Level::kError,
                  "The database went back: it does not know this node. States of sessions may be "
                  "lost.");
  }
  if (taken) {
    phase_ = Phase::kDisplaced;
    trouble_ = fmt::format("Another process runs as node \"{}\". Give each its own cluster.node.",
                           frame_.config.name);
    frame_.notice(Notice::Level::kError, trouble_);
  } else {
    frame_.notice(Notice::Level::kWarn,
                  "This node was retired: its beats did not reach the database for a lease. It "
                  "drops its sessions and joins again.");
    rejoin();
  }
  return {.retired = true};
}

void Membership::rejoin() {
  phase_ = Phase::kJoining;
  incarnation_ = 0;
  next_ = frame_.now;
  trouble_ = "This node was retired, and joins again.";
}

void Membership::observe(Time sent, const std::vector<NodeRow>& nodes) {
  nodes_ = nodes;
  for (const NodeRow& dead : watch_.observe(sent, frame_.now, nodes)) {
    if (dead.name == frame_.config.name) continue;
    ++frame_.counters.retired_others;
    frame_.notice(
        Notice::Level::kWarn,
        fmt::format("Node \"{}\" has not raised its beat for a lease; it is retired.", dead.name));
    frame_.ask(Retire{{dead.name, dead.incarnation}, dead.beat}, ForOthers{});
  }
}

void Membership::obey(const SharedSettings& settings) {
  if (settings.version == settings_) return;
  const bool first = std::exchange(settings_, settings.version) == 0;
  if (first && settings.text != frame_.config.settings) {
    frame_.notice(Notice::Level::kWarn,
                  "The cluster's settings of sessions differ from this node's. The cluster's are "
                  "in force.");
  }
  frame_.emit(ObeySettings{settings});
}

void Membership::drain() {
  if (std::exchange(draining_, true)) return;
  next_ = frame_.now;
}

void Membership::leave() {
  if (phase_ == Phase::kLeaving || phase_ == Phase::kLeft) return;
  phase_ = Phase::kLeaving;
  next_ = frame_.now;
}

const NodeRow* Membership::find(const Owner& owner) const {
  const NodeRow* row = row_of(nodes_, owner.node);
  return row && row->incarnation == owner.incarnation && !row->retired ? row : nullptr;
}

void Membership::give_up_hops(Tickets& tickets) const {
  const auto lives = [this](const Owner& owner) { return find(owner) != nullptr; };
  for (const TicketId id : tickets.ownerless(lives)) frame_.emit(GiveUpHop{id});
}

std::string Membership::why_not_ready() const {
  if (!trouble_.empty()) return trouble_;
  return away_ ? "The database does not answer." : "This node is not a member of the cluster.";
}

void Membership::describe(Status& out) const {
  out.phase = phase_;
  out.self = self();
  out.draining = draining_;
  out.database_away = away_;
  out.trouble = trouble_;
  out.may_start = may_start();
  out.weaknesses = weaknesses_;
  out.nodes = nodes_;
}

std::string_view to_string(Phase phase) {
  static constexpr std::string_view kNames[] = {"joining", "member", "displaced", "leaving",
                                                "left"};
  return kNames[static_cast<std::size_t>(phase)];
}

}  // namespace keelback::cluster
