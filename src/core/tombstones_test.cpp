#include "core/tombstones.h"

#include <gtest/gtest.h>

namespace keelback::core {
namespace {

using namespace std::chrono_literals;

// Goal: an ending is remembered for the ttl and not a tick longer, whether swept or not.
TEST(Tombstones, RememberForTheirTtl) {
  Tombstones stones({.ttl = 1h, .max = 10}, 1);
  stones.add(at(0s), "ann", SessionOver::kIdle, 1s, nullptr);
  ASSERT_TRUE(stones.find(at(1h) - 1ns, "ann"));
  EXPECT_EQ(stones.find(at(0s), "ann")->why, SessionOver::kIdle);
  EXPECT_FALSE(stones.find(at(1h), "ann"));
  EXPECT_EQ(stones.next_deadline(), at(1h));
  stones.sweep(at(1h), 10);
  EXPECT_EQ(stones.size(), 0u);
  EXPECT_FALSE(stones.next_deadline());
}

// Goal: bounded: one more than `max` forgets the oldest, and a second ending replaces the first.
TEST(Tombstones, KeepTheLatestAtTheirBound) {
  Tombstones stones({.ttl = 1h, .max = 2}, 1);
  stones.add(at(0s), "ann", SessionOver::kIdle, 1s, nullptr);
  stones.add(at(1s), "bob", SessionOver::kAge, 1s, nullptr);
  stones.add(at(2s), "ann", SessionOver::kLost, 1s, std::make_shared<const Death>());
  EXPECT_EQ(stones.size(), 2u);
  stones.add(at(3s), "cyd", SessionOver::kIdle, 1s, nullptr);
  EXPECT_FALSE(stones.find(at(3s), "bob"));
  EXPECT_EQ(stones.find(at(3s), "ann")->why, SessionOver::kLost);
  stones.set_limits({.ttl = 1h, .max = 1});
  EXPECT_EQ(stones.size(), 1u);
  stones.set_limits({.ttl = 1h, .max = 0});
  stones.add(at(4s), "dan", SessionOver::kIdle, 1s, nullptr);
  EXPECT_EQ(stones.size(), 0u);
}

// Goal: a sweep does no more than it is told.
TEST(Tombstones, SweepInSlices) {
  Tombstones stones({.ttl = 1s, .max = 100}, 1);
  for (int i = 0; i < 10; ++i)
    stones.add(at(0s), std::to_string(i), SessionOver::kIdle, 1s, nullptr);
  stones.sweep(at(1s), 4);
  EXPECT_EQ(stones.size(), 6u);
}

}  // namespace
}  // namespace keelback::core
