// What a node knows of a session that it owns, or that it finds out about.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/database.h"
#include "cluster/event.h"
#include "cluster/tickets.h"

namespace keelback::cluster {

// A commit that is not settled. They are made one after another.
struct Pending {
  CommitId commit = 0;  // 0: nobody waits for it
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;  // once it is asked for
  std::optional<State> state;
  bool exposed = false;
  Time used;
  Answer answer;
  Time since;  // when it was asked for first
};

struct Session {
  enum class Step : std::uint8_t {
    kLooking,   // its row is read
    kQueued,    // it may be claimed, when fewer are being restored
    kClaiming,  // the claim is under way
    kOwned,
    kClosing,  // it is released or dropped
  };
  std::string id;
  std::uint64_t serial = 0;  // of this entry: a reply for an older one is nothing to it
  Step step = Step::kLooking;
  Waiting waiting;
  Waiting ending;  // they have asked for the Drop that is under way

  // ---- the claim
  Token token = 0;  // this node's; 0: none was asked for
  std::uint32_t tries = 0;

  // ---- once it is owned
  std::uint64_t birth = 0;
  std::uint32_t epoch = 0;
  std::uint64_t number = 0;  // of the last commit
  bool exposed = false;      // as the row says
  bool taken_over = false;
  Time claimed;
  bool restoring = false;  // it counts among those that are being restored

  // ---- commits
  std::deque<Pending> commits;
  enum class Asked : std::uint8_t { kNot, kCommit, kRead };
  Asked asked = Asked::kNot;      // for the first of them
  bool read_first = false;        // it may have taken effect: read before it is asked again
  std::vector<CommitId> vouches;  // wait for the next beat

  // ---- its end
  std::optional<Over> over;  // once the commits are settled
};

// Ordered: what happens to all sessions happens in id order.
using Sessions = std::map<std::string, Session>;

}  // namespace keelback::cluster
