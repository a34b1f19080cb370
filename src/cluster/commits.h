// Whether an answer may be acknowledged: its state is committed, or this node still holds its lease
// and the session's row says that states are not stored.
//
// A commit is asked for until the database has said what became of it. If its answer was lost, the
// row is read: token and number say whether it took effect. If the database says nothing for
// Config::patience(), nobody knows, and the state in memory is dropped.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "cluster/frame.h"
#include "cluster/membership.h"
#include "cluster/session.h"

namespace keelback::cluster {

class Claims;

class Commits {
 public:
  Commits(Frame& frame, const Membership& members, Sessions& sessions, Claims& claims)
      : frame_(frame), members_(members), sessions_(sessions), claims_(claims) {}
  Commits(const Commits&) = delete;
  Commits& operator=(const Commits&) = delete;

  void on(const CommitWanted& event);
  void on(const VouchWanted& event);
  void on(const ForCommit& purpose, const Reply& reply);
  void on(const FetchWanted& event);
  void on(const ForFetch& purpose, const Reply& reply);
  void on(const ForOrphan& purpose, const Reply& reply);

  // Asks for the first commit of the session, or reads what became of it.
  void go_on(Session& session);
  // The lease runs on: what waited for that is acknowledged.
  void beat();
  // The session is not this node's any more. What is under way settles by its reply.
  void orphan(Session& session);
  // The row is older than this node's memory, which has this session still. Says so; if the node
  // fails before the next commit, the session is lost, not rolled back.
  void went_back(Session& session, std::uint64_t number);

 private:
  // What the database says of the first commit.
  void judge(Session& session, const Standing& standing);
  void settle_late(const ForCommit& purpose, const Reply& reply);
  void kept(Session& session);
  void acknowledge(Session& session, CommitId commit);
  void lost(Session& session, const Standing& standing);
  void unknown(Session& session);
  void give_up(Session& session, Settle::How how, const std::string& owner,
               std::string_view reason);
  void settle(CommitId commit, Settle::How how, std::string owner = {});
  void find_owner(CommitId commit, const std::string& session);

  Frame& frame_;
  const Membership& members_;
  Sessions& sessions_;
  Claims& claims_;
  std::set<std::string> vouching_;  // sessions with answers that wait for the next beat
};

}  // namespace keelback::cluster
