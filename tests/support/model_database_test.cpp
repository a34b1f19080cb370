// The model of the database keeps the conditions of cluster/database.h. The rules of a node are
// only as good as this.
#include "support/model_database.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

namespace keelback::cluster {
namespace {

using namespace std::chrono_literals;

const Owner kAnn{"ann", 11};
const Owner kBob{"bob", 22};

class ModelDatabaseTest : public testing::Test {
 protected:
  template <typename ReplyT>
  ReplyT ask(const Request& request) {
    return std::get<ReplyT>(database.perform(now, request));
  }
  Joined join(const Owner& node) {
    Join request;
    request.node.name = node.node;
    request.node.incarnation = node.incarnation;
    request.settings = "of " + node.node;
    return ask<Joined>(request);
  }
  Claimed claim(const Owner& owner, Token token, std::optional<Claim::Seen> seen = std::nullopt,
                bool commits = true) {
    return ask<Claimed>(Claim{"s", owner, token, 7, Affinity::kStrictQueue, commits, seen});
  }
  Written commit(Token token, std::uint64_t after, std::uint32_t epoch = 1, std::string key = "") {
    Commit request;
    request.session = "s";
    request.birth = 7;
    request.epoch = epoch;
    request.token = token;
    request.after = after;
    request.number = after + 1;
    request.state = State{1, std::make_shared<const std::string>(std::to_string(after + 1))};
    request.owner = kAnn;
    request.answer.key = std::move(key);
    return ask<Written>(request);
  }

  Time now{};
  ModelDatabase database;
};

TEST_F(ModelDatabaseTest, ANewIncarnationRetiresTheOlderOneOfItsName) {
  EXPECT_TRUE(join(kAnn).done);
  EXPECT_TRUE(join(kAnn).done) << "the same one again: its first reply was lost";
  EXPECT_TRUE(ask<Beaten>(Beat{kAnn, 3, false}).done);
  const Owner again{"ann", 12};
  const Joined joined = join(again);
  EXPECT_TRUE(joined.done);
  EXPECT_EQ(joined.settings.text, "of ann") << "the first node's settings stay";
  EXPECT_EQ(joined.nodes.at(0).beat, 0);
  EXPECT_FALSE(ask<Beaten>(Beat{kAnn, 4, false}).done);
  EXPECT_FALSE(database.lives(kAnn));
}

TEST_F(ModelDatabaseTest, ANodeIsRetiredOnlyWithTheBeatThatItHas) {
  join(kAnn);
  ask<Beaten>(Beat{kAnn, 5, false});
  EXPECT_FALSE(ask<Written>(Retire{kAnn, 4}).done);
  EXPECT_TRUE(database.lives(kAnn));
  const Beaten late = ask<Beaten>(Beat{kAnn, 3, false});
  EXPECT_EQ(late.was, 5);
  EXPECT_EQ(late.nodes.at(0).beat, 5) << "a late beat does not lower it";
  EXPECT_TRUE(ask<Written>(Retire{kAnn, 5}).done);
  EXPECT_FALSE(ask<Beaten>(Beat{kAnn, 6, false}).done);
  EXPECT_FALSE(join(kAnn).done) << "an incarnation that was retired never joins again";
}

TEST_F(ModelDatabaseTest, NobodyClaimsFromALivingOwner) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(claim(kAnn, 100).done);
  const Claimed refused = claim(kBob, 200, Claim::Seen{7, 100});
  EXPECT_FALSE(refused.done);
  ASSERT_TRUE(refused.owner);
  EXPECT_EQ(refused.owner->name, "ann");
  EXPECT_TRUE(claim(kAnn, 101, Claim::Seen{7, 100}).done) << "from itself";
  ask<Written>(Retire{kAnn, 0});
  EXPECT_FALSE(claim(kBob, 200, Claim::Seen{7, 100}).done) << "not the token that stands there";
  const Claimed done = claim(kBob, 200, Claim::Seen{7, 101});
  EXPECT_TRUE(done.done);
  EXPECT_EQ(done.row->epoch, 3);
  EXPECT_EQ(done.row->fate, Fate::kAlive);
}

TEST_F(ModelDatabaseTest, AClaimOfAnExposedRowIsALostSession) {
  join(kAnn);
  join(kBob);
  claim(kAnn, 100, std::nullopt, false);
  ask<Written>(Retire{kAnn, 0});
  EXPECT_EQ(claim(kBob, 200, Claim::Seen{7, 100}, false).row->fate, Fate::kLost);
}

TEST_F(ModelDatabaseTest, ACommitNamesTokenEpochAndTheLastNumber) {
  join(kAnn);
  claim(kAnn, 100);
  EXPECT_TRUE(commit(100, 0).done);
  EXPECT_FALSE(commit(100, 0).done) << "a second time";
  EXPECT_FALSE(commit(99, 1).done);
  EXPECT_TRUE(commit(100, 1, 3).done) << "the session has moved between its node's workers";
  EXPECT_FALSE(commit(100, 2, 2).done) << "an epoch that is gone";
  const Found found = ask<Found>(Find{"s", 100});
  EXPECT_EQ(found.row->number, 2);
  EXPECT_EQ(*found.row->state->bytes, "2");
  EXPECT_FALSE(ask<Found>(Find{"s", 99}).row->state);
}

TEST_F(ModelDatabaseTest, ACommitWritesTheAnswerOfItsKeyOnlyIfItTakesEffect) {
  join(kAnn);
  claim(kAnn, 100);
  EXPECT_FALSE(commit(99, 0, 1, "k").done);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
  EXPECT_TRUE(commit(100, 0, 1, "k").done);
  EXPECT_EQ(ask<KeyOpened>(KeyFind{"k", 1min}).row->session, "s");
}

TEST_F(ModelDatabaseTest, AKeyIsTakenOverFromAnOwnerThatIsGoneAndOnlyWithoutAnAnswer) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 1, kAnn, 100, 1min, std::nullopt}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, 100}).done);
  ask<Written>(Retire{kAnn, 0});
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, std::nullopt}).done);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, 100}).done);
  EXPECT_FALSE(ask<Written>(KeyAnswer{"k", 100, {}}).done);
  EXPECT_TRUE(ask<Written>(KeyAnswer{"k", 200, {}}).done);
  EXPECT_FALSE(ask<Written>(KeyDrop{"k", 200}).done) << "it has an answer";
  now += 2min;
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 9, kBob, 300, 1min, std::nullopt}).done) << "too old";
}

TEST_F(ModelDatabaseTest, SweepingTakesOldRowsThatNobodyOwns) {
  join(kAnn);
  claim(kAnn, 100);
  now += 1h;
  EXPECT_EQ(ask<Swept>(Sweep{1min, 1h, 1min, 1min}).sessions, 0) << "its owner lives";
  EXPECT_TRUE(ask<Written>(Release{"s", 7, 100, Fate::kExpired}).done);
  EXPECT_EQ(ask<Found>(Find{"s"}).row->fate, Fate::kExpired);
  EXPECT_EQ(ask<Swept>(Sweep{1min, 1h, 1min, 1min}).sessions, 1);
}

TEST_F(ModelDatabaseTest, ADatabaseThatGoesBackHasAnotherStart) {
  join(kAnn);
  const ModelDatabase copy = database;
  claim(kAnn, 100);
  const std::string before = ask<Beaten>(Beat{kAnn, 1, false}).started;
  database.restart();
  EXPECT_TRUE(ask<Found>(Find{"s"}).row) << "a restart loses nothing";
  database.go_back(copy);
  EXPECT_FALSE(ask<Found>(Find{"s"}).row);
  EXPECT_NE(ask<Beaten>(Beat{kAnn, 1, false}).started, before);
}

}  // namespace
}  // namespace keelback::cluster
