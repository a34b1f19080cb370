// Who owns a session, and where its calls go.
#include "cluster/claims.h"

#include <gtest/gtest.h>

#include "support/cluster_fixture.h"

namespace keelback::cluster {
namespace {

class ClaimsTest : public EachCallTest {};
class OnDrainTest : public ClusterTest {};

TEST_F(ClaimsTest, TheNodeThatGetsTheFirstCallOwnsTheSession) {
  NodeDriver& ann = start("ann");
  const TicketId ticket = ann.call("s");
  EXPECT_TRUE(ann.admitted(ticket));
  EXPECT_EQ(ann.adopted("s").epoch, 1);
  EXPECT_FALSE(ann.adopted("s").state);
  EXPECT_EQ(row("s").owner->node, "ann");
  EXPECT_TRUE(ann.admitted(ann.call("s"))) << "without asking again";
}

TEST_F(ClaimsTest, CallsThatComeTogetherMakeOneClaim) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  const TicketId first = ann.call("s");
  const TicketId second = ann.call("s");
  EXPECT_EQ(ann.waiting.size(), 1);
  ann.answer();
  ann.answer();
  EXPECT_TRUE(ann.admitted(first));
  EXPECT_TRUE(ann.admitted(second));
  EXPECT_EQ(ann.count<Adopt>(), 1);
}

TEST_F(ClaimsTest, ACallForAnothersSessionTakesOneHopAndTheRouteIsKept) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(1s, {&ann, &bob});
  bob.call("s");
  EXPECT_EQ(bob.last<Forward>().to.node, "ann");
  EXPECT_EQ(bob.last<Forward>().url, "http://ann");
  const std::size_t asked = bob.asked.size();
  bob.call("s");
  EXPECT_EQ(bob.count<Forward>(), 2);
  EXPECT_EQ(bob.asked.size(), asked) << "the database is not asked for each forwarded call";
  EXPECT_TRUE(ann.admitted(ann.call("s", true)));
}

TEST_F(ClaimsTest, ANodeThatIsNotTheOwnerSendsAHopBackAndClaimsNothing) {
  NodeDriver& ann = start("ann");
  const TicketId hop = ann.call("s", true);
  EXPECT_EQ(ann.last<Misdirected>().ticket, hop);
  EXPECT_TRUE(database.sessions().empty());
  NodeDriver& bob = start("bob");
  bob.call("s");
  ann.call("s", true);
  EXPECT_EQ(ann.count<Misdirected>(), 2) << "it does not forward a second time";
  EXPECT_EQ(ann.count<Forward>(), 0);
}

TEST_F(ClaimsTest, After421TheOwnerIsReadOnceMoreAndNotAThirdTime) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  const TicketId ticket = bob.call("s");
  bob.handle(HopFailed{ticket, HopEnd::kNotOwner, "421"});
  EXPECT_EQ(bob.count<Forward>(), 2);
  bob.handle(HopFailed{ticket, HopEnd::kNotOwner, "421"});
  EXPECT_EQ(bob.count<Forward>(), 2);
  EXPECT_EQ(bob.last<Refuse>().ticket, ticket);
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kNotReady);
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kNone);
}

TEST_F(ClaimsTest, After421ASessionThatNobodyOwnsAnyMoreIsClaimed) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.commit("s", "1");
  const TicketId ticket = bob.call("s");
  ann.over("s", Over::kMoved);
  bob.handle(HopFailed{ticket, HopEnd::kNotOwner, "421"});
  EXPECT_TRUE(bob.admitted(ticket));
  EXPECT_EQ(*bob.adopted("s").state->bytes, "1");
  EXPECT_EQ(bob.adopted("s").epoch, 2);
}

TEST_F(ClaimsTest, ALivingOwnerThatCannotBeReachedIsNotReadyWithTheReason) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  const TicketId ticket = bob.call("s");
  bob.handle(HopFailed{ticket, HopEnd::kNotConnected, "refused"});
  const Refuse& refusal = bob.last<Refuse>();
  EXPECT_EQ(refusal.ticket, ticket);
  EXPECT_EQ(refusal.kind, OutcomeKind::kNotReady);
  EXPECT_EQ(refusal.effect, Effect::kNone);
  EXPECT_NE(refusal.message.find("\"ann\""), std::string::npos);
  EXPECT_TRUE(refusal.retry_after);
  EXPECT_TRUE(ann.node.owns("s")) << "never claimed from a living node";
}

TEST_F(ClaimsTest, AHopThatBreaksIsMaybeAndIsNotRepeated) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  const TicketId ticket = bob.call("s");
  bob.handle(HopFailed{ticket, HopEnd::kBroken, "reset"});
  EXPECT_EQ(bob.last<Refuse>().ticket, ticket);
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kMaybe);
  EXPECT_EQ(bob.count<Forward>(), 1);
}

TEST_F(ClaimsTest, TheSavedSessionOfADeadNodeIsClaimedWithItsState) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.commit("s", "1");
  run(1s, {&bob});
  bob.call("s");
  EXPECT_EQ(bob.count<Forward>(), 1) << "it lives as far as anybody knows";
  run(3s, {&bob});
  EXPECT_TRUE(bob.admitted(bob.call("s")));
  EXPECT_EQ(*bob.adopted("s").state->bytes, "1");
  EXPECT_EQ(bob.adopted("s").birth, ann.adopted("s").birth);
  EXPECT_EQ(bob.adopted("s").epoch, 2);
  EXPECT_EQ(bob.counters().taken_over, 1);
}

TEST_F(ClaimsTest, ANodeThatStartsAgainClaimsTheSessionsOfItsFormerSelf) {
  NodeDriver& before = start("ann");
  before.call("s");
  before.commit("s", "1");
  NodeDriver& after = start("ann");
  EXPECT_TRUE(after.admitted(after.call("s"))) << "at once: the name has a new incarnation";
  EXPECT_EQ(*after.adopted("s").state->bytes, "1");
}

TEST_F(ClaimsTest, AClaimWhoseReplyIsLostIsReadAgain) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  const TicketId ticket = ann.call("s");
  ann.answer();  // there is no row
  ASSERT_EQ(ann.waiting.size(), 1);
  database.perform(now, ann.waiting.front().request);
  ann.answer_none(false);
  ann.answer();  // it is read
  EXPECT_TRUE(ann.admitted(ticket));
  EXPECT_EQ(ann.adopted("s").epoch, 1) << "it was not claimed a second time";
}

TEST_F(ClaimsTest, AClaimThatTakesEffectAfterAllIsTakenOverByItsOwnNode) {
  NodeDriver& ann = start("ann");
  ann.link = Link::kWaiting;
  ann.call("s");
  ann.answer();
  const Request late = ann.waiting.front().request;
  ann.answer_none(true);
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kNotReady);
  database.perform(now, late);
  ann.link = Link::kUp;
  EXPECT_TRUE(ann.admitted(ann.call("s", true))) << "also for a hop: the row says that it is ours";
  EXPECT_EQ(ann.adopted("s").epoch, 2);
}

TEST_F(ClaimsTest, OfTwoClaimersOneOwnsTheSessionAndTheOtherForwards) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.link = bob.link = Link::kWaiting;
  const TicketId first = ann.call("s");
  const TicketId second = bob.call("s");
  ann.answer();
  bob.answer();
  ann.answer();
  bob.answer();
  EXPECT_TRUE(ann.admitted(first));
  EXPECT_EQ(bob.last<Forward>().ticket, second);
}

TEST_F(ClaimsTest, CallsWaitAMarginBeforeTheLeaseEndsAndGoOnAfterTheNextBeat) {
  rules.commits_each_call = false;
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.beats_fail = true;
  run(2s, {&ann});
  EXPECT_TRUE(ann.admitted(ann.call("s"))) << "the lease runs";
  run(400ms, {&ann});
  const TicketId waits = ann.call("s");
  EXPECT_FALSE(ann.admitted(waits)) << "2.4 s of 3 s, with a margin of 0.75 s";
  EXPECT_EQ(ann.count<Refuse>(), 0);
  ann.beats_fail = false;
  run(500ms, {&ann});
  EXPECT_TRUE(ann.admitted(waits));
}

TEST_F(ClaimsTest, CallsThatWaitForALeaseThatIsGoneAreRefusedWithoutEffect) {
  rules.commits_each_call = false;
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.link = Link::kDown;
  run(2500ms, {&ann, &bob});
  const TicketId waits = ann.call("s");
  run(2s, {&ann, &bob});
  ann.link = Link::kUp;
  run(1s, {&ann, &bob});
  EXPECT_FALSE(ann.admitted(waits));
  EXPECT_EQ(ann.last<Refuse>().ticket, waits);
  EXPECT_EQ(ann.last<Refuse>().effect, Effect::kNone);
}

TEST_F(ClaimsTest, WithoutTheDatabaseSessionsThatCommitEachCallAreNotReadyAtOnce) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.link = Link::kDown;
  run(500ms, {&ann});
  const TicketId ticket = ann.call("s");
  EXPECT_EQ(ann.last<Refuse>().ticket, ticket);
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kNotReady);
  ann.call("unknown");
  EXPECT_EQ(ann.count<Refuse>(), 2) << "and whose owner is not known";
  ann.link = Link::kUp;
  run(500ms, {&ann});
  EXPECT_TRUE(ann.admitted(ann.call("s"))) << "it recovers by itself";
}

TEST_F(OnDrainTest, ASessionWithoutASnapshotDiesWithItsNodeAndItsNextCallerHearsItOnce) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.vouch("s");
  EXPECT_EQ(ann.last<Settle>().how, Settle::How::kKept);
  run(4s, {&bob});
  const TicketId first = bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().ticket, first);
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost);
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kNone);
  EXPECT_TRUE(bob.admitted(bob.call("s")));
  EXPECT_EQ(bob.adopted("s").epoch, 1) << "a new session";
  EXPECT_NE(bob.adopted("s").birth, ann.adopted("s").birth);
}

TEST_F(OnDrainTest, OfManyCallersOneHearsOfTheLossAndTheOthersOpenAnew) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(4s, {&bob});
  bob.link = Link::kWaiting;
  const TicketId first = bob.call("s");
  const TicketId second = bob.call("s");
  while (!bob.waiting.empty()) bob.answer();
  EXPECT_EQ(bob.last<Refuse>().ticket, first);
  EXPECT_EQ(bob.count<Refuse>(), 1);
  EXPECT_TRUE(bob.admitted(second));
}

TEST_F(OnDrainTest, ALossIsKeptForTheNextCallerIfTheFirstHasGone) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(4s, {&bob});
  bob.link = Link::kWaiting;
  const TicketId first = bob.call("s");
  bob.answer();
  bob.handle(TicketGone{first});
  while (!bob.waiting.empty()) bob.answer();
  EXPECT_EQ(row("s").fate, Fate::kLost);
  bob.link = Link::kUp;
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost);
}

TEST_F(OnDrainTest, ALocalLossOrExpiryIsToldByWhicheverNodeIsAskedNext) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.over("s", Over::kLost);
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost);
  ann.call("t");
  ann.over("t", Over::kExpired);
  bob.call("t");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionExpired);
  ann.call("u");
  ann.over("u", Over::kEnded);
  EXPECT_TRUE(bob.admitted(bob.call("u"))) << "its end is known to its callers";
}

TEST_F(OnDrainTest, ACallThatWantsANewSessionHearsOfNoLossAndOneThatWantsAnOldOneDoes) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.over("s", Over::kLost);
  CallCame event;
  event.ticket = ++NodeDriver::last_id;
  event.session = "s";
  event.open = SessionOpen::kNew;
  ann.handle(event);
  EXPECT_TRUE(ann.admitted(event.ticket));
  event.ticket = ++NodeDriver::last_id;
  event.session = "t";
  event.open = SessionOpen::kExisting;
  ann.handle(event);
  EXPECT_EQ(ann.last<Refuse>().kind, OutcomeKind::kBadRequest);
}

TEST_F(ClaimsTest, ASavedSessionThatWasIdleForTooLongIsExpired) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  now += rules.idle_ttl + 1s;
  NodeDriver& bob = start("bob");
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionExpired);
  EXPECT_TRUE(bob.admitted(bob.call("s")));
}

TEST_F(ClaimsTest, ASessionSavedByADrainingNodeGoesOnElsewhere) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.handle(DrainRequested{});
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  EXPECT_TRUE(bob.admitted(bob.call("s")));
  EXPECT_EQ(*bob.adopted("s").state->bytes, "1");
}

TEST_F(ClaimsTest, SoManySessionsAreRestoredAtOnceAndNoMore) {
  NodeDriver& ann = start("ann");
  Config config = config_of("bob");
  config.restores_at_once = 2;
  NodeDriver& bob = start(config);
  for (const char* session : {"a", "b", "c", "d"}) {
    ann.call(session);
    ann.commit(session, session);
    ann.over(session, Over::kMoved);
    bob.call(session);
  }
  EXPECT_EQ(bob.count<Adopt>(), 2);
  bob.handle(SessionOpened{"a", bob.adopted("a").birth});
  EXPECT_EQ(bob.count<Adopt>(), 3);
  bob.over("b", Over::kMoved);
  EXPECT_EQ(bob.count<Adopt>(), 4);
  EXPECT_EQ(bob.count<Admit>(), 4);
  EXPECT_TRUE(bob.admitted(bob.call("new"))) << "a new session restores nothing";
}

// Goal: many sessions of a dead node come to two nodes at once. Neither restores more than 16 at
// any time, each session is restored once, and none is forgotten.
TEST_F(ClaimsTest, ADeadNodesManySessionsNeverPassTheBoundOfRestores) {
  constexpr std::size_t kSessions = 200;
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  NodeDriver& cyd = start("cyd");
  for (std::size_t i = 0; i < kSessions; ++i) {
    const std::string session = "s" + std::to_string(i);
    ann.call(session);
    ann.commit(session, session);
  }
  run(5s, {&bob, &cyd});
  for (std::size_t i = 0; i < kSessions; ++i) {
    bob.call("s" + std::to_string(i));
    cyd.call("s" + std::to_string(kSessions - 1 - i));
  }
  std::size_t opened = 0;
  std::map<NodeDriver*, std::size_t> told;  // of its Adopts, those that are restored
  while (opened < kSessions) {
    const std::size_t before = opened;
    for (NodeDriver* node : {&bob, &cyd}) {
      std::vector<Adopt> adopts;
      for (const Action& action : node->actions) {
        if (const auto* each = std::get_if<Adopt>(&action)) adopts.push_back(*each);
      }
      ASSERT_LE(adopts.size() - told[node], 16U);
      if (opened < 100) {
        EXPECT_EQ(adopts.size() - told[node], 16U) << "as many as may be";
      }
      if (told[node] == adopts.size()) continue;
      const Adopt& next = adopts[told[node]++];
      ++opened;
      node->handle(SessionOpened{next.session, next.birth});
    }
    ASSERT_GT(opened, before) << "sessions wait, and nothing is restored";
  }
  EXPECT_EQ(bob.count<Adopt>() + cyd.count<Adopt>(), kSessions);
}

// Goal: a place that gets free is given to the session that has waited longest, and the database is
// asked once for it, whatever else happens meanwhile.
TEST_F(ClaimsTest, AFreePlaceIsGivenOnceAndInTurn) {
  NodeDriver& ann = start("ann");
  Config config = config_of("bob");
  config.restores_at_once = 1;
  NodeDriver& bob = start(config);
  for (const char* session : {"a", "b", "c", "d"}) {
    ann.call(session);
    ann.commit(session, session);
    ann.over(session, Over::kMoved);
    bob.call(session);
  }
  bob.link = Link::kWaiting;
  bob.handle(SessionOpened{"a", bob.adopted("a").birth});
  for (int i = 0; i < 5; ++i) bob.handle(Tick{});
  EXPECT_EQ(bob.waiting.size(), 1U);
  bob.link = Link::kUp;
  while (!bob.waiting.empty()) bob.answer();
  EXPECT_EQ(bob.last<Adopt>().session, "b");
  bob.handle(SessionOpened{"b", bob.adopted("b").birth});
  EXPECT_EQ(bob.last<Adopt>().session, "c");
}

TEST_F(ClaimsTest, AStateOfAnotherApplicationIsRestoredUnlessTheSettingsSayNo) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  Config config = config_of("bob");
  config.digest = "v2";
  NodeDriver& bob = start(config);
  bob.handle(RulesChanged{[&] {
    Rules strict = rules;
    strict.restore_other_digest = false;
    return strict;
  }()});
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kNotReady);
  EXPECT_FALSE(row("s").owner) << "a node with the old application may still have it";
  bob.handle(RulesChanged{rules});
  EXPECT_TRUE(bob.admitted(bob.call("s")));
}

// Goal: a hop to a node that is silent ends when that node was retired, and not before; one to a
// node that has left may still have its answer on the way at the first beat that shows it.
TEST_F(ClaimsTest, AHopToANodeThatWasRetiredIsGivenUp) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(1s, {&ann, &bob});
  const TicketId ticket = bob.call("s");
  run(5s, {&ann, &bob});
  EXPECT_EQ(bob.count<GiveUpHop>(), 0) << "its owner lives";
  run(2900ms, {&bob});
  EXPECT_EQ(bob.count<GiveUpHop>(), 0) << "it is not retired";
  run(2s, {&bob});
  EXPECT_EQ(bob.last<GiveUpHop>().ticket, ticket);
  bob.handle(HopFailed{ticket, HopEnd::kBroken, "it was retired"});
  EXPECT_EQ(bob.last<Refuse>().ticket, ticket);
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kWorkerDied);
  EXPECT_EQ(bob.last<Refuse>().effect, Effect::kMaybe);
  const std::size_t before = bob.count<GiveUpHop>();
  run(2s, {&bob});
  EXPECT_EQ(bob.count<GiveUpHop>(), before);
}

// Goal: a request that ends a session goes where a call goes: the owner ends it.
TEST_F(ClaimsTest, AnEndGoesToTheOwnerAsACallDoes) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(1s, {&ann, &bob});
  const TicketId end = bob.end("s");
  EXPECT_EQ(bob.last<Forward>().ticket, end);
  EXPECT_EQ(bob.last<Forward>().to.node, "ann");
  const TicketId hop = ann.end("s", true);
  EXPECT_TRUE(ann.admitted(hop)) << "its pool ends the session";
}

TEST_F(ClaimsTest, AnEndOfASavedSessionWithoutAnOwnerDropsItsRow) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  const TicketId end = bob.end("s");
  EXPECT_EQ(bob.last<Ended>().ticket, end);
  EXPECT_TRUE(bob.last<Ended>().found);
  EXPECT_TRUE(database.sessions().empty());
  EXPECT_EQ(bob.count<Adopt>(), 0) << "nobody restores it for that";
  bob.end("s");
  EXPECT_FALSE(bob.last<Ended>().found);
  bob.call("s");
  EXPECT_FALSE(bob.adopted("s").state) << "it is a new session";
}

TEST_F(ClaimsTest, AnEndOfADeadNodesSavedSessionDropsItsRowAndItsLateCommitIsRefused) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.commit("s", "1");
  run(5s, {&bob});  // ann stands still
  bob.end("s");
  EXPECT_TRUE(bob.last<Ended>().found);
  const CommitId late = ann.commit("s", "2");
  EXPECT_EQ(ann.last<Settle>().commit, late);
  EXPECT_EQ(ann.last<Settle>().how, Settle::How::kLost);
  EXPECT_TRUE(database.sessions().empty());
}

TEST_F(ClaimsTest, AnEndThatMeetsAClaimGoesToTheNewOwner) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  NodeDriver& cyd = start("cyd");
  ann.call("s");
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  run(1s, {&ann, &bob, &cyd});
  bob.link = Link::kWaiting;
  const TicketId end = bob.end("s");
  bob.answer();  // the row, without an owner
  cyd.call("s");
  bob.answer();  // the drop is refused
  bob.answer();  // the row as it is now
  EXPECT_EQ(bob.count<Ended>(), 0);
  EXPECT_EQ(bob.last<Forward>().ticket, end);
  EXPECT_EQ(bob.last<Forward>().to.node, "cyd");
}

TEST_F(ClaimsTest, AnEndWhoseDropHasNoReplyIsAskedAgain) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  ann.commit("s", "1");
  ann.over("s", Over::kMoved);
  bob.link = Link::kWaiting;
  bob.end("s");
  bob.answer();
  bob.answer_none(false);
  EXPECT_EQ(bob.count<Ended>(), 0);
  bob.link = Link::kUp;
  run(1s, {&bob});
  EXPECT_TRUE(bob.last<Ended>().found);
  EXPECT_TRUE(database.sessions().empty());
}

// Goal: as on one machine, an end does not eat the news that a session was lost.
TEST_F(OnDrainTest, AnEndOfALostSessionFindsNoneAndItsNextCallerHearsOfTheLoss) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(5s, {&bob});
  bob.end("s");
  EXPECT_FALSE(bob.last<Ended>().found);
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost);
}

}  // namespace
}  // namespace keelback::cluster
