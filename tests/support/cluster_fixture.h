// Nodes of a cluster over one model database, driven step by step.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "support/model_database.h"
#include "support/node_driver.h"

namespace keelback::cluster {

using namespace std::chrono_literals;

class ClusterTest : public testing::Test {
 protected:
  // Started and joined. Each call makes another incarnation.
  NodeDriver& start(const std::string& name) { return start(config_of(name)); }
  NodeDriver& start(Config config) {
    const std::string name = config.name;
    nodes.push_back(std::make_unique<NodeDriver>(database, now, std::move(config), ++seed));
    NodeDriver& node = *nodes.back();
    node.rules = rules;
    node.join();
    return node;
  }
  Config config_of(const std::string& name) const {
    Config config;
    config.name = name;
    config.url = "http://" + name;
    config.digest = "v1";
    config.settings = "settings";
    config.rules = rules;
    return config;
  }
  // All of these go on for so long, tick by tick; the others stand still.
  void run(Duration by, std::vector<NodeDriver*> running) {
    const Time until = now + by;
    while (now < until) {
      const Time next = std::min(until, now + 50ms);
      for (NodeDriver* node : running) node->run_until(next);
      now = next;
    }
  }
  const SessionRow& row(const std::string& session) const {
    return database.sessions().at(session);
  }

  Time now{};
  std::uint64_t seed = 100;
  Rules rules;
  ModelDatabase database;
  std::vector<std::unique_ptr<NodeDriver>> nodes;
};

// Each call's state is committed before its caller hears the answer.
class EachCallTest : public ClusterTest {
 protected:
  EachCallTest() { rules.commits_each_call = true; }
};

}  // namespace keelback::cluster
