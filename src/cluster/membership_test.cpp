// Who is a member, until when, and who is not any more.
#include "cluster/membership.h"

#include <gtest/gtest.h>

#include "support/cluster_fixture.h"

namespace keelback::cluster {
namespace {

class MembershipTest : public ClusterTest {};

TEST_F(MembershipTest, AStartedNodeJoinsAndBeats) {
  NodeDriver& ann = start("ann");
  EXPECT_EQ(ann.phase(), Phase::kMember);
  EXPECT_EQ(ann.last<ObeySettings>().settings.text, "settings");
  const std::uint64_t before = database.nodes().at("ann").beat;
  run(3s, {&ann});
  EXPECT_GE(database.nodes().at("ann").beat, before + 9);
}

TEST_F(MembershipTest, ANodeWithoutADatabaseTriesUntilItJoins) {
  NodeDriver ann(database, now, config_of("ann"), 1);
  ann.link = Link::kDown;
  ann.join();
  EXPECT_EQ(ann.phase(), Phase::kJoining);
  ann.call("s");
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kNotReady);
  EXPECT_EQ(ann.last<Refuse>().effect, Effect::kNone);
  ann.link = Link::kMute;
  run(1s, {&ann});
  ann.link = Link::kUp;
  run(1s, {&ann});
  EXPECT_EQ(ann.phase(), Phase::kMember) << "a join whose reply was lost is repeated";
}

TEST_F(MembershipTest, ANodeThatIsSilentForALeaseIsRetired) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  run(1s, {&ann, &bob});
  run(2900ms, {&ann});
  EXPECT_FALSE(database.nodes().at("bob").retired);
  run(500ms, {&ann});
  EXPECT_TRUE(database.nodes().at("bob").retired) << "within lease + 1 s";
  EXPECT_EQ(ann.counters().retired_others, 1);
}

TEST_F(MembershipTest, ARetiredNodeNoticesAndJoinsAsANewIncarnation) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  bob.call("s");
  ASSERT_TRUE(bob.node.owns("s"));
  const Incarnation before = database.nodes().at("bob").incarnation;
  run(4s, {&ann});
  ASSERT_TRUE(database.nodes().at("bob").retired);
  bob.handle(Tick{});
  EXPECT_FALSE(bob.node.owns("s"));
  EXPECT_EQ(bob.last<ForgetSession>().session, "s");
  EXPECT_EQ(bob.phase(), Phase::kMember);
  EXPECT_NE(database.nodes().at("bob").incarnation, before);
  EXPECT_EQ(bob.counters().retired, 1);
}

TEST_F(MembershipTest, NobodyIsRetiredWhileTheDatabaseDoesNotAnswerTheClaimer) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.link = Link::kDown;
  run(10s, {&ann});
  ann.link = Link::kUp;
  run(2900ms, {&ann});
  EXPECT_FALSE(database.nodes().at("bob").retired);
  bob.handle(Tick{});
  run(2s, {&ann, &bob});
  EXPECT_FALSE(database.nodes().at("bob").retired);
}

TEST_F(MembershipTest, AfterARestartOfTheDatabaseNobodyIsRetiredBeforeAFullLease) {
  NodeDriver& ann = start("ann");
  start("bob");
  run(2900ms, {&ann});
  database.restart();
  run(2900ms, {&ann});
  EXPECT_FALSE(database.nodes().at("bob").retired);
  run(1s, {&ann});
  EXPECT_TRUE(database.nodes().at("bob").retired);
}

TEST_F(MembershipTest, ABeatThatGoesOnIsNotRetiredByARequestThatIsLate) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  run(1s, {&ann, &bob});
  const NodeRow seen = database.nodes().at("bob");
  run(1s, {&ann, &bob});
  const Reply late = database.perform(now, Retire{{"bob", seen.incarnation}, seen.beat});
  EXPECT_FALSE(std::get<Written>(late).done);
  EXPECT_EQ(bob.counters().retired, 0);
}

TEST_F(MembershipTest, ASecondProcessOfTheSameNameTakesItAndTheFirstStaysOutside) {
  NodeDriver& first = start("ann");
  NodeDriver& second = start("ann");
  run(5s, {&first, &second});
  EXPECT_EQ(first.phase(), Phase::kDisplaced);
  EXPECT_EQ(second.phase(), Phase::kMember) << "they do not throw each other out in turn";
  EXPECT_EQ(first.notices("Give each its own cluster.node"), 1);
  run(5s, {&first});
  EXPECT_EQ(first.phase(), Phase::kMember) << "the second is gone";
}

TEST_F(MembershipTest, TheFirstNodesSettingsAreInForceAndAllHearOfAChange) {
  NodeDriver& ann = start("ann");
  Config other = config_of("bob");
  other.settings = "other";
  NodeDriver& bob = start(other);
  EXPECT_EQ(bob.last<ObeySettings>().settings.text, "settings");
  EXPECT_EQ(bob.notices("differ from this node's"), 1);
  bob.handle(SettingsChanged{"new"});
  run(1s, {&ann, &bob});
  EXPECT_EQ(ann.last<ObeySettings>().settings.text, "new");
  EXPECT_EQ(bob.last<ObeySettings>().settings.text, "new");
  ann.handle(SettingsChanged{"newer"});
  bob.handle(SettingsChanged{"newest"});
  run(1s, {&ann, &bob});
  EXPECT_EQ(ann.last<ObeySettings>().settings.text, "newest") << "the later operator wins";
}

TEST_F(MembershipTest, AWeakDatabaseIsNamed) {
  database.server.fsync = false;
  NodeDriver& ann = start("ann");
  EXPECT_EQ(ann.notices("fsync is off"), 1);
  EXPECT_EQ(ann.node.status(now).weaknesses.size(), 1);
}

TEST_F(MembershipTest, TheStatusSaysThatTheDatabaseIsAwayAndRecoversByItself) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kDown;
  run(1s, {&ann});
  EXPECT_TRUE(ann.node.status(now).database_away);
  EXPECT_EQ(ann.node.status(now).trouble, "The test says so.");
  EXPECT_EQ(ann.notices("The database does not answer"), 1) << "said once";
  ann.link = Link::kUp;
  run(1s, {&ann});
  EXPECT_FALSE(ann.node.status(now).database_away);
  EXPECT_EQ(ann.node.status(now).trouble, "");
  EXPECT_EQ(ann.phase(), Phase::kMember);
}

TEST_F(MembershipTest, ADatabaseThatHasForgottenBeatsIsNamed) {
  NodeDriver& ann = start("ann");
  run(1s, {&ann});
  const ModelDatabase copy = database;
  run(1s, {&ann});
  database.go_back(copy);
  run(1s, {&ann});
  EXPECT_EQ(ann.counters().went_back, 1);
  EXPECT_EQ(ann.notices("The database went back"), 1);
}

TEST_F(MembershipTest, ANodeLeavesWhenItHasReleasedItsSessions) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.handle(DrainRequested{});
  EXPECT_TRUE(database.nodes().at("ann").draining);
  ann.call("t");
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kShuttingDown);
  ann.over("s", Over::kMoved);
  EXPECT_FALSE(row("s").owner);
  ann.handle(Drained{});
  run(1s, {&ann});
  EXPECT_EQ(ann.count<Left>(), 1);
  EXPECT_TRUE(database.nodes().empty());
}

// Goal: what comes while the row is on its way out does not let the driver end before it has gone.
TEST_F(MembershipTest, ANodeThatLeavesWaitsForItsRowToGo) {
  NodeDriver& ann = start("ann");
  ann.handle(Drained{});
  ann.handle(TicketGone{99});
  ann.handle(TicketGone{99});
  EXPECT_EQ(ann.count<Left>(), database.nodes().empty() ? 1 : 0);
  run(1s, {&ann});
  EXPECT_EQ(ann.count<Left>(), 1);
  EXPECT_TRUE(database.nodes().empty());
}

TEST_F(MembershipTest, WhatCouldNotBeSavedIsReleasedAsItIs) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.vouch("s");
  ann.handle(Drained{});
  run(1s, {&ann, &bob});
  EXPECT_EQ(ann.count<Left>(), 1);
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost);
}

}  // namespace
}  // namespace keelback::cluster
