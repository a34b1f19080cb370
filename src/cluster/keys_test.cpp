// Idempotency keys of calls without a session, over several nodes.
#include "cluster/keys.h"

#include <gtest/gtest.h>

#include "support/cluster_fixture.h"

namespace keelback::cluster {
namespace {

class KeysTest : public ClusterTest {
 protected:
  static void end(NodeDriver& node, const std::string& key, const std::string& payload) {
    Answer answer;
    answer.key = key;
    answer.fingerprint = 1;
    answer.payload = payload;
    node.handle(KeyedCallEnded{++NodeDriver::last_id, key, answer});
  }
};

TEST_F(KeysTest, TheRowIsWrittenBeforeTheCallAndAnsweredAfterIt) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  const TicketId ticket = ann.keyed_call("k");
  EXPECT_FALSE(ann.admitted(ticket));
  ann.answer();
  EXPECT_TRUE(ann.admitted(ticket));
  EXPECT_EQ(database.keys().at("k").owner.node, "ann");
  end(ann, "k", "42");
  EXPECT_EQ(ann.count<Settle>(), 0) << "the caller waits for the row";
  ann.answer();
  EXPECT_EQ(ann.count<Settle>(), 1);
  EXPECT_EQ(database.keys().at("k").answer->payload, "42");
}

TEST_F(KeysTest, ASecondNodeForwardsToTheFirstAndReplaysItsAnswer) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.keyed_call("k");
  bob.keyed_call("k");
  EXPECT_EQ(bob.last<Forward>().to.node, "ann");
  EXPECT_TRUE(ann.admitted(ann.keyed_call("k", false, true))) << "its pool knows the key";
  end(ann, "k", "42");
  bob.keyed_call("k");
  EXPECT_EQ(bob.last<Replay>().answer.payload, "42");
  bob.keyed_call("k", false, false, 2);
  EXPECT_TRUE(bob.last<Refuse>().key_reused);
}

TEST_F(KeysTest, AHopOpensNoKey) {
  NodeDriver& ann = start("ann");
  ann.keyed_call("k", false, true);
  EXPECT_EQ(ann.count<Misdirected>(), 1);
  EXPECT_TRUE(database.keys().empty());
}

TEST_F(KeysTest, IfTheFirstNodeIsRetiredOnlyAnIdempotentCallRunsAgain) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.keyed_call("k");
  run(4s, {&bob});
  for (int i = 0; i < 2; ++i) {
    bob.keyed_call("k");
    EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kWorkerDied);
    EXPECT_EQ(bob.last<Refuse>().effect, Effect::kMaybe) << "for the life of the key";
  }
  ann.handle(Tick{});
  end(ann, "k", "42");  // it was only paused
  bob.keyed_call("k");
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kMaybe);
  EXPECT_EQ(bob.count<Replay>(), 0);
  const TicketId again = bob.keyed_call("k", true);
  EXPECT_TRUE(bob.admitted(again));
  EXPECT_EQ(database.keys().at("k").owner.node, "bob");
}

TEST_F(KeysTest, AKeyOfACallOfWhichNothingRanIsFreeAgain) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.keyed_call("k");
  ann.handle(KeyedCallEnded{++NodeDriver::last_id, "k", std::nullopt});
  EXPECT_EQ(ann.count<Settle>(), 1);
  EXPECT_TRUE(bob.admitted(bob.keyed_call("k")));
}

TEST_F(KeysTest, AnOpeningWhoseReplyIsLostIsReadAgain) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  const TicketId ticket = ann.keyed_call("k");
  database.perform(now, ann.waiting.front().request);
  ann.answer_none(false);
  ann.answer();
  EXPECT_TRUE(ann.admitted(ticket));
}

TEST_F(KeysTest, AnOpeningOfWhichNobodyKnowsIsRefusedAndItsRowGoes) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  ann.keyed_call("k");
  database.perform(now, ann.waiting.front().request);
  ann.answer_none(false);
  ann.answer_none(false);
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kNotReady);
  EXPECT_EQ(ann.last<Refuse>().effect, Effect::kNone);
  ann.link = Link::kUp;
  run(1s, {&ann});
  EXPECT_TRUE(database.keys().empty());
  EXPECT_TRUE(ann.admitted(ann.keyed_call("k")));
}

TEST_F(KeysTest, AnAnswerIsWrittenAgainUntilTheDatabaseHasIt) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.keyed_call("k");
  ann.link = Link::kDown;
  ann.beats_fail = false;
  end(ann, "k", "42");
  run(1s, {&bob});
  ann.link = Link::kUp;
  run(1s, {&ann, &bob});
  EXPECT_EQ(ann.count<Settle>(), 1);
  bob.keyed_call("k");
  EXPECT_EQ(bob.last<Replay>().answer.payload, "42");
}

TEST_F(KeysTest, WithoutTheDatabaseANewKeyIsNotReadyAndARunningOneGoesOn) {
  NodeDriver& ann = start("ann");
  ann.keyed_call("k");
  ann.link = Link::kDown;
  run(500ms, {&ann});
  ann.keyed_call("other");
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kNotReady);
  EXPECT_TRUE(ann.admitted(ann.keyed_call("k"))) << "the pool knows it";
}

TEST_F(KeysTest, ARunningCallThatCannotBeReachedIsNotReadyAndABrokenHopIsMaybe) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.keyed_call("k");
  TicketId ticket = bob.keyed_call("k");
  bob.handle(HopFailed{ticket, HopEnd::kNotConnected, "refused"});
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kNotReady);
  ticket = bob.keyed_call("k");
  bob.handle(HopFailed{ticket, HopEnd::kBroken, "reset"});
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kMaybe);
  ticket = bob.keyed_call("k");
  end(ann, "k", "42");
  bob.handle(HopFailed{ticket, HopEnd::kNotOwner, "421"});
  EXPECT_EQ(bob.last<Replay>().ticket, ticket);
}

}  // namespace
}  // namespace keelback::cluster
