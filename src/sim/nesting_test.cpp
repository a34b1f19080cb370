// Calls that simulated calls make: chains through workers, sessions and functions that run beside
// others, with and without workers that die.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "sim/simulation.h"

namespace keelback::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kSessions[] = {"", "", "", "ann", "bob"};

// relay() of relay() of … of echo(), each perhaps in a session and perhaps beside others.
std::string chain(Prng& prng, std::uint64_t depth) {
  std::string payload = R"({"value": 7})";
  std::string function = "echo";
  for (std::uint64_t i = 0; i < depth; ++i) {
    std::string outer = R"({"function": ")" + function + R"(", "arguments": )" + payload;
    const std::string session(kSessions[prng.below(std::size(kSessions))]);
    if (!session.empty()) outer += R"(, "session": ")" + session + '"';
    payload = outer + "}";
    function = prng.below(2) == 0 ? "relay" : "relay_together";
  }
  return payload;
}

class Chains {
 public:
  Chains(std::uint64_t seed, double die_running) : prng_(seed), sim_(options_of(die_running)) {
    for (std::uint64_t i = 0; i < 2 + prng_.below(10); ++i) {
      Call call;
      call.function = prng_.below(2) == 0 ? "relay" : "relay_together";
      call.payload = chain(prng_, 1 + prng_.below(4));
      call.session = kSessions[prng_.below(std::size(kSessions))];
      call.idempotent = prng_.below(2) == 0;
      const CallId id = sim_.submit(std::move(call), [this, i](Outcome&& outcome) {
        EXPECT_TRUE(outcomes_.emplace(i, std::move(outcome)).second);
      });
      if (prng_.below(8) == 0) cancels_.push_back(id);
    }
    for (const CallId call : cancels_) {
      sim_.at(sim_.now() + Duration(1000 * prng_.below(20'000)),
              [this, call] { sim_.cancel(call); });
    }
    // Nothing here takes long: what is left then has waited for itself.
    sim_.run_until(sim_.now() + 20s);
  }

  std::map<std::string, int> counts() const {
    std::map<std::string, int> counts;
    for (const auto& [which, outcome] : outcomes_) ++counts[std::string(to_string(outcome.kind))];
    return counts;
  }
  PoolStats stats() const { return sim_.stats(); }
  bool is_refusal_passed_on() const {
    for (const auto& [which, outcome] : outcomes_) {
      if (outcome.python && outcome.python->message.starts_with("overloaded (would_deadlock)")) {
        return true;
      }
    }
    return false;
  }

 private:
  Simulation::Options options_of(double die_running) {
    Simulation::Options options;
    options.seed = prng_.next();
    options.settings.pool.workers = static_cast<std::uint32_t>(1 + prng_.below(4));
    options.settings.breaker.failures = 0;
    options.settings.quarantine.deaths = 0;
    options.model.die_running = die_running;
    options.check_invariants = true;
    return options;
  }

  Prng prng_;
  std::map<std::uint64_t, Outcome> outcomes_;
  std::vector<CallId> cancels_;
  Simulation sim_;
};

TEST(SimulationNesting, AThousandRandomChainsEndOnceAndNoneWaitsForItself) {
  int ok = 0, refused = 0;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    const Chains chains(seed, 0);
    EXPECT_EQ(chains.stats().in_flight, 0u) << "seed " << seed;
    std::map<std::string, int> counts = chains.counts();
    EXPECT_EQ(counts["timeout"], 0) << "seed " << seed;
    ok += counts["ok"];
    refused += chains.is_refusal_passed_on();
  }
  EXPECT_GT(ok, 1000);
  EXPECT_GT(refused, 100);
}

TEST(SimulationNesting, NoChainIsLeftWhenWorkersDie) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Chains chains(seed, 0.05);
    EXPECT_EQ(chains.stats().in_flight, 0u) << "seed " << seed;
    std::map<std::string, int> counts = chains.counts();
    EXPECT_EQ(counts["timeout"], 0) << "seed " << seed;
  }
}

TEST(SimulationNesting, AChainHasTheResultOfItsLastCall) {
  Simulation::Options options;
  options.settings.pool.workers = 3;
  options.check_invariants = true;
  Simulation sim(options);
  std::optional<Outcome> outcome;
  sim.submit({.function = "relay",
              .payload = R"(["relay_together", {"function": "echo", "arguments": [[1, 2]]}])"},
             [&](Outcome&& ended) { outcome = std::move(ended); });
  ASSERT_TRUE(sim.run_while_not([&] { return outcome.has_value(); }, sim.now() + 20s));
  EXPECT_EQ(outcome->payload, "[1,2]") << outcome->message;
}

}  // namespace
}  // namespace keelback::sim
