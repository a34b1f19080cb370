// Nodes of one cluster in one process: fake workers, a model of the database, hops by a function
// call. What the rules are is tested in cluster/; here it is what a caller sees.
#include "nodes/node_driver.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/reasons.h"
#include "host/host.h"
#include "os/clock.h"
#include "support/model_database.h"
#include "support/waiting.h"

namespace keelback::nodes {
namespace {

using namespace std::chrono_literals;
using test::stretch;

// The database of all nodes. Thread: any, under its lock.
struct SharedDatabase {
  std::mutex mutex;
  cluster::ModelDatabase model;
};

// One node's way to it. It can be cut: then nothing comes back, and nothing gets there.
class Line final : public cluster::Database {
 public:
  Line(boost::asio::io_context& loop, SharedDatabase& shared, std::shared_ptr<bool> cut)
      : loop_(loop), shared_(shared), cut_(std::move(cut)) {}
  void ask(cluster::Request request, Duration patience, OnReply done) override {
    if (*cut_) {
      auto timer = std::make_shared<boost::asio::steady_timer>(loop_, patience);
      timer->async_wait([timer, done = std::move(done)](const boost::system::error_code&) mutable {
        done(cluster::NoReply{false, "It is cut off."});
      });
      return;
    }
    cluster::Reply reply;
    {
      const std::lock_guard lock(shared_.mutex);
      reply = shared_.model.perform(os::monotonic_now(), request);
    }
    boost::asio::post(loop_, [reply = std::move(reply), done = std::move(done)]() mutable {
      done(std::move(reply));
    });
  }

 private:
  boost::asio::io_context& loop_;
  SharedDatabase& shared_;
  std::shared_ptr<bool> cut_;  // shared with the test
};

class Cluster;

// Hops by a function call. All nodes have one loop.
class LocalHops final : public Hops {
 public:
  explicit LocalHops(Cluster& cluster) : cluster_(cluster) {}
  std::uint64_t send(const std::string& url, const Call& call, host::OnItem item,
                     OnEnded ended) override;
  std::uint64_t end_session(const std::string& url, const std::string& session, Duration limit,
                            OnEnded ended) override;
  void grant(std::uint64_t hop, std::uint32_t items) override;
  void cancel(std::uint64_t hop) override;
  void give_up(std::uint64_t hop) override;

 private:
  Cluster& cluster_;
  std::map<std::uint64_t, std::pair<NodeDriver*, CallId>> hops_;
  // Shared by whatever ends the hop; the first one takes it.
  std::map<std::uint64_t, std::shared_ptr<OnEnded>> ended_;
  std::uint64_t last_ = 0;
};

class Cluster {
 public:
  explicit Cluster(SnapshotMode mode = SnapshotMode::kEachCall) {
    settings.pool.backend = Backend::kFake;
    settings.pool.workers = 1;
    settings.sessions.snapshot = mode;
    settings.cluster.store = "postgres://model";
    settings.cluster.lease = stretch() * 600ms;
    settings.calls.deadline = 20s;
  }
  ~Cluster() {
    while (!nodes.empty()) nodes.erase(nodes.begin());
  }

  NodeDriver& start(const std::string& name) {
    Settings own = settings;
    own.cluster.node = name;
    own.cluster.advertise = name;
    auto store = std::make_shared<ClusterStore>(loop.context());
    host::HostConfig host;
    host.loop = &loop;
    host.app = "standard";
    host.settings = own;
    host.store = store;
    auto inner = host::Host::start(std::move(host));
    EXPECT_TRUE(inner) << inner.error().message;
    NodeConfig config;
    config.loop = &loop;
    config.settings = own;
    config.seed = ++seed_;
    config.logger = spdlog::default_logger();
    config.store = store;
    config.inner = std::move(*inner);
    cut[name] = std::make_shared<bool>(false);
    config.database = std::make_unique<Line>(loop.context(), database, cut[name]);
    config.hops = std::make_unique<LocalHops>(*this);
    nodes[name] = std::make_unique<NodeDriver>(std::move(config));
    NodeDriver& node = *nodes[name];
    EXPECT_TRUE(test::eventually([&] {
      return node.cluster_status().phase == cluster::Phase::kMember &&
             node.cluster_status().may_start;
    })) << name
        << " is no member";
    return node;
  }
  // As SIGKILL does it: nobody else is told.
  void kill(const std::string& name) { nodes.erase(name); }

  static Outcome count(NodeDriver& node, const std::string& session, std::string key = {}) {
    Call call;
    call.function = "count";
    call.session = session;
    call.idempotency_key = std::move(key);
    return node.call(std::move(call));
  }
  static Outcome end(NodeDriver& node, const std::string& session) {
    os::Handover<Outcome> over;
    node.end_session(session, [&](Outcome&& outcome) { over.put(std::move(outcome)); });
    return over.take();
  }
  // As a client does that takes 503 for "later".
  static Outcome count_until_served(NodeDriver& node, const std::string& session) {
    Outcome last;
    EXPECT_TRUE(test::eventually([&] {
      last = count(node, session);
      return last.kind != OutcomeKind::kNotReady;
    })) << last.message;
    return last;
  }

  host::EventLoop loop;
  Settings settings;
  SharedDatabase database;
  std::map<std::string, std::shared_ptr<bool>> cut;
  std::map<std::string, std::unique_ptr<NodeDriver>> nodes;
  bool hops_broken = false;

 private:
  std::uint64_t seed_ = 0;
};

std::uint64_t LocalHops::send(const std::string& url, const Call& call, host::OnItem item,
                              OnEnded ended) {
  const std::uint64_t id = ++last_;
  const auto node = cluster_.nodes.find(url);
  if (node == cluster_.nodes.end() || !node->second || cluster_.hops_broken) {
    boost::asio::post(cluster_.loop.context(), [ended = std::move(ended)]() mutable {
      ended({std::nullopt, cluster::HopEnd::kNotConnected, "nobody listens there"});
    });
    return id;
  }
  ended_[id] = std::make_shared<OnEnded>(std::move(ended));
  auto done = [ended = ended_[id]](Outcome&& outcome) mutable {
    OnEnded once = std::exchange(*ended, nullptr);
    if (!once) return;
    if (outcome.reason == kNotOwner) {
      return once({std::nullopt, cluster::HopEnd::kNotOwner, "it does not own it"});
    }
    once({std::move(outcome), {}, {}});
  };
  hops_[id] = {node->second.get(),
               node->second->take_hop("test", call, std::move(item), std::move(done))};
  return id;
}
std::uint64_t LocalHops::end_session(const std::string& url, const std::string& session, Duration,
                                     OnEnded ended) {
  const auto node = cluster_.nodes.find(url);
  if (node == cluster_.nodes.end() || !node->second || cluster_.hops_broken) {
    boost::asio::post(cluster_.loop.context(), [ended = std::move(ended)]() mutable {
      ended({std::nullopt, cluster::HopEnd::kNotConnected, "nobody listens there"});
    });
    return ++last_;
  }
  node->second->take_hop_end(
      "test", session, [ended = std::move(ended)](Outcome&& outcome) mutable {
        if (outcome.reason == kNotOwner) {
          return ended({std::nullopt, cluster::HopEnd::kNotOwner, "it does not own it"});
        }
        ended({std::move(outcome), {}, {}});
      });
  return ++last_;
}
void LocalHops::grant(std::uint64_t hop, std::uint32_t items) {
  if (const auto found = hops_.find(hop); found != hops_.end()) {
    found->second.first->grant(found->second.second, items);
  }
}
void LocalHops::give_up(std::uint64_t hop) {
  boost::asio::post(cluster_.loop.context(), [ended = ended_.at(hop)] {
    OnEnded once = std::exchange(*ended, nullptr);
    if (once) once({std::nullopt, cluster::HopEnd::kBroken, "the node was retired"});
  });
}
void LocalHops::cancel(std::uint64_t hop) {
  if (const auto found = hops_.find(hop); found != hops_.end()) {
    static_cast<void>(found->second.first->cancel(found->second.second));
  }
}

// Goal: the node of a session's first call owns it, and calls that come to another one go there.
TEST(NodeDriver, ASessionLivesOnOneNode) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  const Outcome first = Cluster::count(a, "ann");
  ASSERT_EQ(first.kind, OutcomeKind::kOk) << first.message;
  EXPECT_EQ(first.payload, "1");
  const Outcome second = Cluster::count(b, "ann");
  EXPECT_EQ(second.payload, "2") << second.message;
  EXPECT_EQ(second.birth, first.birth);
  EXPECT_EQ(Cluster::count(a, "ann").payload, "3");
  EXPECT_EQ(b.cluster_status().counters.forwarded, 1U);
  EXPECT_EQ(b.info().stats.sessions.opened, 0U);
}

// Goal: a saved session goes on at another node when its own is dead, and loses nothing that was
// acknowledged.
TEST(NodeDriver, ASavedSessionOutlivesItsNode) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  const Outcome first = Cluster::count(a, "ann");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "2");
  cluster.kill("a");
  const Outcome moved = Cluster::count_until_served(b, "ann");
  EXPECT_EQ(moved.payload, "3") << moved.message;
  EXPECT_EQ(moved.birth, first.birth);
  EXPECT_GT(moved.epoch, first.epoch);
  EXPECT_EQ(Cluster::count(b, "ann").payload, "4");
}

// Goal: without snapshots a session dies with its node; its next caller hears that once.
TEST(NodeDriver, ASessionWithoutSnapshotsDiesWithItsNode) {
  Cluster cluster(SnapshotMode::kOff);
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "2");
  cluster.kill("a");
  EXPECT_EQ(Cluster::count_until_served(b, "ann").kind, OutcomeKind::kSessionLost);
  EXPECT_EQ(Cluster::count(b, "ann").payload, "1");
}

// Goal: a node that was away while another one took its session changes nothing, and tells its
// caller the truth.
TEST(NodeDriver, ANodeThatWasAwayTellsTheTruth) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  *cluster.cut.at("a") = true;
  cluster.hops_broken = true;
  const Outcome moved = Cluster::count_until_served(b, "ann");
  EXPECT_EQ(moved.payload, "2") << moved.message;
  cluster.hops_broken = false;
  *cluster.cut.at("a") = false;
  const Outcome back = Cluster::count_until_served(a, "ann");
  EXPECT_EQ(back.payload, "3") << "it went to b: " << back.message;
  EXPECT_EQ(a.cluster_status().counters.retired, 1U);
}

// Goal: with each_call nothing is acknowledged that is not stored: without the database a session's
// call is not_ready at once, and a call without a session goes on.
TEST(NodeDriver, WithoutTheDatabaseNothingIsAcknowledged) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  *cluster.cut.at("a") = true;
  ASSERT_TRUE(test::eventually([&] { return a.cluster_status().database_away; }));
  const Outcome refused = Cluster::count(a, "ann");
  EXPECT_EQ(refused.kind, OutcomeKind::kNotReady);
  EXPECT_EQ(refused.effect, Effect::kNone);
  Call echo;
  echo.function = "echo";
  echo.payload = "[7]";
  EXPECT_EQ(a.call(echo).payload, "7");
  *cluster.cut.at("a") = false;
  const Outcome again = Cluster::count_until_served(a, "ann");
  EXPECT_EQ(again.payload, "2") << again.message;
}

// A stream of a session whose database goes away before the stream ends.
Outcome stream_that_cannot_be_vouched_for(Cluster& cluster, NodeDriver& node) {
  Call call;
  call.function = "items";
  call.payload = "[40]";
  call.session = "ann";
  std::atomic<int> items = 0;
  os::Handover<Outcome> over;
  const CallId id = node.stream(
      call, [&](std::string&&) { ++items; },
      [&](Outcome&& outcome) { over.put(std::move(outcome)); });
  EXPECT_TRUE(test::eventually([&] { return items == 16; }));
  *cluster.cut.at("a") = true;
  node.grant(id, 40);
  Outcome outcome = over.take();
  *cluster.cut.at("a") = false;
  return outcome;
}

// Goal: an answer of which nobody can say whether it holds is not acknowledged: it is the same
// timeout, effect maybe, if a state had to be committed and if a stored one had to be given up. The
// state in memory is dropped.
TEST(NodeDriver, AnAnswerThatNobodyCanVouchForIsNotAcknowledged) {
  for (const bool marks : {false, true}) {
    Cluster cluster;
    NodeDriver& a = cluster.start("a");
    EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
    if (marks) {
      Settings changed = cluster.settings;
      changed.sessions.snapshot = SnapshotMode::kOnDrain;
      a.configure(changed);
      int probes = 0;
      ASSERT_TRUE(test::eventually([&] {
        const std::string probe = "probe-" + std::to_string(++probes);
        EXPECT_EQ(Cluster::count(a, probe).payload, "1");
        const std::lock_guard lock(cluster.database.mutex);
        return cluster.database.model.sessions().at(probe).exposed;
      })) << "the settings are in force";
    }
    const Outcome outcome = stream_that_cannot_be_vouched_for(cluster, a);
    EXPECT_EQ(outcome.kind, OutcomeKind::kTimeout) << marks << " " << outcome.message;
    EXPECT_EQ(outcome.effect, Effect::kMaybe) << marks;
    EXPECT_EQ(a.cluster_status().counters.commits_unknown, 1U) << marks;
    ASSERT_TRUE(test::eventually([&] { return !a.cluster_status().database_away; }));
    EXPECT_EQ(Cluster::count_until_served(a, "ann").payload, "2")
        << "restored from the row, which the lost write had not changed";
  }
}

// Goal: one key, one answer, whichever node is asked.
TEST(NodeDriver, AKeyHasOneAnswerInTheWholeCluster) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  Call call;
  call.function = "echo";
  call.payload = "[\"once\"]";
  call.idempotency_key = "k";
  EXPECT_EQ(a.call(call).payload, "\"once\"");
  EXPECT_EQ(b.call(call).payload, "\"once\"");
  call.payload = "[\"another\"]";
  EXPECT_TRUE(b.call(call).key_reused);
  EXPECT_EQ(Cluster::count(a, "ann", "s").payload, "1");
  EXPECT_EQ(Cluster::count(b, "ann", "s").payload, "1") << "the same answer";
  EXPECT_EQ(Cluster::count(b, "ann").payload, "2");
}

// Goal: a session ends wherever it is asked for, with the answers of one machine: at its owner, at
// another node, and in the database when its node is gone.
TEST(NodeDriver, ASessionIsEndedAtAnyNode) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  EXPECT_EQ(Cluster::end(b, "ann").kind, OutcomeKind::kOk);
  EXPECT_EQ(a.info().stats.sessions.ended, 1U);
  ASSERT_TRUE(test::eventually([&] {
    const std::lock_guard lock(cluster.database.mutex);
    return cluster.database.model.sessions().empty();
  }));
  EXPECT_EQ(Cluster::end(b, "ann").reason, kNoSession);
  EXPECT_EQ(Cluster::end(a, "ann").reason, kNoSession);
  EXPECT_EQ(Cluster::count(b, "ann").payload, "1") << "it is a new one";
  EXPECT_EQ(Cluster::end(b, "ann").kind, OutcomeKind::kOk) << "at its owner";
  EXPECT_EQ(Cluster::count(a, "bob").payload, "1");
  cluster.kill("a");
  Outcome last;
  ASSERT_TRUE(test::eventually([&] {
    last = Cluster::end(b, "bob");
    return last.kind != OutcomeKind::kNotReady;
  }));
  EXPECT_EQ(last.kind, OutcomeKind::kOk) << last.message;
  EXPECT_EQ(Cluster::count(b, "bob").payload, "1") << "its state went with it";
}

// Goal: a node that leaves gives its sessions away at once: nobody waits for a lease to pass.
TEST(NodeDriver, ADrainGivesSessionsAway) {
  Cluster cluster(SnapshotMode::kOnDrain);
  cluster.settings.cluster.lease = 1h;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  os::Handover<bool> over;
  a.drain(5s, [&] { over.put(true); });
  ASSERT_TRUE(over.wait(stretch() * 20s));
  cluster.kill("a");
  const Outcome moved = Cluster::count_until_served(b, "ann");
  EXPECT_EQ(moved.payload, "2") << moved.message;
}

// Goal: what a node shows of its cluster is what happened, on the loop's own thread too, where the
// server asks.
TEST(NodeDriver, ShowsItsCluster) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  EXPECT_EQ(Cluster::count(b, "ann").payload, "2");
  ASSERT_TRUE(test::eventually([&] { return a.cluster()->nodes.size() == 2; }));
  std::optional<host::ClusterInfo> info;
  cluster.loop.run([&] { info = a.cluster(); });
  ASSERT_TRUE(info);
  EXPECT_EQ(info->node, "a");
  EXPECT_EQ(info->phase, "member");
  EXPECT_TRUE(info->database_up);
  EXPECT_TRUE(info->serves_sessions);
  EXPECT_EQ(info->trouble, "");
  EXPECT_EQ(info->sessions, 1U);
  EXPECT_EQ(info->nodes[0].incarnation, info->incarnation);
  EXPECT_EQ(info->nodes[1].name, "b");
  EXPECT_EQ(info->nodes[1].url, "b");
  EXPECT_EQ(info->counters.claims, 1U);
  EXPECT_EQ(b.cluster()->counters.forwarded, 1U);
  *cluster.cut.at("a") = true;
  ASSERT_TRUE(test::eventually([&] { return !a.cluster()->database_up; }));
  EXPECT_EQ(a.cluster()->trouble, "It is cut off.");
  *cluster.cut.at("a") = false;
  ASSERT_TRUE(test::eventually([&] { return a.cluster()->database_up; }));
  EXPECT_EQ(a.cluster()->trouble, "");
}

// Goal: a stream and a cancel go over the hop.
TEST(NodeDriver, AStreamGoesOverTheHop) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  Call call;
  call.function = "items";
  call.payload = "[40]";
  call.session = "ann";
  std::mutex mutex;
  int items = 0;
  os::Handover<Outcome> over;
  std::atomic<std::uint64_t> id = 0;
  id = b.stream(
            call,
            [&](std::string&&) {
              ++items;
              b.grant(CallId{id}, 1);
            },
            [&](Outcome&& outcome) { over.put(std::move(outcome)); })
           .value;
  ASSERT_TRUE(over.wait(stretch() * 20s));
  EXPECT_EQ(over.take().kind, OutcomeKind::kOk);
  EXPECT_EQ(items, 40);
}

// Goal: a stream without a deadline does not wait for ever for an owner that is silent: it ends
// when the owner is retired, whatever TCP knows of it.
TEST(NodeDriver, AStreamEndsWhenItsOwnerIsRetired) {
  Cluster cluster;
  cluster.settings.calls.deadline = 1h;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  Call call;
  call.function = "items";
  call.payload = "[40]";
  call.session = "ann";
  std::atomic<int> items = 0;
  os::Handover<Outcome> over;
  b.stream(
      call, [&](std::string&&) { ++items; },
      [&](Outcome&& outcome) { over.put(std::move(outcome)); });
  ASSERT_TRUE(test::eventually([&] { return items == 16; }));
  *cluster.cut.at("a") = true;
  ASSERT_TRUE(over.wait(stretch() * 20s));
  const Outcome outcome = over.take();
  EXPECT_EQ(outcome.kind, OutcomeKind::kWorkerDied) << outcome.message;
  EXPECT_EQ(outcome.effect, Effect::kMaybe);
  EXPECT_EQ(b.cluster_status().counters.retired_others, 1U);
  EXPECT_EQ(Cluster::count_until_served(b, "ann").payload, "2");
  *cluster.cut.at("a") = false;
}

Call relay(const std::string& function, const std::string& arguments, const std::string& session) {
  Call call;
  call.function = "relay";
  call.payload = R"({"function":")" + function + R"(","arguments":)" + arguments +
                 R"(,"session":")" + session + R"("})";
  return call;
}

// Goal: a call that Python code makes into a session goes to the node that has it, as a client's.
TEST(NodeDriver, ANestedCallGoesToTheNodeOfItsSession) {
  for (const SnapshotMode mode : {SnapshotMode::kOff, SnapshotMode::kEachCall}) {
    Cluster cluster(mode);
    cluster.settings.pool.workers = 2;
    NodeDriver& a = cluster.start("a");
    NodeDriver& b = cluster.start("b");
    // With one worker up, it would run the relay and be the session's home.
    for (NodeDriver* node : {&a, &b}) {
      ASSERT_TRUE(test::eventually([&] { return node->info().stats.workers.ready == 2; }));
    }
    EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
    const Outcome there = b.call(relay("count", "[]", "ann"));
    EXPECT_EQ(there.payload, "2") << there.message;
    EXPECT_EQ(b.cluster_status().counters.forwarded, 1U);
    const Outcome here = a.call(relay("count", "[]", "ann"));
    EXPECT_EQ(here.payload, "3") << here.message;
    EXPECT_EQ(Cluster::count(a, "ann").payload, "4");
    EXPECT_EQ(b.call(relay("count", "[]", "new")).payload, "1") << "it is claimed as by a client";
    EXPECT_EQ(Cluster::count(a, "new").payload, "2");
  }
}

// Goal: a call that waits for itself is refused at once on its own node; over a hop nobody sees the
// circle, and the deadline ends it.
TEST(NodeDriver, ANestedCallThatWaitsForItselfEnds) {
  Cluster cluster;
  cluster.settings.pool.workers = 3;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  EXPECT_EQ(Cluster::count(b, "bob").payload, "1");
  Call own = relay("count", "[]", "ann");
  own.session = "ann";
  EXPECT_NE(a.call(own).message.find("would_deadlock"), std::string::npos);
  Call circle = relay("relay", relay("count", "[]", "bob").payload, "ann");
  circle.session = "bob";
  circle.deadline = stretch() * 300ms;
  EXPECT_NE(b.call(circle).kind, OutcomeKind::kOk);
  EXPECT_EQ(Cluster::count(b, "bob").payload, "2") << "bob was not counted, and goes on";
}

// Goal: the end of a parent cancels what it has asked of another node.
TEST(NodeDriver, ACancelledParentCancelsItsCallAtAnotherNode) {
  Cluster cluster;
  NodeDriver& a = cluster.start("a");
  NodeDriver& b = cluster.start("b");
  EXPECT_EQ(Cluster::count(a, "ann").payload, "1");
  os::Handover<Outcome> over;
  const CallId parent = b.submit(relay("sleep", "[60000]", "ann"),
                                 [&](Outcome&& outcome) { over.put(std::move(outcome)); });
  ASSERT_TRUE(test::eventually([&] { return a.info().stats.in_flight == 1; }));
  EXPECT_TRUE(b.cancel(parent));
  ASSERT_TRUE(over.wait(stretch() * 20s));
  EXPECT_EQ(over.take().kind, OutcomeKind::kCancelled);
  EXPECT_TRUE(test::eventually([&] { return a.info().stats.in_flight == 0; }));
}

}  // namespace
}  // namespace keelback::nodes
