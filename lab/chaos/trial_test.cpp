// Applications that really are broken, on real Python: the trial before a run finds each of them
// out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "chaos/application.h"
#include "chaos/lab.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct Tried {
  Trial trial;
  host::StartPath start;
  const AppFunction& function(const std::string& name) const {
    for (const AppFunction& each : trial.functions) {
      if (each.name == name) return each;
    }
    throw std::runtime_error("no function " + name);
  }
};

Tried try_application(const std::string& app) {
  std::string pattern = (std::filesystem::temp_directory_path() / "keelback-trial-XXXXXX").string();
  const std::string directory = ::mkdtemp(pattern.data());
  Scenario scenario;
  scenario.settings.pool.backend = Backend::kPython;
  scenario.settings.pool.workers = 2;
  scenario.settings.pool.min_ready = 2;
  scenario.settings.calls.grace = 300ms;
  scenario.load.deadline = 1s;
  Tried out;
  {
    auto world = make_world({.settings = scenario.settings,
                             .app = std::string(KEELBACK_SOURCE_DIR) + "/" + app,
                             .directory = directory,
                             .seed = 1});
    EXPECT_TRUE(world) << world.error();
    const auto never = [] { return false; };
    EXPECT_TRUE(wait_until_whole(**world, 2, 60s, never));
    out.trial = try_functions(**world, scenario,
                              choose_functions((*world)->application().get(), {}), never);
    out.start = (*world)->info().start;
  }
  std::filesystem::remove_all(directory);
  return out;
}

TEST(Trial, ASoundApplicationPassesAndItsWaysAreKnown) {
  const Tried tried = try_application("examples/counter.py");
  const AppFunction& count = tried.function("count");
  EXPECT_TRUE(count.called);
  EXPECT_TRUE(count.in_session);
  EXPECT_FALSE(count.stateless) << "it asks for its session";
  EXPECT_EQ(count.isolation, "holds") << count.isolation_witness;
  EXPECT_GT(count.growth_calls, 0U);
  EXPECT_LT(count.bytes_per_call, 64 << 10);
  const AppFunction& hello = tried.function("hello");
  EXPECT_TRUE(hello.stateless && hello.in_session && hello.idempotent);
  for (const CallEvent& call : tried.trial.calls) {
    EXPECT_EQ(call.outcomes, 1U);
    EXPECT_EQ(call.origin, "trial");
  }
}

TEST(Trial, StateInAGlobalIsSeenBySessionsThatShareAWorker) {
  const AppFunction add = try_application("tests/apps/broken/global_state.py").function("add");
  EXPECT_EQ(add.isolation, "shared");
  EXPECT_THAT(add.isolation_witness, HasSubstr("began with 4"));
}

TEST(Trial, StateUnderTheSessionsIdOutlivesTheSession) {
  const AppFunction count = try_application("tests/apps/broken/keyed_global.py").function("count");
  EXPECT_EQ(count.isolation, "outlives") << count.isolation_witness;
}

TEST(Trial, AHandlerThatSwallowsEverythingIsShownWithItsLine) {
  const Tried tried = try_application("tests/apps/broken/swallows.py");
  const AppFunction& work = tried.function("work");
  EXPECT_EQ(work.stops, "killed");
  EXPECT_THAT(work.source_witness, testing::StartsWith("swallows.py:"));
  EXPECT_THAT(work.source_witness, HasSubstr("`except:`"));
  EXPECT_THAT(work.stops_witness, HasSubstr("in work"));
  EXPECT_EQ(tried.function("hello").stops, "it always answered before a deadline could matter");
}

TEST(Trial, ALockThatAnInterruptLeavesHeldIsNamed) {
  const Tried tried = try_application("tests/apps/broken/keeps_lock.py");
  EXPECT_EQ(tried.function("book").stops, "stops");
  EXPECT_EQ(tried.function("book").held, "keeps_lock.ledger_lock");
  EXPECT_EQ(tried.function("tidy").stops, "stops") << "its workers are sound again";
  EXPECT_EQ(tried.function("tidy").held, "");
}

TEST(Trial, AFirstCallThatLoadsIsToldFromTheLaterOnes) {
  const Tried tried = try_application("tests/apps/broken/slow_first_call.py");
  const AppFunction& predict = tried.function("predict");
  EXPECT_GE(predict.first_calls, 2U) << "of each worker";
  EXPECT_GE(predict.first, 400ms);
  EXPECT_LT(predict.usual, predict.first);
}

TEST(Trial, ALeakIsMeasuredForTheFunctionThatHasIt) {
  const Tried tried = try_application("tests/apps/broken/leaks.py");
  EXPECT_NEAR(tried.function("remember").bytes_per_call / (1 << 20), 1.0, 0.1);
  EXPECT_NEAR(tried.function("look").descriptors_per_call, 1.0, 0.01);
  EXPECT_LT(tried.function("hello").bytes_per_call, 64 << 10);
  EXPECT_EQ(tried.function("hello").descriptors_per_call, 0);
}

TEST(Trial, ALongImportIsMeasured) {
  ::setenv("BROKEN_IMPORT_S", "1.5", 1);
  EXPECT_GE(try_application("tests/apps/broken/slow_import.py").start.import_s, 1.5);
}

// Goal: a run of what cannot start ends with the reason, and long before any limit: it is waited
// for until a few tries of each slot have failed, and once.
TEST(Trial, AnApplicationThatCannotBeImportedEndsTheRunWithTheReason) {
  auto scenario = parse_scenario(load_scenario("worker-kill")->text, Level::kLight,
                                 scenario_lookup(), "library");
  ASSERT_TRUE(scenario.ok());
  const auto begin = std::chrono::steady_clock::now();
  const auto result =
      run_scenario(std::move(*scenario.scenario),
                   {.app = std::string(KEELBACK_SOURCE_DIR) + "/tests/apps/broken/no_import.py",
                    .backend = Backend::kPython});
  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(result->judgement.verdict, Verdict::kAborted);
  EXPECT_THAT(result->judgement.why, HasSubstr("a_module_that_nobody_has"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kStartLimit);
}

}  // namespace
}  // namespace keelback::chaos
