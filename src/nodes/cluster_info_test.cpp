#include "nodes/cluster_info.h"

#include <gtest/gtest.h>

namespace keelback::nodes {
namespace {

// Goal: every field arrives in its own place.
TEST(ClusterInfo, HasWhatTheStatusHas) {
  cluster::Status status;
  status.phase = cluster::Phase::kDisplaced;
  status.self = {"a", 7};
  status.draining = true;
  status.database_away = true;
  status.trouble = "another has the name";
  status.may_start = true;
  status.sessions = 3;
  status.weaknesses = {"fsync is off."};
  status.nodes = {{.name = "a",
                   .incarnation = 8,
                   .url = "http://a",
                   .digest = "d",
                   .schema = 2,
                   .draining = true,
                   .retired = true}};
  status.counters = {.claims = 1,
                     .taken_over = 2,
                     .forwarded = 3,
                     .misdirected = 4,
                     .commits_kept = 5,
                     .commits_lost = 6,
                     .commits_unknown = 7,
                     .sessions_lost = 8,
                     .sessions_expired = 9,
                     .forgotten = 10,
                     .retired_others = 11,
                     .retired = 12,
                     .went_back = 13};
  host::ClusterInfo info = info_of(status);
  EXPECT_EQ(info.node, "a");
  EXPECT_EQ(info.incarnation, 7U);
  EXPECT_EQ(info.phase, "displaced");
  EXPECT_TRUE(info.draining);
  EXPECT_FALSE(info.database_up);
  EXPECT_EQ(info.trouble, "another has the name");
  EXPECT_TRUE(info.serves_sessions);
  EXPECT_EQ(info.sessions, 3U);
  EXPECT_EQ(info.weaknesses, std::vector<std::string>{"fsync is off."});
  ASSERT_EQ(info.nodes.size(), 1U);
  EXPECT_EQ(info.nodes[0].name, "a");
  EXPECT_EQ(info.nodes[0].incarnation, 8U);
  EXPECT_EQ(info.nodes[0].url, "http://a");
  EXPECT_EQ(info.nodes[0].digest, "d");
  EXPECT_EQ(info.nodes[0].schema, 2U);
  EXPECT_TRUE(info.nodes[0].draining);
  EXPECT_TRUE(info.nodes[0].retired);
  const host::ClusterCounters& counters = info.counters;
  EXPECT_EQ(counters.claims, 1U);
  EXPECT_EQ(counters.taken_over, 2U);
  EXPECT_EQ(counters.forwarded, 3U);
  EXPECT_EQ(counters.misdirected, 4U);
  EXPECT_EQ(counters.commits_kept, 5U);
  EXPECT_EQ(counters.commits_lost, 6U);
  EXPECT_EQ(counters.commits_unknown, 7U);
  EXPECT_EQ(counters.sessions_lost, 8U);
  EXPECT_EQ(counters.sessions_expired, 9U);
  EXPECT_EQ(counters.forgotten, 10U);
  EXPECT_EQ(counters.retired_others, 11U);
  EXPECT_EQ(counters.retired, 12U);
  EXPECT_EQ(counters.went_back, 13U);
}

}  // namespace
}  // namespace keelback::nodes
