// The conditions of cluster/database.h, over the model that the simulator uses, and over
// PostgreSQL, directly and through a pgbouncer that gives each transaction another connection. What
// the simulator proves with the model holds for PostgreSQL as far as these tests go.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/database.h"
#include "support/database_under_test.h"

namespace keelback::cluster {
namespace {

using namespace std::chrono_literals;

const Owner kAnn{"ann", 0xaaaaaaaaaaaaaaaa};  // no bigint has that without its sign
const Owner kBob{"bob", 22};
constexpr std::uint64_t kBirth = 0xf000000000000007;
constexpr Token kToken = 0xe000000000000001;

class Database : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string missing;
    database_ = test::make_database(GetParam(), missing);
    if (!database_) GTEST_SKIP() << missing;
  }
  template <typename ReplyT>
  ReplyT ask(const Request& request, int client = 0) {
    Reply reply = test::ask_and_wait(database_->loop(), database_->client(client), request);
    if (auto* wanted = std::get_if<ReplyT>(&reply)) return std::move(*wanted);
    const auto* none = std::get_if<NoReply>(&reply);
    ADD_FAILURE() << name_of(request) << ": " << (none ? none->reason : "another reply");
    return {};
  }
  // All at once, from the clients 0 and 1 in turn.
  std::vector<Reply> ask_all(std::vector<Request> requests) {
    std::vector<std::optional<Reply>> replies(requests.size());
    std::size_t left = requests.size();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      database_->client(static_cast<int>(i % 2))
          .ask(std::move(requests[i]), test::stretch() * 30s, [&, i](Reply reply) {
            replies[i] = std::move(reply);
            --left;
          });
    }
    EXPECT_TRUE(test::run_until(database_->loop(), [&] { return left == 0; }));
    std::vector<Reply> all;
    for (auto& each : replies) all.push_back(each ? *std::move(each) : NoReply{});
    return all;
  }
  template <typename ReplyT>
  static int count_done(const std::vector<Reply>& replies) {
    int done = 0;
    for (const Reply& each : replies) {
      const auto* reply = std::get_if<ReplyT>(&each);
      if (reply == nullptr) {
        const auto* none = std::get_if<NoReply>(&each);
        ADD_FAILURE() << (none ? none->reason : "another reply");
      } else if (reply->done) {
        ++done;
      }
    }
    return done;
  }

  Joined join(const Owner& node) {
    Join request;
    request.node.name = node.node;
    request.node.incarnation = node.incarnation;
    request.node.url = "http://" + node.node + ":8080";
    request.node.digest = "d1";
    request.node.schema = kSchema;
    request.settings = "of " + node.node;
    return ask<Joined>(request);
  }
  Claimed claim(const Owner& owner, Token token, std::optional<Claim::Seen> seen = std::nullopt,
                bool commits = true) {
    return ask<Claimed>(Claim{"s", owner, token, kBirth, Affinity::kHint, commits, seen});
  }
  static Commit a_commit(Token token, std::uint64_t after, std::uint32_t epoch = 1) {
    Commit request;
    request.session = "s";
    request.birth = kBirth;
    request.epoch = epoch;
    request.token = token;
    request.after = after;
    request.number = after + 1;
    request.state = State{1, std::make_shared<const std::string>(std::to_string(after + 1))};
    request.digest = "d1";
    request.owner = kAnn;
    return request;
  }
  Written commit(Token token, std::uint64_t after, std::uint32_t epoch = 1, std::string key = "") {
    Commit request = a_commit(token, after, epoch);
    request.answer.key = std::move(key);
    return ask<Written>(request);
  }
  SessionRow row_with_state(Token token) {
    const Found found = ask<Found>(Find{"s", token});
    EXPECT_TRUE(found.row);
    return found.row.value_or(SessionRow{});
  }

  std::unique_ptr<test::DatabaseUnderTest> database_;
};

// ---- nodes

TEST_P(Database, ANewIncarnationRetiresTheOlderOneOfItsName) {
  const Joined first = join(kAnn);
  EXPECT_TRUE(first.done);
  EXPECT_EQ(first.tables, kSchema);
  EXPECT_EQ(first.settings.version, 1);
  EXPECT_FALSE(first.server.started.empty());
  EXPECT_FALSE(first.server.in_recovery);
  EXPECT_TRUE(join(kAnn).done) << "the same one again: its first reply was lost";
  EXPECT_TRUE(ask<Beaten>(Beat{kAnn, 3, false}).done);
  const Owner again{"ann", 12};
  const Joined joined = join(again);
  EXPECT_TRUE(joined.done);
  EXPECT_EQ(joined.settings.text, "of ann") << "the first node's settings stay";
  ASSERT_EQ(joined.nodes.size(), 1);
  EXPECT_EQ(joined.nodes[0].incarnation, 12);
  EXPECT_EQ(joined.nodes[0].beat, 0);
  EXPECT_EQ(joined.nodes[0].url, "http://ann:8080");
  EXPECT_EQ(joined.nodes[0].digest, "d1");
  EXPECT_EQ(joined.nodes[0].schema, kSchema);
  EXPECT_FALSE(ask<Beaten>(Beat{kAnn, 4, false}).done);
  EXPECT_TRUE(ask<Beaten>(Beat{again, 1, false}).done);
}

TEST_P(Database, ABeatReadsAllNodes) {
  join(kBob);
  join(kAnn);
  const Beaten beaten = ask<Beaten>(Beat{kAnn, 1, true});
  EXPECT_TRUE(beaten.done);
  EXPECT_EQ(beaten.was, 0);
  EXPECT_EQ(beaten.settings.text, "of bob");
  EXPECT_EQ(beaten.started, join(kAnn).server.started);
  ASSERT_EQ(beaten.nodes.size(), 2);
  EXPECT_EQ(beaten.nodes[0].name, "ann");
  EXPECT_EQ(beaten.nodes[0].incarnation, kAnn.incarnation);
  EXPECT_EQ(beaten.nodes[0].beat, 1);
  EXPECT_TRUE(beaten.nodes[0].draining);
  EXPECT_EQ(beaten.nodes[1].name, "bob");
  EXPECT_FALSE(beaten.nodes[1].draining);
  EXPECT_EQ(ask<Beaten>(Beat{kAnn, 2, false}).was, 1);
  EXPECT_FALSE(ask<Beaten>(Beat{{"cyd", 1}, 1, false}).done);
}

TEST_P(Database, ANodeIsRetiredOnlyWithTheBeatThatItHas) {
  join(kAnn);
  ask<Beaten>(Beat{kAnn, 5, false});
  EXPECT_FALSE(ask<Written>(Retire{kAnn, 4}).done);
  EXPECT_FALSE(ask<Written>(Retire{{"ann", 1}, 5}).done);
  const Beaten late = ask<Beaten>(Beat{kAnn, 3, false});
  EXPECT_TRUE(late.done);
  EXPECT_EQ(late.was, 5);
  EXPECT_EQ(late.nodes.at(0).beat, 5) << "a late beat does not lower it";
  EXPECT_FALSE(late.nodes.at(0).retired);
  EXPECT_TRUE(ask<Written>(Retire{kAnn, 5}).done);
  const Beaten refused = ask<Beaten>(Beat{kAnn, 6, false});
  EXPECT_FALSE(refused.done);
  EXPECT_EQ(refused.nodes.at(0).beat, 5);
  EXPECT_TRUE(refused.nodes.at(0).retired);
  EXPECT_FALSE(join(kAnn).done) << "an incarnation that was retired never joins again";
}

TEST_P(Database, ABeatOrItsRetirementButNotBoth) {
  for (std::uint64_t round = 0; round < 20; ++round) {
    const Owner node{"ann", 100 + round};
    join(node);
    const auto replies = ask_all({Beat{node, 1, false}, Retire{node, 0}});
    const bool beaten = std::get<Beaten>(replies[0]).done;
    const bool retired = std::get<Written>(replies[1]).done;
    EXPECT_NE(beaten, retired);
    EXPECT_EQ(ask<Beaten>(Beat{node, 2, false}).done, beaten);
  }
}

TEST_P(Database, WhoLeavesHasNoRow) {
  join(kAnn);
  EXPECT_FALSE(ask<Written>(Leave{{"ann", 1}}).done);
  EXPECT_TRUE(ask<Written>(Leave{kAnn}).done);
  EXPECT_FALSE(ask<Beaten>(Beat{kAnn, 1, false}).done);
  EXPECT_TRUE(ask<Beaten>(Beat{kAnn, 1, false}).nodes.empty());
}

// ---- claims

TEST_P(Database, AFirstClaimMakesTheRow) {
  join(kAnn);
  EXPECT_FALSE(ask<Found>(Find{"s"}).row);
  const Claimed claimed = claim(kAnn, kToken);
  EXPECT_TRUE(claimed.done);
  ASSERT_TRUE(claimed.row);
  EXPECT_EQ(claimed.row->session, "s");
  EXPECT_EQ(claimed.row->birth, kBirth);
  EXPECT_EQ(claimed.row->epoch, 1);
  EXPECT_EQ(claimed.row->number, 0);
  EXPECT_EQ(claimed.row->owner, kAnn);
  EXPECT_EQ(claimed.row->token, kToken);
  EXPECT_EQ(claimed.row->mode, Affinity::kHint);
  EXPECT_FALSE(claimed.row->exposed);
  EXPECT_EQ(claimed.row->fate, Fate::kAlive);
  EXPECT_EQ(claimed.row->schema, kSchema);
  EXPECT_FALSE(claimed.row->state);
  ASSERT_TRUE(claimed.owner);
  EXPECT_EQ(claimed.owner->url, "http://ann:8080");
}

TEST_P(Database, OfTwoFirstClaimsOneWins) {
  join(kAnn);
  join(kBob);
  for (int round = 0; round < 20; ++round) {
    const std::string session = fmt::format("race {}", round);
    const auto replies = ask_all(
        {Claim{session, kAnn, 100, 1, {}, true, {}}, Claim{session, kBob, 200, 2, {}, true, {}}});
    EXPECT_EQ(count_done<Claimed>(replies), 1);
    const auto& ann = std::get<Claimed>(replies[0]);
    const auto& bob = std::get<Claimed>(replies[1]);
    ASSERT_TRUE(ann.row && bob.row) << "the loser hears what stands there";
    EXPECT_EQ(ann.row->token, ann.done ? 100 : 200);
    EXPECT_EQ(bob.row->token, ann.row->token);
    EXPECT_EQ(bob.row->birth, ann.row->birth);
  }
}

TEST_P(Database, OfTwoThatTakeASessionOverOneWins) {
  join(kAnn);
  join(kBob);
  const Owner gone{"gone", 9};
  join(gone);
  for (int round = 0; round < 20; ++round) {
    const std::string session = fmt::format("race {}", round);
    EXPECT_TRUE(ask<Claimed>(Claim{session, gone, 9, 1, {}, true, {}}).done);
  }
  EXPECT_TRUE(ask<Written>(Retire{gone, 0}).done);
  for (int round = 0; round < 20; ++round) {
    const std::string session = fmt::format("race {}", round);
    const Claim::Seen seen{1, 9};
    const auto replies = ask_all({Claim{session, kAnn, 100, 1, {}, true, seen},
                                  Claim{session, kBob, 200, 1, {}, true, seen}});
    EXPECT_EQ(count_done<Claimed>(replies), 1);
    const auto& ann = std::get<Claimed>(replies[0]);
    const auto& bob = std::get<Claimed>(replies[1]);
    ASSERT_TRUE(ann.row && bob.row);
    EXPECT_EQ(ann.row->token, ann.done ? 100 : 200);
    EXPECT_EQ(bob.row->token, ann.row->token) << "not the row before the other's claim";
    EXPECT_EQ(bob.row->epoch, 2);
  }
}

TEST_P(Database, NobodyClaimsFromALivingOwner) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(claim(kAnn, 100).done);
  const Claimed refused = claim(kBob, 200, Claim::Seen{kBirth, 100});
  EXPECT_FALSE(refused.done);
  ASSERT_TRUE(refused.owner);
  EXPECT_EQ(refused.owner->name, "ann");
  EXPECT_EQ(refused.row->token, 100);
  EXPECT_TRUE(claim(kAnn, 101, Claim::Seen{kBirth, 100}).done) << "from itself";
  EXPECT_TRUE(ask<Written>(Retire{kAnn, 0}).done);
  EXPECT_FALSE(claim(kBob, 200, Claim::Seen{kBirth, 100}).done) << "not the token there";
  EXPECT_FALSE(claim(kBob, 200, Claim::Seen{8, 101}).done) << "not the birth there";
  EXPECT_FALSE(claim(kBob, 200).done) << "as a new one";
  const Claimed done = claim(kBob, 200, Claim::Seen{kBirth, 101});
  EXPECT_TRUE(done.done);
  EXPECT_EQ(done.row->epoch, 3);
  EXPECT_EQ(done.row->owner, kBob);
  EXPECT_EQ(done.row->fate, Fate::kAlive);
  EXPECT_FALSE(commit(100, 0).done) << "its token is gone";
  EXPECT_FALSE(commit(101, 0).done);
}

TEST_P(Database, AnOwnerThatHasLeftOrStartedAgainDoesNotLive) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(claim(kAnn, 100).done);
  join({"ann", 12});
  EXPECT_FALSE(ask<Found>(Find{"s"}).owner);
  EXPECT_TRUE(claim(kBob, 200, Claim::Seen{kBirth, 100}).done);
  EXPECT_TRUE(ask<Written>(Leave{kBob}).done);
  EXPECT_FALSE(ask<Found>(Find{"s"}).owner);
  EXPECT_TRUE(claim({"ann", 12}, 300, Claim::Seen{kBirth, 200}).done);
  EXPECT_EQ(ask<Found>(Find{"s"}).owner->incarnation, 12);
}

TEST_P(Database, AClaimOfAnExposedRowIsALostSession) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(claim(kAnn, 100, std::nullopt, false).row->exposed);
  ask<Written>(Retire{kAnn, 0});
  const Claimed lost = claim(kBob, 200, Claim::Seen{kBirth, 100}, true);
  EXPECT_EQ(lost.row->fate, Fate::kLost);
  EXPECT_TRUE(lost.row->exposed);
  EXPECT_TRUE(commit(200, 0, 2).done);
  const SessionRow saved = row_with_state(200);
  EXPECT_EQ(saved.fate, Fate::kAlive);
  EXPECT_FALSE(saved.exposed);
}

TEST_P(Database, TheStateComesAlongWithAClaim) {
  join(kAnn);
  join(kBob);
  claim(kAnn, 100);
  Commit request = a_commit(100, 0);
  std::string bytes(1 << 20, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 3);
  request.state = State{2, std::make_shared<const std::string>(bytes)};
  request.idle = 7s;
  request.answer.key = std::string("k\0\xff", 3);
  request.answer.fingerprint = 0xd00000000000000d;
  request.answer.kind = OutcomeKind::kError;
  request.answer.effect = Effect::kMaybe;
  request.answer.payload = std::string("\0\1", 2);
  request.answer.message = "said";
  request.answer.type = "ValueError";
  request.answer.error = std::string("a\0b\xc3", 4);
  request.answer.traceback = "line 1";
  EXPECT_TRUE(ask<Written>(request).done);
  ask<Written>(Retire{kAnn, 0});
  const Claimed claimed = claim(kBob, 200, Claim::Seen{kBirth, 100});
  ASSERT_TRUE(claimed.done && claimed.row->state);
  EXPECT_EQ(claimed.row->state->format, 2);
  EXPECT_TRUE(*claimed.row->state->bytes == bytes);
  EXPECT_EQ(claimed.row->number, 1);
  EXPECT_EQ(claimed.row->digest, "d1");
  EXPECT_GE(claimed.row->idle, 7s);
  EXPECT_GE(claimed.row->age, 0s);
  const Answer& answer = claimed.row->answer;
  EXPECT_EQ(answer.key, request.answer.key);
  EXPECT_EQ(answer.fingerprint, request.answer.fingerprint);
  EXPECT_EQ(answer.kind, OutcomeKind::kError);
  EXPECT_EQ(answer.effect, Effect::kMaybe);
  EXPECT_EQ(answer.payload, request.answer.payload);
  EXPECT_EQ(answer.message, "said");
  EXPECT_EQ(answer.type, "ValueError");
  EXPECT_EQ(answer.error, request.answer.error);
  EXPECT_EQ(answer.traceback, "line 1");
  const Found other = ask<Found>(Find{"s", 100});
  EXPECT_FALSE(other.row->state) << "not the token that stands there";
  EXPECT_TRUE(other.row->answer.key.empty());
  EXPECT_FALSE(ask<Found>(Find{"s"}).row->state);
}

// ---- commits

TEST_P(Database, ACommitNamesTokenBirthEpochAndTheLastNumber) {
  join(kAnn);
  claim(kAnn, kToken);
  EXPECT_TRUE(commit(kToken, 0).done);
  const Written again = commit(kToken, 0);
  EXPECT_FALSE(again.done) << "a second time";
  ASSERT_TRUE(again.row);
  EXPECT_EQ(again.row->number, 1);
  EXPECT_EQ(again.row->token, kToken);
  EXPECT_EQ(again.owner->name, "ann");
  EXPECT_FALSE(commit(99, 1).done);
  Commit other = a_commit(kToken, 1);
  other.birth = 8;
  EXPECT_FALSE(ask<Written>(other).done);
  other = a_commit(kToken, 1);
  other.session = "t";
  EXPECT_FALSE(ask<Written>(other).row);
  EXPECT_FALSE(commit(kToken, 2).done) << "a number that is not there yet";
  EXPECT_EQ(*row_with_state(kToken).state->bytes, "1");
  EXPECT_TRUE(commit(kToken, 1, 3).done) << "the session has moved between its node's workers";
  EXPECT_FALSE(commit(kToken, 2, 2).done) << "an epoch that is gone";
  const SessionRow row = row_with_state(kToken);
  EXPECT_EQ(row.number, 2);
  EXPECT_EQ(row.epoch, 3);
  EXPECT_EQ(*row.state->bytes, "2");
}

TEST_P(Database, ARetiredOwnerCommitsUntilSomebodyClaims) {
  join(kAnn);
  join(kBob);
  claim(kAnn, 100);
  ask<Written>(Retire{kAnn, 0});
  EXPECT_TRUE(commit(100, 0).done);
  const Claimed claimed = claim(kBob, 200, Claim::Seen{kBirth, 100});
  EXPECT_EQ(claimed.row->number, 1);
  EXPECT_EQ(*claimed.row->state->bytes, "1");
  EXPECT_FALSE(commit(100, 1).done);
  EXPECT_TRUE(commit(200, 1, 2).done);
}

TEST_P(Database, ACommitOrAClaimFirstTheClaimerHasTheLastCommit) {
  join(kAnn);
  join(kBob);
  for (int round = 0; round < 20; ++round) {
    const std::string session = fmt::format("race {}", round);
    ask<Claimed>(Claim{session, kAnn, 100, kBirth, {}, true, {}});
  }
  ask<Written>(Retire{kAnn, 0});
  for (int round = 0; round < 20; ++round) {
    Commit late = a_commit(100, 0);
    late.session = fmt::format("race {}", round);
    const auto replies =
        ask_all({late, Claim{late.session, kBob, 200, 0, {}, true, Claim::Seen{kBirth, 100}}});
    const bool committed = std::get<Written>(replies[0]).done;
    const auto& claimed = std::get<Claimed>(replies[1]);
    ASSERT_TRUE(claimed.done);
    EXPECT_EQ(claimed.row->number, committed ? 1 : 0);
    EXPECT_EQ(claimed.row->state.has_value(), committed);
  }
}

TEST_P(Database, ACommitWithoutAStateLeavesNone) {
  join(kAnn);
  claim(kAnn, 100);
  EXPECT_TRUE(commit(100, 0).done);
  Commit request = a_commit(100, 1);
  request.state.reset();
  request.exposed = true;
  EXPECT_TRUE(ask<Written>(request).done);
  const SessionRow row = row_with_state(100);
  EXPECT_EQ(row.number, 2);
  EXPECT_FALSE(row.state);
  EXPECT_TRUE(row.exposed);
}

TEST_P(Database, ACommitWritesTheAnswerOfItsKeyOnlyIfItTakesEffect) {
  join(kAnn);
  claim(kAnn, 100);
  EXPECT_FALSE(commit(99, 0, 1, "k").done);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
  EXPECT_TRUE(commit(100, 0, 1, "k").done);
  const KeyOpened found = ask<KeyOpened>(KeyFind{"k", 1min});
  ASSERT_TRUE(found.row && found.row->answer);
  EXPECT_EQ(found.row->session, "s");
  EXPECT_EQ(found.row->owner, kAnn);
  EXPECT_EQ(found.row->token, 100);
  EXPECT_EQ(found.owner->name, "ann");
  EXPECT_EQ(row_with_state(100).answer.key, "k");
  EXPECT_TRUE(commit(100, 1, 1).done);
  EXPECT_TRUE(row_with_state(100).answer.key.empty()) << "the last commit's";
  EXPECT_TRUE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
}

TEST_P(Database, ACommitLeavesAKeyThatAnotherTokenWrote) {
  join(kAnn);
  claim(kAnn, 100);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 900, 1min, std::nullopt}).done);
  EXPECT_TRUE(commit(100, 0, 1, "k").done);
  const KeyOpened found = ask<KeyOpened>(KeyFind{"k", 1min});
  EXPECT_EQ(found.row->token, 900);
  EXPECT_FALSE(found.row->answer);
  EXPECT_EQ(row_with_state(100).number, 1);
}

// More than one statement takes, of several sessions, and several of one behind each other.
TEST_P(Database, ManyCommitsAtOnceAreEachDoneOrRefused) {
  join(kAnn);
  constexpr int kSessions = 150;
  std::vector<Request> claims, commits;
  for (int i = 0; i < kSessions; ++i) {
    claims.emplace_back(Claim{fmt::format("s{}", i), kAnn, 100, kBirth, {}, true, {}});
    Commit request = a_commit(i % 10 == 3 ? 99 : 100, 0);
    request.session = fmt::format("s{}", i);
    if (i % 5 == 0) request.answer.key = fmt::format("k{}", i % 25);  // several have the same
    commits.emplace_back(request);
  }
  EXPECT_EQ(count_done<Claimed>(ask_all(claims)), kSessions);
  const auto replies = ask_all(commits);
  EXPECT_EQ(count_done<Written>(replies), kSessions / 10 * 9);
  for (int i = 0; i < kSessions; ++i) {
    EXPECT_EQ(std::get<Written>(replies[static_cast<std::size_t>(i)]).done, i % 10 != 3) << i;
  }
  for (int i = 0; i < 25; i += 5) {
    EXPECT_TRUE(ask<KeyOpened>(KeyFind{fmt::format("k{}", i), 1min}).row);
  }
  // One behind the other, of one session, without waiting for answers.
  int done = 0;
  for (std::uint64_t after = 1; after < 20; ++after) {
    Commit request = a_commit(100, after);
    request.session = "s0";
    database_->client(0).ask(request, test::stretch() * 30s,
                             [&](Reply reply) { done += std::get<Written>(reply).done ? 1 : 100; });
  }
  EXPECT_TRUE(test::run_until(database_->loop(), [&] { return done >= 19; }));
  EXPECT_EQ(done, 19);
}

// ---- the end of a session

TEST_P(Database, AReleasedSessionHasNoOwnerAndItsFate) {
  join(kAnn);
  join(kBob);
  claim(kAnn, 100);
  EXPECT_FALSE(ask<Written>(Release{"s", kBirth, 99, Fate::kAlive}).done);
  EXPECT_FALSE(ask<Written>(Release{"s", 8, 100, Fate::kAlive}).done);
  EXPECT_TRUE(ask<Written>(Release{"s", kBirth, 100, Fate::kAlive}).done);
  EXPECT_FALSE(ask<Found>(Find{"s"}).row->owner);
  EXPECT_EQ(ask<Found>(Find{"s"}).row->token, 100) << "it stays";
  EXPECT_TRUE(claim(kBob, 200, Claim::Seen{kBirth, 100}).done);
  EXPECT_TRUE(ask<Written>(Release{"s", kBirth, 200, Fate::kExpired}).done);
  EXPECT_EQ(ask<Found>(Find{"s"}).row->fate, Fate::kExpired);
  EXPECT_TRUE(ask<Written>(Release{"s", kBirth, 200, Fate::kLost}).done);
  EXPECT_EQ(ask<Found>(Find{"s"}).row->fate, Fate::kExpired) << "the first one stays";
}

TEST_P(Database, ADroppedSessionIsGoneAndItsKeysStay) {
  join(kAnn);
  claim(kAnn, 100);
  commit(100, 0, 1, "k");
  const Written refused = ask<Written>(Drop{"s", kBirth, 99});
  EXPECT_FALSE(refused.done);
  EXPECT_EQ(refused.row->token, 100);
  EXPECT_TRUE(ask<Written>(Drop{"s", kBirth, 100}).done);
  EXPECT_FALSE(ask<Found>(Find{"s"}).row);
  EXPECT_FALSE(ask<Written>(Drop{"s", kBirth, 100}).done);
  EXPECT_TRUE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
}

TEST_P(Database, OwnedRowsComeInTheOrderOfTheirBytes) {
  join(kAnn);
  join(kBob);
  const std::vector<std::string> names = {
      std::string("a\0b", 3), "aa", "b", "ba", "\x7f", "\xc3\xbc", "\xff"};
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    EXPECT_TRUE(ask<Claimed>(Claim{*name, kAnn, 100, 1, {}, true, {}}).done);
  }
  ask<Claimed>(Claim{"bb", kBob, 100, 1, {}, true, {}});
  std::vector<std::string> found;
  std::string after;
  for (;;) {
    const OwnedRows rows = ask<OwnedRows>(Owned{kAnn, after, 3});
    for (const SessionRow& each : rows.rows) found.push_back(each.session);
    if (rows.rows.empty()) break;
    EXPECT_EQ(rows.rows[0].owner, kAnn);
    after = found.back();
  }
  EXPECT_EQ(found, names);
}

TEST_P(Database, SweepingTakesOldRowsThatNobodyOwns) {
  join(kAnn);
  join(kBob);
  claim(kAnn, 100);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"runs", 1, kAnn, 1, 1min, std::nullopt}).done);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"done", 1, kAnn, 2, 1min, std::nullopt}).done);
  EXPECT_TRUE(ask<Written>(KeyAnswer{"done", 2, {}}).done);
  database_->pass(1h);
  const Sweep sweep{1min, 24h, 1min, 1min, 1000};
  Swept swept = ask<Swept>(sweep);
  EXPECT_EQ(swept.sessions, 0) << "its owner lives";
  EXPECT_EQ(swept.keys, 1) << "it has its answer";
  EXPECT_TRUE(ask<KeyOpened>(KeyFind{"runs", 24h}).row);
  ask<Written>(Retire{kAnn, 0});
  ask<Claimed>(Claim{"new", kBob, 1, 1, {}, true, {}});
  ask<Written>(Release{"new", 1, 1, Fate::kAlive});
  swept = ask<Swept>(sweep);
  EXPECT_EQ(swept.sessions, 1);
  EXPECT_EQ(swept.keys, 1);
  EXPECT_EQ(swept.nodes, 0) << "it was retired just now";
  EXPECT_FALSE(ask<Found>(Find{"s"}).row);
  EXPECT_TRUE(ask<Found>(Find{"new"}).row);
  database_->pass(1h);
  swept = ask<Swept>(Sweep{24h, 1min, 1min, 1min, 1000});
  EXPECT_EQ(swept.sessions, 1) << "it is too old";
  EXPECT_EQ(swept.nodes, 1);
  EXPECT_EQ(ask<Beaten>(Beat{kBob, 1, false}).nodes.size(), 1);
}

TEST_P(Database, SweepingTakesNoMoreThanItWasTold) {
  join(kAnn);
  for (int i = 0; i < 5; ++i) {
    const std::string session = fmt::format("s{}", i);
    ask<Claimed>(Claim{session, kAnn, 1, 1, {}, true, {}});
    ask<Written>(Release{session, 1, 1, Fate::kAlive});
  }
  database_->pass(1h);
  EXPECT_EQ(ask<Swept>(Sweep{1min, 1min, 1min, 1min, 3}).sessions, 3);
  EXPECT_EQ(ask<Swept>(Sweep{1min, 1min, 1min, 1min, 3}).sessions, 2);
}

// ---- keys

TEST_P(Database, OfTwoThatOpenAKeyOneRunsTheCall) {
  join(kAnn);
  join(kBob);
  for (int round = 0; round < 20; ++round) {
    const std::string key = fmt::format("k{}", round);
    const auto replies = ask_all({KeyOpen{key, 1, kAnn, 100, 1min, std::nullopt},
                                  KeyOpen{key, 2, kBob, 200, 1min, std::nullopt}});
    EXPECT_EQ(count_done<KeyOpened>(replies), 1);
    const auto& ann = std::get<KeyOpened>(replies[0]);
    const auto& bob = std::get<KeyOpened>(replies[1]);
    ASSERT_TRUE(ann.row && bob.row);
    EXPECT_EQ(ann.row->token, ann.done ? 100 : 200);
    EXPECT_EQ(bob.row->token, ann.row->token);
    EXPECT_EQ(bob.row->fingerprint, ann.done ? 1 : 2);
    EXPECT_EQ(bob.owner->name, ann.done ? "ann" : "bob");
  }
}

TEST_P(Database, AKeyIsTakenOverFromAnOwnerThatIsGoneAndOnlyWithoutAnAnswer) {
  join(kAnn);
  join(kBob);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 1, kAnn, 100, 1min, std::nullopt}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, 100}).done);
  ask<Written>(Retire{kAnn, 0});
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).owner);
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, std::nullopt}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, 101}).done);
  const KeyOpened taken = ask<KeyOpened>(KeyOpen{"k", 3, kBob, 200, 1min, 100});
  EXPECT_TRUE(taken.done);
  EXPECT_EQ(taken.row->owner, kBob);
  EXPECT_EQ(taken.row->fingerprint, 3);
  EXPECT_FALSE(ask<Written>(KeyAnswer{"k", 100, {}}).done);
  Answer answer;
  answer.key = "k";
  answer.payload = "42";
  EXPECT_TRUE(ask<Written>(KeyAnswer{"k", 200, answer}).done);
  EXPECT_FALSE(ask<Written>(KeyAnswer{"k", 200, {}}).done) << "it has one";
  EXPECT_EQ(ask<KeyOpened>(KeyFind{"k", 1min}).row->answer->payload, "42");
  EXPECT_FALSE(ask<Written>(KeyDrop{"k", 200}).done) << "it has an answer";
  database_->pass(120s);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).row) << "too old";
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 9, kAnn, 300, 1min, std::nullopt}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).row->answer);
}

TEST_P(Database, ARetiredOwnerAnswersNoKey) {
  join(kAnn);
  for (const char* key : {"k0", "k1"}) {
    EXPECT_TRUE(ask<KeyOpened>(KeyOpen{key, 1, kAnn, 100, 1min, std::nullopt}).done);
  }
  EXPECT_TRUE(ask<Written>(KeyAnswer{"k0", 100, {}}).done);
  EXPECT_TRUE(ask<Written>(Retire{kAnn, 0}).done);
  EXPECT_FALSE(ask<Written>(KeyAnswer{"k1", 100, {}}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k1", 1min}).row->answer);
}

// Who sees a key without an answer, whose owner is retired, sees it so for all time.
TEST_P(Database, AnAnswerOrARetirementFirst) {
  for (std::uint64_t round = 0; round < 20; ++round) {
    const Owner node{"ann", 100 + round};
    const std::string key = fmt::format("k{}", round);
    join(node);
    EXPECT_TRUE(ask<KeyOpened>(KeyOpen{key, 1, node, 100, 1min, std::nullopt}).done);
    bool answered = false;
    std::optional<KeyOpened> seen;
    database_->client(0).ask(KeyAnswer{key, 100, {}}, test::stretch() * 30s,
                             [&](const Reply&) { answered = true; });
    database_->client(1).ask(Retire{node, 0}, test::stretch() * 30s, [&](const Reply&) {
      database_->client(1).ask(KeyFind{key, 1min}, test::stretch() * 30s,
                               [&](Reply reply) { seen = std::get<KeyOpened>(std::move(reply)); });
    });
    ASSERT_TRUE(test::run_until(database_->loop(), [&] { return answered && seen; }));
    EXPECT_FALSE(seen->owner);
    EXPECT_EQ(ask<KeyOpened>(KeyFind{key, 1min}).row->answer.has_value(),
              seen->row->answer.has_value());
  }
}

TEST_P(Database, AnOldKeyWhoseCallRunsStays) {
  join(kAnn);
  EXPECT_TRUE(ask<KeyOpened>(KeyOpen{"k", 1, kAnn, 100, 1min, std::nullopt}).done);
  database_->pass(120s);
  EXPECT_TRUE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
  EXPECT_FALSE(ask<KeyOpened>(KeyOpen{"k", 1, kBob, 200, 1min, std::nullopt}).done);
  EXPECT_FALSE(ask<Written>(KeyDrop{"k", 99}).done);
  EXPECT_TRUE(ask<Written>(KeyDrop{"k", 100}).done);
  EXPECT_FALSE(ask<KeyOpened>(KeyFind{"k", 1min}).row);
}

// ---- settings

TEST_P(Database, SettingsAreWrittenOverTheVersionThatWasSeen) {
  join(kAnn);
  const SettingsWritten refused = ask<SettingsWritten>(WriteSettings{{0, "mine"}});
  EXPECT_FALSE(refused.done);
  EXPECT_EQ(refused.settings.version, 1);
  EXPECT_EQ(refused.settings.text, "of ann");
  const auto replies = ask_all({WriteSettings{{1, "x"}}, WriteSettings{{1, "y"}}});
  EXPECT_EQ(count_done<SettingsWritten>(replies), 1);
  const SharedSettings now = ask<Beaten>(Beat{kAnn, 1, false}).settings;
  EXPECT_EQ(now.version, 2);
  EXPECT_EQ(now.text, std::get<SettingsWritten>(replies[0]).done ? "x" : "y");
}

INSTANTIATE_TEST_SUITE_P(, Database, testing::Values("model", "direct", "pooled"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace keelback::cluster
