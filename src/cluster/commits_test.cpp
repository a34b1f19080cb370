// What the reply to a commit means, and what becomes of the caller's answer.
#include "cluster/commits.h"

#include <gtest/gtest.h>

#include "support/cluster_fixture.h"

namespace keelback::cluster {
namespace {

using How = Settle::How;

class CommitsTest : public EachCallTest {
 protected:
  // Ann has the session, with one commit; her beats go on.
  NodeDriver& ann_with_session() {
    NodeDriver& ann = start("ann");
    ann.call("s");
    ann.commit("s", "1");
    return ann;
  }
};
class VouchTest : public ClusterTest {};

TEST_F(CommitsTest, AnAnswerIsKeptWhenItsStateIsCommitted) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  const CommitId commit = ann.commit("s", "1");
  EXPECT_EQ(ann.last<Settle>().commit, commit);
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(row("s").number, 1);
  EXPECT_EQ(*row("s").state->bytes, "1");
  EXPECT_EQ(row("s").digest, "v1");
  EXPECT_FALSE(row("s").exposed);
}

TEST_F(CommitsTest, CommitsOfASessionAreMadeOneAfterAnother) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kWaiting;
  ann.commit("s", "2");
  ann.commit("s", "3");
  EXPECT_EQ(ann.waiting.size(), 1);
  ann.answer();
  ann.answer();
  EXPECT_EQ(row("s").number, 3);
  EXPECT_EQ(ann.count<Settle>(), 3);
}

TEST_F(CommitsTest, TheOwnerThatLostItsSessionHearsWhoHasIt) {
  NodeDriver& ann = ann_with_session();
  NodeDriver& bob = start("bob");
  run(4s, {&bob});
  bob.call("s");
  ASSERT_TRUE(bob.node.owns("s"));
  const CommitId commit = ann.commit("s", "2");  // it has been paused, and knows nothing
  EXPECT_EQ(ann.last<Settle>().commit, commit);
  EXPECT_EQ(ann.last<Settle>().how, How::kLost);
  EXPECT_EQ(ann.last<Settle>().owner, "bob");
  EXPECT_EQ(ann.last<ForgetSession>().session, "s");
  EXPECT_EQ(*row("s").state->bytes, "1");
  EXPECT_FALSE(ann.node.owns("s"));
}

TEST_F(CommitsTest, ACommitOfASessionThatWasForgottenNamesTheOwnerToo) {
  NodeDriver& ann = ann_with_session();
  NodeDriver& bob = start("bob");
  run(4s, {&bob});
  bob.call("s");
  ann.handle(Tick{});
  ASSERT_FALSE(ann.node.owns("s"));
  ann.commit("s", "2");  // of a call that ran all the time
  EXPECT_EQ(ann.last<Settle>().how, How::kLost);
  EXPECT_EQ(ann.last<Settle>().owner, "bob");
}

TEST_F(CommitsTest, ACommitWhoseAnswerIsLostIsReadAgainAndKept) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kWaiting;
  const CommitId commit = ann.commit("s", "2");
  database.perform(now, ann.waiting.front().request);
  ann.answer_none(false);
  run(500ms, {&ann});
  ASSERT_EQ(ann.waiting.size(), 1);
  EXPECT_TRUE(std::holds_alternative<Find>(ann.waiting.front().request));
  ann.answer();
  EXPECT_EQ(ann.last<Settle>().commit, commit);
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(row("s").number, 2);
}

TEST_F(CommitsTest, ACommitThatTookNoEffectIsMadeAgainOnce) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kWaiting;
  ann.commit("s", "2");
  const Request late = ann.waiting.front().request;
  ann.answer_none(false);
  run(500ms, {&ann});
  ann.answer();                 // the row has number 1
  database.perform(now, late);  // now it takes effect after all
  ann.answer();                 // the second is refused, by the first
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(row("s").number, 2);
  ann.link = Link::kUp;
  ann.commit("s", "3");
  EXPECT_EQ(row("s").number, 3);
}

TEST_F(CommitsTest, IfNobodyCanSayWhetherItWasCommittedTheStateInMemoryIsDropped) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kMute;
  const CommitId commit = ann.commit("s", "2");
  run(4s, {&ann});
  EXPECT_EQ(ann.last<Settle>().commit, commit);
  EXPECT_EQ(ann.last<Settle>().how, How::kUnknown);
  EXPECT_EQ(ann.last<ForgetSession>().session, "s");
  EXPECT_TRUE(ann.last<ForgetSession>().may_be_kept) << "its caller hears maybe";
  ann.link = Link::kUp;
  run(1s, {&ann});
  ann.call("s");
  EXPECT_EQ(*ann.adopted("s").state->bytes, "2") << "the row says what became of it";
}

// Goal: an answer whose row could not be marked ends as one whose state could not be committed.
TEST_F(VouchTest, IfNobodyCanSayWhetherTheRowIsMarkedTheAnswerIsUnknownToo) {
  rules.commits_each_call = true;
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.commit("s", "1");
  ann.link = Link::kMute;
  const CommitId vouch = ann.vouch("s");
  run(4s, {&ann});
  EXPECT_EQ(ann.last<Settle>().commit, vouch);
  EXPECT_EQ(ann.last<Settle>().how, How::kUnknown);
  EXPECT_TRUE(ann.last<ForgetSession>().may_be_kept);
}

TEST_F(CommitsTest, ACommitThatComesAfterItsStateWasDroppedIsRefused) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kWaiting;
  ann.commit("s", "2");
  const Request late = ann.waiting.front().request;
  ann.answer_none(false);
  ann.beats_fail = true;
  ann.link = Link::kDown;
  run(4s, {&ann});
  ASSERT_EQ(ann.last<Settle>().how, How::kUnknown);
  ann.beats_fail = false;
  ann.link = Link::kUp;
  run(1s, {&ann});
  ann.call("s");
  ASSERT_EQ(*ann.adopted("s").state->bytes, "1");
  EXPECT_FALSE(std::get<Written>(database.perform(now, late)).done) << "the token is another";
}

TEST_F(CommitsTest, AStateThatCannotBeSavedTakesTheStoredOneAway) {
  NodeDriver& ann = ann_with_session();
  CommitWanted event;
  event.commit = ++NodeDriver::last_id;
  event.session = "s";
  event.birth = ann.adopted("s").birth;
  ann.handle(event);
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_FALSE(row("s").state);
  EXPECT_TRUE(row("s").exposed);
  NodeDriver& bob = start("bob");
  run(4s, {&bob});
  bob.call("s");
  EXPECT_EQ(bob.last<Refuse>().kind, OutcomeKind::kSessionLost) << "never an older state";
}

TEST_F(CommitsTest, TheAnswerOfAKeyIsReplayedByTheNextOwner) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s", false, "k");
  ann.commit("s", "1", "k");
  ann.commit("s", "2");
  ann.over("s", Over::kMoved);
  CallCame event;
  event.ticket = ++NodeDriver::last_id;
  event.session = "s";
  event.key = "k";
  event.fingerprint = 1;
  bob.handle(event);
  EXPECT_EQ(bob.last<Replay>().ticket, event.ticket);
  EXPECT_FALSE(bob.admitted(event.ticket));
  event.ticket = ++NodeDriver::last_id;
  event.fingerprint = 2;
  bob.handle(event);
  EXPECT_TRUE(bob.last<Refuse>().key_reused);
  event.ticket = ++NodeDriver::last_id;
  event.key = "other";
  bob.handle(event);
  EXPECT_TRUE(bob.admitted(event.ticket));
}

TEST_F(CommitsTest, ASessionIsReleasedOnlyAfterItsCommits) {
  NodeDriver& ann = ann_with_session();
  ann.link = Link::kWaiting;
  ann.commit("s", "2");
  ann.over("s", Over::kMoved);
  EXPECT_EQ(ann.waiting.size(), 1);
  ann.answer();
  ann.answer();
  EXPECT_FALSE(row("s").owner);
  EXPECT_EQ(row("s").number, 2);
}

TEST_F(CommitsTest, TheLastStateOfAnOwnedSessionCanBeRead) {
  NodeDriver& ann = ann_with_session();
  ann.handle(FetchWanted{1, "s", ann.adopted("s").birth});
  EXPECT_EQ(*ann.last<Fetched>().state->bytes, "1");
  ann.handle(FetchWanted{2, "s", 12345});
  EXPECT_TRUE(ann.last<Fetched>().gone);
  ann.link = Link::kDown;
  ann.handle(FetchWanted{3, "s", ann.adopted("s").birth});
  EXPECT_FALSE(ann.last<Fetched>().gone) << "it may be there later";
}

TEST_F(CommitsTest, ARetiredOwnerLearnsWhetherTheCommitUnderWayTookEffect) {
  NodeDriver& ann = ann_with_session();
  NodeDriver& bob = start("bob");
  ann.link = Link::kWaiting;
  const CommitId commit = ann.commit("s", "2");
  const Reply done = database.perform(now, ann.waiting.front().request);
  const AskId ask = ann.waiting.front().ask;
  run(4s, {&bob});
  ann.handle(Tick{});  // the beat is refused
  ASSERT_FALSE(ann.node.owns("s"));
  ann.handle(Replied{ask, done});
  EXPECT_EQ(ann.last<Settle>().commit, commit);
  EXPECT_EQ(ann.last<Settle>().how, How::kKept) << "the next owner has this state";
}

// ---- answers without a commit

TEST_F(VouchTest, AnAnswerIsGivenWhileTheLeaseRuns) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.vouch("s");
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(row("s").number, 0) << "nothing is written";
}

TEST_F(VouchTest, AfterTheLeaseAnAnswerWaitsForTheNextBeat) {
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.link = Link::kDown;
  run(3100ms, {&ann});
  ann.vouch("s");
  EXPECT_EQ(ann.count<Settle>(), 0);
  ann.link = Link::kUp;
  run(500ms, {&ann});
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
}

TEST_F(VouchTest, AfterItsRetirementAnAnswerIsLost) {
  NodeDriver& ann = start("ann");
  NodeDriver& bob = start("bob");
  ann.call("s");
  run(4s, {&bob});
  bob.call("s");
  ann.beats_fail = true;
  ann.vouch("s");  // before the first beat after the pause
  EXPECT_EQ(ann.count<Settle>(), 0);
  ann.beats_fail = false;
  run(500ms, {&ann});
  EXPECT_EQ(ann.last<Settle>().how, How::kLost);
}

TEST_F(VouchTest, AnAnswerThatIsNotStoredMarksItsRowFirst) {
  rules.commits_each_call = true;
  NodeDriver& ann = start("ann");
  ann.call("s");
  ann.commit("s", "1");
  ASSERT_FALSE(row("s").exposed);
  ann.vouch("s");  // the settings have changed
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_TRUE(row("s").exposed) << "if this node dies now, the session is lost, not rolled back";
  EXPECT_FALSE(row("s").state);
}

// ---- a database that went back

TEST_F(CommitsTest, ARowThatIsOlderThanTheMemoryIsNamedAndNeverRestored) {
  NodeDriver& ann = ann_with_session();
  const ModelDatabase copy = database;
  ann.commit("s", "2");
  database.go_back(copy);
  run(1s, {&ann});
  EXPECT_GE(ann.counters().went_back, 1);
  EXPECT_EQ(ann.notices("call 1 of session \"s\""), 1);
  EXPECT_TRUE(row("s").exposed) << "if ann dies now, the session is lost, not rolled back";
  ann.commit("s", "3");
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(*row("s").state->bytes, "3") << "the memory was right, and the row is again";
  EXPECT_FALSE(row("s").exposed);
}

TEST_F(CommitsTest, ACommitThatFindsAnOlderRowSaysSoAndGoesOn) {
  NodeDriver& ann = ann_with_session();
  const ModelDatabase copy = database;
  ann.commit("s", "2");
  database.go_back(copy);
  ann.commit("s", "3");
  EXPECT_EQ(ann.last<Settle>().how, How::kKept);
  EXPECT_EQ(ann.counters().went_back, 1);
  EXPECT_EQ(*row("s").state->bytes, "3");
}

TEST_F(CommitsTest, ASessionThatTheDatabaseDoesNotKnowAnyMoreIsForgotten) {
  NodeDriver& ann = start("ann");
  run(1s, {&ann});
  const ModelDatabase copy = database;
  ann.call("s");
  ann.commit("s", "1");
  database.go_back(copy);
  run(1s, {&ann});
  EXPECT_GE(ann.counters().went_back, 1);
  EXPECT_EQ(ann.last<ForgetSession>().session, "s");
}

TEST_F(CommitsTest, AReconnectionComparesAndFindsNothingIfNothingIsWrong) {
  NodeDriver& ann = start("ann");
  ann.checks = false;  // each of them looks at all sessions
  for (int i = 0; i < 2500; ++i) {
    const std::string session = "s" + std::to_string(i);
    ann.call(session);
    ann.commit(session, "1");
  }
  ann.checks = true;
  ann.link = Link::kDown;
  run(1s, {&ann});
  ann.link = Link::kUp;
  const std::size_t before = ann.asked.size();
  run(1s, {&ann});
  std::size_t pages = 0;
  for (std::size_t i = before; i < ann.asked.size(); ++i) {
    pages += std::holds_alternative<Owned>(ann.asked[i]) ? 1 : 0;
  }
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(ann.counters().went_back, 0);
  EXPECT_EQ(ann.count<ForgetSession>(), 0);
}

}  // namespace
}  // namespace keelback::cluster
