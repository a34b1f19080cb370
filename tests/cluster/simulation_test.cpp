// The rules of a cluster under random trouble: nodes that die, stand still and are cut off, a
// database that restarts, replies that are lost, requests that take effect late. A failing run
// prints its seed; KEELBACK_SIM_SEED=n runs that one alone, KEELBACK_SIM_SEEDS=n as many as you
// have time for.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "base/check.h"
#include "cluster/model_cluster.h"

namespace keelback::cluster {
namespace {

using namespace std::chrono_literals;

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Every run draws its own kind of cluster.
ModelCluster::Options draw_options(std::uint64_t seed) {
  Prng prng(seed ^ 0xc1u);
  ModelCluster::Options options;
  options.seed = seed;
  options.nodes = 2 + prng.below(3);
  options.commits_each_call = prng.chance(0.5);
  if (options.commits_each_call && prng.chance(0.3)) options.unsavable = 0.05;
  options.lost_replies = prng.chance(0.3) ? 0.1 : 0.01;
  options.late_requests = prng.chance(0.3) ? 0.02 : 0.001;
  options.sessions = 2 + prng.below(6);
  return options;
}

struct Witness {
  std::map<std::string, std::uint64_t> seen;
  void add(const std::map<std::string, std::uint64_t>& more) {
    for (const auto& [what, times] : more) seen[what] += times;
  }
};

std::string first_of(const Ledger& ledger) {
  std::string out;
  for (std::size_t i = 0; i < ledger.wrongs.size() && i < 5; ++i) out += ledger.wrongs[i] + "\n";
  return out;
}

TEST(ClusterSimulation, HoldsItsPromisesUnderAnyTrouble) {
  set_unexpected_fatal(true);
  const std::uint64_t only = number_from("KEELBACK_SIM_SEED", 0);
  const std::uint64_t seeds = only ? 1 : number_from("KEELBACK_SIM_SEEDS", 100);
  Witness witness;
  for (std::uint64_t i = 0; i < seeds; ++i) {
    const std::uint64_t seed = only ? only : 1 + i;
    ModelCluster cluster(draw_options(seed));
    cluster.trouble(30s);
    cluster.heal(5s);
    witness.add(cluster.ledger.seen);
    ASSERT_TRUE(cluster.ledger.wrongs.empty()) << "KEELBACK_SIM_SEED=" << seed << "\n"
                                               << first_of(cluster.ledger);
  }
  for (const auto& [what, times] : witness.seen) {
    std::printf("%8llu %s\n", static_cast<unsigned long long>(times), what.c_str());
  }
  if (only) return;
  for (const char* what : {"421", "committed", "hop", "hop broke", "hop given up", "left",
                           "not connected", "opened anew", "session_lost done", "session_lost none",
                           "shutting_down none", "stored state taken away", "taken over", "told",
                           "vouched", "worker_died maybe", "ok done", "not_ready none"}) {
    EXPECT_GT(witness.seen[what], 0) << what << " never happened";
  }
}

TEST(ClusterSimulation, ASeedTellsTheSameStoryEachTime) {
  std::uint64_t first = 0;
  for (int i = 0; i < 2; ++i) {
    ModelCluster cluster(draw_options(7));
    cluster.trouble(10s);
    if (i == 0) first = cluster.trace();
    EXPECT_EQ(cluster.trace(), first);
  }
}

TEST(ClusterSimulation, ADatabaseThatWentBackIsNoticed) {
  ModelCluster::Options options;
  options.seed = 3;
  ModelCluster cluster(options);
  cluster.trouble(3s);
  cluster.run(10s);
  cluster.remember();
  for (int i = 0; i < 50; ++i) {
    cluster.call();
    cluster.run(100ms);
  }
  const std::uint64_t before = cluster.went_back();
  cluster.go_back();
  cluster.run(5s);
  EXPECT_GT(cluster.went_back(), before);
}

// ---- each promise is broken by a flaw, and the simulation finds that

class Flawed : public testing::Test {
 protected:
  // Some seed's first wrong that begins with these words.
  static void finds(const std::string& words, ModelCluster::Options options) {
    for (std::uint64_t seed = 1; seed <= 600; ++seed) {
      options.seed = seed;
      ModelCluster cluster(options);
      cluster.trouble(30s);
      for (const std::string& wrong : cluster.ledger.wrongs) {
        if (wrong.starts_with(words)) return;
      }
    }
    ADD_FAILURE() << "no seed finds \"" << words << "\"";
  }
};

TEST_F(Flawed, AStoreWithoutTheConditionLetsALostOwnerCommit) {
  ModelCluster::Options options;
  options.database.commits_anything = true;
  finds("lost owner: a commit", options);
  finds("rolled back", options);
}

TEST_F(Flawed, AClaimWithoutRetiringLetsTwoNodesServeASession) {
  ModelCluster::Options options;
  options.commits_each_call = false;
  options.database.retires_on_paper = true;
  finds("lost owner: an answer", options);
}

TEST_F(Flawed, AClaimThatDoesNotSeeWhatWasNotStoredRollsBack) {
  ModelCluster::Options options;
  options.commits_each_call = false;
  options.database.forgets_exposure = true;
  finds("rolled back", options);
}

TEST_F(Flawed, ALeaseByAClockThatStandsStillLetsALostOwnerAnswer) {
  ModelCluster::Options options;
  options.commits_each_call = false;
  options.clock_stops = true;
  finds("lost owner: an answer", options);
}

TEST_F(Flawed, AnAnswerWithoutALeaseIsOneOfALostOwner) {
  ModelCluster::Options options;
  options.commits_each_call = false;
  options.asks_nobody = true;
  finds("lost owner: an answer", options);
}

TEST_F(Flawed, AHopThatIsMadeAgainRunsACallTwice) {
  ModelCluster::Options options;
  options.retries_hops = true;
  finds("twice: call", options);
}

}  // namespace
}  // namespace keelback::cluster
