// What can be read off a node at any moment.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/database.h"

namespace keelback::cluster {

struct Counters {
  std::uint64_t claims = 0;      // sessions that became this node's, new ones too
  std::uint64_t taken_over = 0;  // … of which another node or incarnation had these before
  std::uint64_t forwarded = 0;
  std::uint64_t misdirected = 0;
  std::uint64_t commits_kept = 0;
  std::uint64_t commits_lost = 0;
  std::uint64_t commits_unknown = 0;
  std::uint64_t sessions_lost = 0;     // told to a caller
  std::uint64_t sessions_expired = 0;  // told to a caller
  std::uint64_t forgotten = 0;         // sessions that this node had to drop
  std::uint64_t retired_others = 0;
  std::uint64_t retired = 0;    // times that this node was
  std::uint64_t went_back = 0;  // rows that were older than this node's memory
};

enum class Phase : std::uint8_t {
  kJoining,  // not a member (any more), and trying
  kMember,
  kDisplaced,  // another process has taken the name
  kLeaving,
  kLeft,
};
std::string_view to_string(Phase phase);  // "joining", …; static storage

struct Status {
  Phase phase = Phase::kJoining;
  Owner self;
  bool draining = false;
  bool database_away = false;
  std::string trouble;     // why it is no member, or why the database is away; empty: neither
  bool may_start = false;  // calls of owned sessions start now
  std::uint64_t sessions = 0;
  std::vector<std::string> weaknesses;  // why the database may lose what it acknowledged
  std::vector<NodeRow> nodes;           // as the database said last, by name
  Counters counters;
};

}  // namespace keelback::cluster
