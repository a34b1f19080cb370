// Whether this node is a member of the cluster, and until when: joining, beats, the lease, leaving;
// and the retirement of members that are dead.
//
// A member that finds itself retired has no sessions any more and joins as a new incarnation. If
// another process has taken its name, it stays outside until that one is gone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/database.h"
#include "cluster/frame.h"
#include "cluster/lease.h"
#include "cluster/status.h"
#include "cluster/tickets.h"
#include "cluster/watch.h"

namespace keelback::cluster {

class Membership {
 public:
  // What a reply has changed, for the other parts of the node.
  struct News {
    bool retired = false;    // the node's sessions are not its own any more
    bool beat = false;       // the lease runs on
    bool went_away = false;  // the database does not answer
    // It answers again, or is not the one it was: rows and memory may differ.
    bool compare = false;
    bool left = false;
  };

  explicit Membership(Frame& frame)
      : frame_(frame),
        lease_(frame.config.lease, frame.config.margin()),
        watch_(frame.config.lease) {}

  void tick();
  News on(const ForMember& purpose, const Reply& reply);
  void drain();
  // Nothing is owned any more: the row goes.
  void leave();
  // These stand in the database.
  void obey(const SharedSettings& settings);
  std::optional<Time> next_deadline() const;

  bool is_member() const { return phase_ == Phase::kMember; }
  // Its row is on its way out, or has gone.
  bool is_leaving() const { return phase_ == Phase::kLeaving || phase_ == Phase::kLeft; }
  bool is_away() const { return away_; }
  bool is_draining() const { return draining_; }
  // Calls of owned sessions may start.
  bool may_start() const { return is_member() && lease_.may_start(frame_.now); }
  // No other node can have this node's sessions.
  bool holds() const { return is_member() && lease_.holds(frame_.now); }
  std::uint64_t settings_version() const { return settings_; }
  Owner self() const { return {frame_.config.name, incarnation_}; }
  // The row of this owner, if it lives as far as the database said last.
  const NodeRow* find(const Owner& owner) const;
  // After a beat: hops to nodes that were retired end. What a node does that was retired counts
  // for nothing, and a silent one would hold a stream without a deadline for ever.
  void give_up_hops(Tickets& tickets) const;
  // Why a call that needs the database or the membership is not taken.
  std::string why_not_ready() const;
  void describe(Status& out) const;

 private:
  void ask(Request request);
  News joined(const ForMember& purpose, const Joined& reply);
  News beaten(const ForMember& purpose, const Beaten& reply);
  News refused(const ForMember& purpose, const Beaten& reply, bool restarted);
  News unanswered(const NoReply& reply);
  void observe(Time sent, const std::vector<NodeRow>& nodes);
  void describe_server(const ServerFacts& server);
  void rejoin();

  Frame& frame_;
  Lease lease_;
  Watch watch_;
  Phase phase_ = Phase::kJoining;
  Incarnation incarnation_ = 0;
  std::uint64_t beat_ = 0;       // of the last Beat
  std::uint64_t confirmed_ = 0;  // the highest that succeeded
  bool draining_ = false;
  bool away_ = true;  // nothing has come from it yet
  bool told_away_ = false;
  bool waiting_ = false;  // for a reply
  Time next_{};           // when to ask next
  Time sent_{};           // when it was asked last
  std::string started_;
  std::uint64_t settings_ = 0;  // the version that is obeyed
  std::vector<std::string> weaknesses_;
  std::vector<NodeRow> nodes_;
  std::string trouble_;  // why it is no member, or why the database is away
};

}  // namespace keelback::cluster
