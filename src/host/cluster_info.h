// What a driver knows of the cluster that it is a node of, for people and programs that watch it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace keelback::host {

struct ClusterNode {
  std::string name;
  std::string url;                // where other nodes reach it
  std::uint64_t incarnation = 0;  // of its start
  bool draining = false;
  bool retired = false;      // this incarnation is over, and another one has not come yet
  std::string digest;        // of its application
  std::uint32_t schema = 0;  // the newest version of the tables that it knows
};

// All of them only grow while the process lives.
struct ClusterCounters {
  std::uint64_t claims = 0;       // sessions that became this node's, new ones too
  std::uint64_t taken_over = 0;   // … of which another node or incarnation had these before
  std::uint64_t forwarded = 0;    // calls that went to the node that owns their session
  std::uint64_t misdirected = 0;  // calls of other nodes for a session that is not this node's
  std::uint64_t commits_kept = 0;
  std::uint64_t commits_lost = 0;      // another node had the session
  std::uint64_t commits_unknown = 0;   // no reply, and the row could not be read
  std::uint64_t sessions_lost = 0;     // told to a caller
  std::uint64_t sessions_expired = 0;  // told to a caller
  std::uint64_t forgotten = 0;         // sessions that this node had to drop
  std::uint64_t retired_others = 0;    // nodes that this one found dead
  std::uint64_t retired = 0;           // times that this node was
  std::uint64_t went_back = 0;         // rows that were older than this node's memory
};

struct ClusterInfo {
  std::string node;               // its own name
  std::uint64_t incarnation = 0;  // 0: it has not tried to join yet
  std::string phase;              // "joining", "member", "displaced", "leaving", "left"
  bool draining = false;
  bool database_up = false;  // its last answer came in time
  std::string trouble;       // why it is no member, or why the database does not answer; or empty
  bool serves_sessions = false;         // calls of sessions that it owns start now
  std::uint64_t sessions = 0;           // that it owns
  std::vector<std::string> weaknesses;  // why the database may lose what it acknowledged
  std::vector<ClusterNode> nodes;       // as the database said last, by name
  ClusterCounters counters;
};

}  // namespace keelback::host
