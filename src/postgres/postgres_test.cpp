// The connection and the database on real servers, and what is done to them. What every database of
// a cluster promises is in tests/conformance/database_test.cpp.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "postgres/answer_bytes.h"
#include "postgres/connection.h"
#include "postgres/database.h"
#include "support/database_under_test.h"

namespace keelback::postgres {
namespace {

using namespace std::chrono_literals;
using cluster::NoReply;
using cluster::Reply;
using testing::HasSubstr;
using testing::Not;

const cluster::Owner kAnn{"ann", 11};

class PostgresTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string missing;
    server_ = test::shared_postgres(missing);
    if (server_ == nullptr) GTEST_SKIP() << missing;
    static int made = 0;
    name_ = "own" + std::to_string(++made);
    server_->create(name_);
  }
  std::unique_ptr<PostgresDatabase> open(const std::string& url, Duration connect_limit = 5s) {
    auto opened = PostgresDatabase::open(loop_, {.url = url, .connect_limit = connect_limit},
                                         [this](bool up, const std::string& reason) {
                                           ++(up ? ups_ : downs_);
                                           if (!up) last_reason_ = reason;
                                         });
    EXPECT_TRUE(opened) << opened.error();
    return *std::move(opened);
  }
  Reply ask(cluster::Database& database, cluster::Request request, Duration patience = 30s) {
    return test::ask_and_wait(loop_, database, std::move(request), patience);
  }
  // The reason of a request that got no reply.
  std::string refused(cluster::Database& database, cluster::Request request) {
    const Reply reply = ask(database, std::move(request));
    const auto* none = std::get_if<NoReply>(&reply);
    EXPECT_TRUE(none != nullptr && none->surely_none);
    return none == nullptr ? "" : none->reason;
  }
  static cluster::Join a_join(const cluster::Owner& node = kAnn) {
    cluster::Join join;
    join.node.name = node.node;
    join.node.incarnation = node.incarnation;
    join.settings = "settings";
    return join;
  }
  static cluster::Claim a_claim(const std::string& session) {
    return {session, kAnn, 100, 1, {}, true, {}};
  }
  static cluster::Commit a_commit(const std::string& session, std::uint64_t after) {
    cluster::Commit commit;
    commit.session = session;
    commit.birth = 1;
    commit.epoch = 1;
    commit.token = 100;
    commit.after = after;
    commit.number = after + 1;
    commit.state =
        cluster::State{1, std::make_shared<const std::string>(std::to_string(after + 1))};
    commit.owner = kAnn;
    return commit;
  }
  bool joined(const Reply& reply) {
    const auto* join = std::get_if<cluster::Joined>(&reply);
    return join != nullptr && join->done;
  }
  std::string url() { return server_->url(name_); }

  test::Postgres* server_ = nullptr;
  std::string name_;
  boost::asio::io_context loop_;
  int ups_ = 0, downs_ = 0;
  std::string last_reason_;
};

// ---- tables

TEST_F(PostgresTest, NodesThatStartAtOnceMakeTheTablesOnce) {
  std::vector<std::unique_ptr<PostgresDatabase>> nodes;
  int done = 0;
  for (std::uint64_t i = 0; i < 6; ++i) {
    nodes.push_back(open(i % 2 == 0 ? url() : server_->pooled_url(name_)));
    nodes.back()->ask(a_join({fmt::format("node{}", i), i + 1}), test::stretch() * 30s,
                      [&](Reply reply) { done += joined(reply) ? 1 : 100; });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return done >= 6; }));
  EXPECT_EQ(done, 6);
  EXPECT_EQ(server_->query(name_, "SELECT count(*) FROM keelback.nodes"), "6\n");
}

TEST_F(PostgresTest, TablesOfTheNextVersionAreGoodAndLaterOnesAreNot) {
  auto database = open(url());
  EXPECT_TRUE(joined(ask(*database, a_join())));
  server_->query(name_,
                 fmt::format("UPDATE keelback.version SET version = {}", cluster::kSchema + 1));
  const Reply next = ask(*database, a_join());
  EXPECT_TRUE(joined(next));
  EXPECT_EQ(std::get<cluster::Joined>(next).tables, cluster::kSchema + 1);
  server_->query(name_,
                 fmt::format("UPDATE keelback.version SET version = {}", cluster::kSchema + 2));
  EXPECT_THAT(refused(*database, a_join()),
              HasSubstr(fmt::format("are of version {}", cluster::kSchema + 2)));
}

TEST_F(PostgresTest, ABeatInAnotherDatabaseMakesTablesAndSaysThatNobodyIsThere) {
  auto database = open(url());
  EXPECT_TRUE(joined(ask(*database, a_join())));
  server_->query(name_, "DROP SCHEMA keelback CASCADE");
  const Reply reply = ask(*database, cluster::Beat{kAnn, 1, false});
  ASSERT_TRUE(std::holds_alternative<cluster::Beaten>(reply));
  EXPECT_FALSE(std::get<cluster::Beaten>(reply).done);
  EXPECT_TRUE(std::get<cluster::Beaten>(reply).nodes.empty());
  EXPECT_TRUE(joined(ask(*database, a_join())));
}

TEST_F(PostgresTest, ADatabaseThatIsNotInUtf8IsRefused) {
  server_->query("postgres", fmt::format("CREATE DATABASE {0}_latin OWNER keelback ENCODING "
                                         "'LATIN1' TEMPLATE template0 LOCALE 'C'",
                                         name_));
  auto database = open(server_->url(name_ + "_latin"));
  EXPECT_THAT(refused(*database, a_join()), HasSubstr("LATIN1"));
}

// ---- what the server may lose

TEST_F(PostgresTest, ANodeHearsWhatTheServerMayLose) {
  const auto facts = [this] {
    auto database = open(url());
    const Reply reply = ask(*database, a_join());
    EXPECT_TRUE(joined(reply));
    return std::get<cluster::Joined>(reply).server;
  };
  server_->setting("fsync", "on");
  const cluster::ServerFacts safe = facts();
  EXPECT_TRUE(safe.fsync && safe.full_page_writes);
  EXPECT_EQ(safe.synchronous_commit, "on");
  EXPECT_EQ(safe.standbys + safe.synchronous_standbys, 0);
  EXPECT_THAT(server_->query(name_, "SELECT version()"), HasSubstr("PostgreSQL " + safe.version));
  server_->query("postgres",
                 fmt::format("ALTER DATABASE {} SET synchronous_commit = 'off'", name_));
  server_->setting("fsync", "off");
  server_->setting("full_page_writes", "off");
  const cluster::ServerFacts unsafe = facts();
  server_->setting("full_page_writes", "on");
  EXPECT_FALSE(unsafe.fsync || unsafe.full_page_writes);
  EXPECT_EQ(unsafe.synchronous_commit, "off");
}

TEST_F(PostgresTest, ARestartOfTheServerIsNoticed) {
  auto database = open(url());
  const Reply before = ask(*database, a_join());
  server_->restart();
  std::string started;
  EXPECT_TRUE(test::run_until(loop_, [&] {
    const Reply reply = ask(*database, cluster::Beat{kAnn, 1, false});
    if (const auto* beaten = std::get_if<cluster::Beaten>(&reply)) started = beaten->started;
    return !started.empty();
  }));
  EXPECT_NE(started, std::get<cluster::Joined>(before).server.started);
}

// ---- secrets

TEST_F(PostgresTest, NoMessageHasThePassword) {
  const std::string secret = "se%25cret-word";
  std::string wrong = url();
  wrong.replace(wrong.find(test::Postgres::kPassword), test::Postgres::kPassword.size(), secret);
  auto refusing = open(wrong);
  std::vector<std::string> told = {refused(*refusing, a_join())};
  EXPECT_TRUE(test::run_until(loop_, [&] { return !last_reason_.empty(); }));
  told.push_back(last_reason_);
  auto nowhere = open("postgres://keelback:" + secret + "@127.0.0.1:1/" + name_);
  told.push_back(refused(*nowhere, a_join()));
  auto nameless = open("postgres://keelback:" + secret + "@no-such-host.invalid/" + name_);
  told.push_back(refused(*nameless, a_join()));
  for (const std::string& bad :
       {"postgres://u:" + secret + "%zz@h/d", "postgres://u:x@h:" + secret,
        "postgres://u:p@" + secret + "@h/d", "postgres://u:p@h/" + secret + "/d@h",
        "http://" + secret, secret, "host=h password=" + secret}) {
    const auto opened = PostgresDatabase::open(loop_, {.url = bad}, nullptr);
    ASSERT_FALSE(opened);
    told.push_back(opened.error());
  }
  for (const std::string& each : told) {
    EXPECT_FALSE(each.empty());
    EXPECT_THAT(each, Not(HasSubstr("cret-word")));
  }
  EXPECT_THAT(told[0], HasSubstr("password authentication failed for user"));
  EXPECT_THAT(told[2], HasSubstr("refused"));
  EXPECT_THAT(told[3], HasSubstr("name cannot be resolved"));
}

// ---- commits that one statement takes

TEST_F(PostgresTest, ACommitThatTheServerRefusesCostsNoOther) {
  auto database = open(url());
  ASSERT_TRUE(joined(ask(*database, a_join())));
  for (const char* session : {"a", "b", "c", "d"}) ask(*database, a_claim(session));
  int done = 0;
  std::string reason;
  for (const char* session : {"a", "b", "c", "d"}) {
    cluster::Commit commit = a_commit(session, 0);
    if (*session == 'c') commit.digest = "\xff";  // no text in UTF-8
    database->ask(commit, test::stretch() * 30s, [&, session](Reply reply) {
      ++done;
      if (*session == 'c') {
        ASSERT_TRUE(std::holds_alternative<NoReply>(reply));
        EXPECT_TRUE(std::get<NoReply>(reply).surely_none);
        reason = std::get<NoReply>(reply).reason;
      } else {
        ASSERT_TRUE(std::holds_alternative<cluster::Written>(reply)) << session;
        EXPECT_TRUE(std::get<cluster::Written>(reply).done) << session;
      }
    });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return done == 4; }));
  EXPECT_THAT(reason, HasSubstr("encoding"));
}

TEST_F(PostgresTest, NobodyWaitsLongForALockWhoseOwnerIsCutOff) {
  auto database = open(url());
  ASSERT_TRUE(joined(ask(*database, a_join())));
  for (const char* session : {"a", "b"}) ask(*database, a_claim(session));
  server_->hold(name_, "SELECT FROM keelback.sessions WHERE session = 'a' FOR UPDATE");
  int done = 0;
  for (const char* session : {"a", "b"}) {
    database->ask(a_commit(session, 0), test::stretch() * 30s, [&, session](Reply reply) {
      ++done;
      if (*session == 'a') {
        ASSERT_TRUE(std::holds_alternative<NoReply>(reply));
        EXPECT_TRUE(std::get<NoReply>(reply).surely_none);
        EXPECT_THAT(std::get<NoReply>(reply).reason, HasSubstr("lock timeout"));
      } else {
        ASSERT_TRUE(std::holds_alternative<cluster::Written>(reply));
        EXPECT_TRUE(std::get<cluster::Written>(reply).done);
      }
    });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return done == 2; }));
  EXPECT_THAT(refused(*database, cluster::Release{"a", 1, 100, {}}), HasSubstr("lock timeout"));
  EXPECT_TRUE(std::holds_alternative<cluster::Found>(ask(*database, cluster::Find{"a"})))
      << "who only reads waits for no lock";
  server_->let_go();
  const Reply reply = ask(*database, a_commit("a", 0));
  EXPECT_TRUE(std::get<cluster::Written>(reply).done);
}

// ---- servers that go

// Sessions that commit one number after the other, whatever happens. Whose answer did not come
// reads where it stands, as a node does.
class Committing {
 public:
  Committing(cluster::Database& database, int sessions)
      : database_(database), acknowledged_(static_cast<std::size_t>(sessions), 0) {}

  void begin() {
    for (std::size_t i = 0; i < acknowledged_.size(); ++i) go_on(i);
  }
  void end() { ending_ = true; }
  bool idle() const { return under_way_ == 0; }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t each : acknowledged_) sum += each;
    return sum;
  }
  std::uint64_t acknowledged(std::size_t session) const { return acknowledged_[session]; }
  int unknown() const { return unknown_; }

 private:
  void go_on(std::size_t i) {
    if (ending_) return;
    cluster::Commit commit;
    commit.session = fmt::format("s{}", i);
    commit.birth = 1;
    commit.epoch = 1;
    commit.token = 100;
    commit.after = acknowledged_[i];
    commit.number = acknowledged_[i] + 1;
    commit.state = cluster::State{1, std::make_shared<const std::string>(2000, 'x')};
    commit.owner = kAnn;
    ++under_way_;
    database_.ask(commit, test::stretch() * 5s, [this, i](Reply reply) {
      --under_way_;
      if (const auto* written = std::get_if<cluster::Written>(&reply)) {
        EXPECT_TRUE(written->done) << "s" << i << " after " << acknowledged_[i];
        ++acknowledged_[i];
        return go_on(i);
      }
      if (!std::get<NoReply>(reply).surely_none) {
        ++unknown_;
        return read(i);
      }
      go_on(i);
    });
  }
  void read(std::size_t i) {
    ++under_way_;
    database_.ask(
        cluster::Find{fmt::format("s{}", i)}, test::stretch() * 5s, [this, i](Reply reply) {
          --under_way_;
          const auto* found = std::get_if<cluster::Found>(&reply);
          if (found == nullptr) return read(i);
          ASSERT_TRUE(found->row);
          EXPECT_GE(found->row->number, acknowledged_[i]) << "what was acknowledged is there";
          EXPECT_LE(found->row->number, acknowledged_[i] + 1);
          acknowledged_[i] = found->row->number;
          go_on(i);
        });
  }

  cluster::Database& database_;
  std::vector<std::uint64_t> acknowledged_;
  int under_way_ = 0, unknown_ = 0;
  bool ending_ = false;
};

class PostgresFaultTest : public PostgresTest, public testing::WithParamInterface<bool> {
 protected:
  static constexpr int kSessions = 40;
  // Commits go on, `fault` happens, commits go on.
  template <class Fault>
  void commit_through(Fault fault) {
    auto database = open(GetParam() ? server_->pooled_url(name_) : url());
    ASSERT_TRUE(joined(ask(*database, a_join())));
    for (int i = 0; i < kSessions; ++i) ask(*database, a_claim(fmt::format("s{}", i)));
    Committing committing(*database, kSessions);
    committing.begin();
    for (int round = 0; round < 3; ++round) {
      const std::uint64_t before = committing.total();
      EXPECT_TRUE(test::run_until(loop_, [&] { return committing.total() > before + 200; }));
      fault();
    }
    const std::uint64_t before = committing.total();
    EXPECT_TRUE(test::run_until(loop_, [&] { return committing.total() > before + 200; }))
        << "it comes back by itself";
    committing.end();
    EXPECT_TRUE(test::run_until(loop_, [&] { return committing.idle(); }));
    for (std::size_t i = 0; i < kSessions; ++i) {
      const Reply reply = ask(*database, cluster::Find{fmt::format("s{}", i)});
      ASSERT_TRUE(std::holds_alternative<cluster::Found>(reply));
      EXPECT_EQ(std::get<cluster::Found>(reply).row->number, committing.acknowledged(i));
    }
  }
};

TEST_P(PostgresFaultTest, ARestartInTheMidstLosesNothingThatWasAcknowledged) {
  commit_through([&] { server_->restart(); });
}

TEST_P(PostgresFaultTest, AKilledServerLosesNothingThatWasAcknowledged) {
  commit_through([&] {
    server_->kill();
    server_->start_again();
  });
}

// A server that stands still: what was asked has an answer in time, the loop goes on, and what was
// sent may still take effect.
TEST_P(PostgresFaultTest, AServerThatStandsStillHoldsNobodyUp) {
  auto database = open(GetParam() ? server_->pooled_url(name_) : url(), 2s);
  ASSERT_TRUE(joined(ask(*database, a_join())));
  ask(*database, a_claim("s"));
  server_->pause();
  std::vector<Reply> replies;
  const auto take = [&](Reply reply) { replies.push_back(std::move(reply)); };
  database->ask(a_commit("s", 0), 1s, take);
  database->ask(cluster::Find{"s"}, 1s, take);
  database->ask(cluster::Beat{kAnn, 1, false}, 1s, take);
  EXPECT_TRUE(test::run_until(loop_, [&] { return replies.size() == 3; })) << "it stands still";
  for (const Reply& each : replies) {
    ASSERT_TRUE(std::holds_alternative<NoReply>(each));
    EXPECT_FALSE(std::get<NoReply>(each).surely_none);
  }
  if (!GetParam()) {
    // A new connection is not taken either; then nothing is sent any more. (pgbouncer takes it.)
    EXPECT_TRUE(test::run_until(loop_, [&] { return downs_ >= 2; }));
    EXPECT_FALSE(refused(*database, cluster::Beat{kAnn, 1, false}).empty());
  }
  server_->resume();
  // What was sent before may take effect between a reading and the write after it.
  EXPECT_TRUE(test::run_until(loop_, [&] {
    const Reply reply = ask(*database, cluster::Find{"s"});
    const auto* found = std::get_if<cluster::Found>(&reply);
    if (found == nullptr || !found->row) return false;
    const Reply again = ask(*database, a_commit("s", found->row->number));
    const auto* written = std::get_if<cluster::Written>(&again);
    return written != nullptr && written->done;
  }));
}

INSTANTIATE_TEST_SUITE_P(, PostgresFaultTest, testing::Bool(),
                         [](const auto& each) { return each.param ? "pooled" : "direct"; });

// ---- the connection alone

TEST_F(PostgresTest, StatementsThatWaitAreBounded) {
  const auto libpq = load_libpq();
  ASSERT_TRUE(libpq);
  auto target = Target::parse(**libpq, url());
  ASSERT_TRUE(target);
  Connection connection(loop_, **libpq, *target, {.waiting_max = 2}, nullptr);
  std::vector<Ending> endings;
  for (int i = 0; i < 3; ++i) {
    connection.ask(Statement("SELECT 1"), test::stretch() * 30s,
                   [&](Result result) { endings.push_back(result.ending); });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return endings.size() == 3; }));
  EXPECT_EQ(endings, (std::vector{Ending::kNeverSent, Ending::kRows, Ending::kRows}));
}

TEST_F(PostgresTest, AStatementOverTheBoundGoesAlone) {
  const auto libpq = load_libpq();
  auto target = Target::parse(**libpq, url());
  ASSERT_TRUE(target);
  Connection connection(loop_, **libpq, *target, {.sent_max = 2, .sent_bytes_max = 1000}, nullptr);
  const std::string large(5 << 20, 'x');
  std::vector<std::size_t> sizes;
  for (int i = 0; i < 6; ++i) {
    Statement statement("SELECT $1");
    statement.text(i % 2 == 0 ? large : "small");
    connection.ask(std::move(statement), test::stretch() * 30s, [&](Result result) {
      ASSERT_EQ(result.ending, Ending::kRows) << result.reason;
      sizes.push_back(result.rows.text(0, 0).size());
    });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return sizes.size() == 6; }));
  EXPECT_EQ(sizes, (std::vector<std::size_t>{5 << 20, 5, 5 << 20, 5, 5 << 20, 5}));
}

TEST_F(PostgresTest, AnErrorInOneStatementIsNoneOfTheNext) {
  const auto libpq = load_libpq();
  auto target = Target::parse(**libpq, server_->pooled_url(name_));
  ASSERT_TRUE(target);
  Connection connection(loop_, **libpq, *target, {}, nullptr);
  std::vector<std::string> states;
  for (const char* sql : {"SELECT 1", "SELECT 1 / 0", "SELECT nonsense", "SELECT 1"}) {
    connection.ask(Statement(sql), test::stretch() * 30s, [&](Result result) {
      states.push_back(result.ending == Ending::kRows ? "rows" : result.sqlstate);
    });
  }
  EXPECT_TRUE(test::run_until(loop_, [&] { return states.size() == 4; }));
  EXPECT_EQ(states, (std::vector<std::string>{"rows", "22012", "42703", "rows"}));
}

// Names are resolved beside the loop, and of several addresses the next one is tried.
TEST_F(PostgresTest, TheNextServerOfTheUrlIsTried) {
  std::string several = url();
  const std::string own = fmt::format("127.0.0.1:{}", server_->port());
  several.replace(several.find(own), own.size(),
                  fmt::format("127.0.0.1:1,localhost:{}", server_->port()));
  auto database = open(several);
  EXPECT_TRUE(joined(ask(*database, a_join()))) << last_reason_;
}

// ---- bytes

TEST(AnswerBytes, AreReadBackAndNothingElseIs) {
  cluster::Answer answer;
  answer.key = "key";
  answer.fingerprint = 77;
  answer.kind = OutcomeKind::kTimeout;
  answer.effect = Effect::kMaybe;
  answer.message = "too late";
  const std::string bytes = to_bytes(answer);
  const auto read = answer_from(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, OutcomeKind::kTimeout);
  EXPECT_EQ(read->message, "too late");
  EXPECT_TRUE(answer_from(bytes + "of a later version"));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(answer_from(bytes.substr(0, size))) << size;
  }
  std::string other = bytes;
  other[0] = 9;
  EXPECT_FALSE(answer_from(other));
  other = bytes;
  other.replace(other.find("timeout"), 7, "timeoux");
  EXPECT_FALSE(answer_from(other)) << "an outcome that this version does not know";
}

}  // namespace
}  // namespace keelback::postgres
