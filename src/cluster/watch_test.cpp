#include "cluster/watch.h"

#include <gtest/gtest.h>

#include <chrono>

#include "cluster/durability.h"
#include "cluster/lease.h"
#include "cluster/retries.h"
#include "cluster/routes.h"

namespace keelback::cluster {
namespace {

using namespace std::chrono_literals;

std::vector<NodeRow> bob(std::uint64_t beat, Incarnation incarnation = 1) {
  NodeRow row;
  row.name = "bob";
  row.incarnation = incarnation;
  row.beat = beat;
  return {row};
}

// Looks at a bob whose beat stands still, each 100 ms, until he is dead.
Time death_of_bob(Watch& watch, Time from) {
  for (Time at = from;; at += 100ms) {
    if (!watch.observe(at, at + 10ms, bob(7)).empty()) return at;
  }
}

TEST(Watch, ANodeIsDeadIfItsBeatIsTheSameForALeaseAfterItWasSeen) {
  Watch watch(3s);
  watch.observe(at(0s), at(100ms), bob(7));
  EXPECT_EQ(death_of_bob(watch, at(200ms)), at(3100ms)) << "from the reply that showed it first";
}

TEST(Watch, AnotherBeatOrIncarnationBeginsAnew) {
  Watch watch(1s);
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(watch.observe(at(i * 100ms), at(i * 100ms), bob(i / 5, 1 + i / 10)).empty());
  }
}

TEST(Watch, ATimeWithoutTheDatabaseCountsForNobody) {
  Watch watch(3s);
  watch.observe(at(0s), at(0s), bob(7));
  watch.observe(at(1s), at(1s), bob(7));
  watch.reset();
  EXPECT_EQ(death_of_bob(watch, at(2s)), at(5100ms));
}

TEST(Watch, ATimeInWhichThisProcessStoodStillCountsForNobody) {
  Watch watch(3s);
  watch.observe(at(0s), at(0s), bob(7));
  EXPECT_TRUE(watch.observe(at(100s), at(100s), bob(7)).empty());
  EXPECT_EQ(death_of_bob(watch, at(100100ms)), at(103s));
}

TEST(Watch, ARetiredNodeIsNotDeadAgain) {
  Watch watch(1s);
  std::vector<NodeRow> rows = bob(7);
  rows[0].retired = true;
  for (int i = 0; i < 50; ++i)
    EXPECT_TRUE(watch.observe(at(i * 100ms), at(i * 100ms), rows).empty());
}

TEST(Watch, SaysWhenALookMayShowADeath) {
  Watch watch(3s);
  watch.observe(at(0s), at(100ms), bob(7));
  EXPECT_EQ(watch.next(at(0s)), at(3100ms));
  EXPECT_EQ(watch.next(at(3100ms)), std::nullopt) << "it was looked at then";
}

TEST(Lease, EndsAMarginEarlierForNewCalls) {
  Lease lease(3s, 750ms);
  EXPECT_FALSE(lease.may_start(at(0s)));
  lease.renew(at(1s));
  EXPECT_TRUE(lease.may_start(at(3250ms) - 1ns));
  EXPECT_FALSE(lease.may_start(at(3250ms)));
  EXPECT_TRUE(lease.holds(at(4s) - 1ns));
  EXPECT_FALSE(lease.holds(at(4s)));
  lease.renew(at(500ms));
  EXPECT_TRUE(lease.holds(at(3900ms))) << "a reply that comes late does not shorten it";
  lease.end();
  EXPECT_FALSE(lease.holds(at(1s)));
}

TEST(Routes, KeepAtMostSoManyAndDropTheOldest) {
  Routes routes(2);
  routes.put("a", {"n1", 1});
  routes.put("b", {"n2", 1});
  routes.put("a", {"n3", 1});
  routes.put("c", {"n4", 1});
  EXPECT_EQ(routes.size(), 2);
  EXPECT_EQ(routes.find("b"), nullptr);
  ASSERT_TRUE(routes.find("a"));
  EXPECT_EQ(routes.find("a")->node, "n3");
  for (int i = 0; i < 100; ++i) routes.put("a", {"n5", 1});
  EXPECT_LE(routes.size(), 2);
  EXPECT_TRUE(routes.find("a"));
}

TEST(Retries, ComeInTheOrderOfTheirTimesAndOnce) {
  Retries retries;
  retries.arm("a", at(3s));
  retries.arm("b", at(2s));
  retries.arm("a", at(1s));
  EXPECT_EQ(retries.next(), at(1s));
  EXPECT_EQ(retries.take(at(0s)), std::nullopt);
  EXPECT_EQ(retries.take(at(5s)), "a");
  retries.disarm("b");
  EXPECT_EQ(retries.take(at(5s)), std::nullopt);
}

TEST(Durability, NamesEachWayInWhichAnAcknowledgedCommitMayBeLost) {
  ServerFacts server;
  EXPECT_TRUE(weaknesses(server).empty());
  server.fsync = false;
  server.full_page_writes = false;
  server.synchronous_commit = "off";
  server.standbys = 1;
  EXPECT_EQ(weaknesses(server).size(), 4);
  ServerFacts replicated;
  replicated.standbys = 2;
  replicated.synchronous_standbys = 1;
  EXPECT_TRUE(weaknesses(replicated).empty());
  replicated.synchronous_commit = "local";
  EXPECT_EQ(weaknesses(replicated).size(), 1) << "commits do not wait for the replica";
}

}  // namespace
}  // namespace keelback::cluster
