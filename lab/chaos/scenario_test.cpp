#include "chaos/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "chaos/catalogue.h"
#include "chaos/plan.h"
#include "chaos/swarm.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr std::string_view kGood = R"(
name = "mine"
why = "a worker dies"
[settings.pool]
workers = 3
[load]
rate = 100
ramp = "1s"
mix = { echo = 1.0, chain = 2.0 }
[[fault]]
id = "k"
class = "proc.kill"
target = "busy"
at = "500ms"
[levels.heavy]
"load.rate" = 300
"fault.k.times" = 3
"fault.k.every" = "400ms"
)";

ParsedScenario parse(std::string text, Level level = Level::kMedium) {
  return parse_scenario(text, level, library_text, "test");
}
std::string with(std::string_view from, std::string_view to) {
  std::string text(kGood);
  text.replace(text.find(from), from.size(), to);
  return text;
}
std::vector<std::string> errors(const std::string& text) {
  std::vector<std::string> out;
  for (const Finding& finding : parse(text).findings) out.push_back(describe(finding));
  return out;
}

TEST(Scenario, ReadsWhatItSaysAndAppliesTheLevel) {
  const auto medium = parse(std::string(kGood));
  ASSERT_TRUE(medium.ok()) << describe(medium.findings.at(0));
  EXPECT_EQ(medium.scenario->load.rate, 100);
  EXPECT_EQ(medium.scenario->settings.pool.workers, 3U);
  EXPECT_EQ(medium.scenario->faults.at(0).times, 1U);
  const auto heavy = parse(std::string(kGood), Level::kHeavy);
  ASSERT_TRUE(heavy.ok());
  EXPECT_EQ(heavy.scenario->load.rate, 300);
  EXPECT_EQ(heavy.scenario->faults.at(0).times, 3U);
  EXPECT_EQ(heavy.scenario->faults.at(0).every, 400ms);
}

TEST(Scenario, ItsCompleteTextReadsAsTheSameScenario) {
  const auto first = parse(std::string(kGood), Level::kHeavy);
  ASSERT_TRUE(first.ok());
  const auto second = parse_scenario(first.scenario->text, Level::kHeavy, nullptr, "again");
  ASSERT_TRUE(second.ok()) << describe(second.findings.at(0));
  EXPECT_EQ(second.scenario->text, first.scenario->text);
  EXPECT_EQ(second.scenario->faults.at(0).times, 3U);
}

TEST(Scenario, ExtendsAnotherOneAndOverridesIt) {
  const auto made = parse("name = \"x\"\nextends = \"worker-kill\"\n[load]\nrate = 99\n");
  ASSERT_TRUE(made.ok()) << describe(made.findings.at(0));
  EXPECT_EQ(made.scenario->name, "x");
  EXPECT_EQ(made.scenario->load.rate, 99);
  EXPECT_EQ(made.scenario->faults.at(0).fault_class, "proc.kill");
  EXPECT_THAT(errors("name = \"x\"\nextends = \"nobody\"\n"),
              Contains(HasSubstr("there is no scenario 'nobody'")));
}

// Goal: a word that is not known is an error that names the nearest; never a threshold that
// silently does not count.
TEST(Scenario, UnknownWordsAreErrorsThatNameTheNearest) {
  EXPECT_THAT(errors(with("rate = 100", "rat = 100")), Contains(HasSubstr("did you mean rate")));
  EXPECT_THAT(errors(with("proc.kill", "proc.kil")), Contains(HasSubstr("did you mean proc.kill")));
  EXPECT_THAT(errors(with("workers = 3", "worker = 3")), Contains(HasSubstr("pool.workers")));
  EXPECT_THAT(errors(with("[load]", "[during]\nokay = 0.5\n[load]")), Contains(HasSubstr("okay")));
  EXPECT_THAT(errors(with("\"busy\"", "\"busi\"")), Contains(HasSubstr("target")));
  EXPECT_THAT(errors(std::string(kGood) + "\"fault.x.times\" = 2\n"),
              Contains(HasSubstr("names nothing that is there")));
  EXPECT_THAT(errors(with("[load]", "[check]\nuse = [\"I99\"]\n[load]")),
              Contains(HasSubstr("there is no invariant 'I99'")));
  EXPECT_THAT(errors(with("[load]", "[expect]\nnever = [\"worker_dead\"]\n[load]")),
              Contains(HasSubstr("did you mean worker_died")));
}

TEST(Scenario, WhatCouldProveNothingIsRefused) {
  EXPECT_THAT(errors("name=\"a\"\nwhy=\"b\"\n"), Contains(HasSubstr("nothing would be tested")));
  EXPECT_THAT(errors(with("[load]", "[check]\nuse = []\n[load]")),
              Contains(HasSubstr("nothing would be asserted")));
  EXPECT_THAT(errors(with("[load]", "[baseline]\nfor = \"0s\"\n[load]")),
              Contains(HasSubstr("no positive control")));
  EXPECT_THAT(errors(with("rate = 100", "rate = 2")), Contains(HasSubstr("say nothing")));
  EXPECT_THAT(errors(with("echo = 1.0, chain = 2.0", "")), ::testing::SizeIs(0))
      << "an empty mix is the default one";
  EXPECT_THAT(errors(with("at = \"500ms\"", "on = \"rung(z, respawn)\"")),
              Contains(HasSubstr("can never happen")));
  EXPECT_THAT(errors(with("at = \"500ms\"", "on = \"rung(k, respawn)\"")),
              Contains(HasSubstr("can never happen")));
  EXPECT_THAT(errors(with("proc.kill", "proc.stop")), Contains(HasSubstr("lasts until")));
  EXPECT_THAT(errors(with("at = \"500ms\"", "at = \"500ms\"\nfor = \"1s\"")),
              Contains(HasSubstr("means nothing")));
  EXPECT_THAT(errors(with("\"busy\"", "\"slot=4\"")), Contains(HasSubstr("slots 1 to 3")));
  EXPECT_THAT(errors(with("\"busy\"", "\"slot=0\"")), Contains(HasSubstr("slots 1 to 3")));
  EXPECT_THAT(errors(with("at = \"500ms\"", "at = \"500ms\"\ntimes = 3")),
              Contains(HasSubstr("every")));
}

TEST(Scenario, AfterIsAPromiseThatCannotBeSetAside) {
  EXPECT_THAT(errors(with("[load]", "[after]\nmargin = 0.5\n[load]")),
              Contains(HasSubstr("after.margin")));
}

// Goal: all that ships is sound at every level, covers every fault class, and the ancestor's eight
// are there.
TEST(Library, EveryScenarioIsSoundAtEveryLevelAndEveryClassIsCovered) {
  std::set<std::string> classes;
  int ancestors = 0;
  for (const std::string& name : library_names()) {
    for (const Level level : {Level::kLight, Level::kMedium, Level::kHeavy}) {
      const auto parsed = parse(*library_text(name), level);
      ASSERT_TRUE(parsed.ok()) << name << ": " << describe(parsed.findings.at(0));
      EXPECT_THAT(parsed.findings, ::testing::IsEmpty()) << name;
      EXPECT_EQ(parsed.scenario->name, name);
      for (const FaultSpec& fault : parsed.scenario->faults) classes.insert(fault.fault_class);
      if (level == Level::kMedium) {
        ancestors += static_cast<int>(std::ranges::count(parsed.scenario->tags, "ancestor"));
      }
    }
  }
  EXPECT_GE(library_names().size(), 25U);
  EXPECT_EQ(ancestors, 8);
  for (const FaultClass& each : catalogue())
    EXPECT_TRUE(classes.contains(std::string(each.name))) << each.name;
}

// Goal: whatever is drawn is a sound scenario, on every engine.
TEST(Swarm, EveryDrawnScenarioIsSound) {
  for (const Backend backend : {Backend::kSim, Backend::kFake, Backend::kPython}) {
    for (std::uint64_t seed = 1; seed <= 150; ++seed) {
      const std::string text = swarm_scenario(seed, backend);
      const auto parsed = parse(text);
      ASSERT_TRUE(parsed.ok()) << text << describe(parsed.findings.at(0));
      EXPECT_THAT(parsed.scenario->backends, Contains(backend)) << text;
    }
  }
}

TEST(Plan, TheSameSeedGivesTheSamePlanAndAnotherSeedAnotherOne) {
  const auto scenario = parse(std::string(kGood));
  const Plan one = make_plan(*scenario.scenario, {.seed = 7});
  EXPECT_EQ(hash(one), hash(make_plan(*scenario.scenario, {.seed = 7})));
  EXPECT_NE(hash(one), hash(make_plan(*scenario.scenario, {.seed = 8})));
}

TEST(Plan, ComesBackFromItsFileAsItWas) {
  for (const std::string& name : library_names()) {
    const auto scenario = parse(*library_text(name));
    const Plan plan = make_plan(*scenario.scenario, {.seed = 3});
    const auto back = plan_from_json(to_json_text(plan));
    ASSERT_TRUE(back) << back.error();
    EXPECT_EQ(hash(*back), hash(plan)) << name;
  }
  EXPECT_FALSE(plan_from_json("{"));
  EXPECT_FALSE(plan_from_json("{\"schema\": 2}"));
}

TEST(Plan, PhasesFollowEachOtherAndTheFaultsFitInto) {
  for (const std::string& name : library_names()) {
    const auto scenario = parse(*library_text(name));
    const Plan plan = make_plan(*scenario.scenario, {.seed = 3});
    EXPECT_LT(plan.phases.baseline, plan.phases.faults) << name;
    EXPECT_LT(plan.phases.recovery, plan.phases.end) << name;
    for (const Firing& firing : plan.firings) {
      EXPECT_LT(plan.phases.faults + firing.at, plan.phases.recovery) << name;
    }
    EXPECT_TRUE(std::ranges::is_sorted(plan.load, {}, &PlannedCall::at)) << name;
  }
}

// Goal: a fault's own calls are over before the recovery is judged, to the end of the kill ladder.
TEST(Plan, TheFaultPhaseWaitsForTheFaultsOwnCalls) {
  const auto held = parse(with("class = \"proc.kill\"\ntarget = \"busy\"",
                               "class = \"call.hold\"\nwith = { calls = 1, hold = \"30s\" }"));
  ASSERT_TRUE(held.ok()) << describe(held.findings.at(0));
  const Scenario& scenario = *held.scenario;
  const Plan plan = make_plan(scenario, {.seed = 3});
  EXPECT_GE(plan.phases.recovery - plan.phases.faults,
            500ms + scenario.load.deadline + scenario.settings.calls.grace + scenario.quiet);
  EXPECT_LT(plan.phases.recovery - plan.phases.faults, 30s) << "its deadline ends it";
}

// Goal: a ramp in steps is one: its parts are at a quarter, a half, three quarters and all of the
// rate, where a slope has an eighth, three eighths, … of it.
TEST(Plan, ARampInStepsHasSteps) {
  for (const std::uint32_t steps : {0U, 4U}) {
    const auto parsed = parse(with("rate = 100\nramp = \"1s\"",
                                   "rate = 4000\nramp = \"4s\"\nsteps = " + std::to_string(steps)));
    ASSERT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
    std::vector<double> seconds(4);
    for (const PlannedCall& call : make_plan(*parsed.scenario, {.seed = 3}).load) {
      if (call.at < 4s) ++seconds.at(static_cast<std::size_t>(call.at / 1s));
    }
    for (std::size_t i = 0; i < 4; ++i) {
      const double share = (static_cast<double>(i) + (steps > 0 ? 1 : 0.5)) / 4;
      EXPECT_NEAR(seconds[i], 4000 * share, 250) << "second " << i << " of " << steps << " steps";
    }
  }
}

// Goal: nobody who thinks is asked meanwhile, and thinking takes no calls away.
TEST(Plan, ASessionThinksBetweenItsCalls) {
  const auto plan_of = [](const std::string& think) {
    const auto parsed =
        parse(with("ramp = \"1s\"", "ramp = \"1s\"\nsessions = 40\nzipf = 1.0" + think));
    EXPECT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
    return make_plan(*parsed.scenario, {.seed = 3});
  };
  const auto shortest = [](const Plan& plan) {
    std::map<std::string, Duration> last;
    Duration out = 1h;
    for (const PlannedCall& call : plan.load) {
      if (call.session.empty()) continue;
      if (last.contains(call.session)) out = std::min(out, call.at - last[call.session]);
      last[call.session] = call.at;
    }
    return out;
  };
  const Plan restless = plan_of(""), thinking = plan_of("\nthink = \"300ms\"");
  EXPECT_LT(shortest(restless), 300ms) << "else this shows nothing";
  EXPECT_GE(shortest(thinking), 300ms);
  EXPECT_NEAR(static_cast<double>(thinking.load.size()), static_cast<double>(restless.load.size()),
              3);
  EXPECT_TRUE(std::ranges::is_sorted(thinking.load, {}, &PlannedCall::at));
}

TEST(Check, StepsNeedARampAndThinkersMustBeEnough) {
  EXPECT_THAT(errors(with("ramp = \"1s\"", "steps = 4")),
              Contains(HasSubstr("load.steps: means nothing without load.ramp")));
  EXPECT_THAT(errors(with("ramp = \"1s\"", "sessions = 40\nthink = \"1s\"")),
              Contains(HasSubstr("make at most 40 calls a second; the mix wants 67")));
  EXPECT_TRUE(parse(with("ramp = \"1s\"", "sessions = 100\nthink = \"1s\"")).ok());
}

TEST(Check, ASpoiltDiskNeedsAStoreThatWritesToIt) {
  const std::string disk = "extends = \"store-disk-full\"\n[settings.sessions]\n";
  for (const char* nothing : {"snapshot = \"off\"\n", "store = \"memory\"\n"}) {
    EXPECT_THAT(errors(disk + nothing), Contains(HasSubstr("there is nothing to write")));
  }
  EXPECT_TRUE(parse(disk + "snapshot = \"on_drain\"\n").ok());
}

TEST(Check, FaultsOfNodesNeedNodesAndOthersNeedNone) {
  const std::string nodes = "[cluster]\nnodes = 3\n[settings.pool]\nworkers = 6\n";
  const auto with = [&](const std::string& more, const std::string& kind) {
    return parse(std::string("name = \"n\"\nwhy = \"w\"\n") +
                     (more.contains("[load]") ? "" : "[load]\nrate = 100\n") + more +
                     "[[fault]]\nid = \"k\"\nclass = \"" + kind + "\"\n" +
                     (kind == "node.kill" ? "for = \"1s\"\n" : ""),
                 Level::kMedium);
  };
  const auto sound = with(nodes, "node.kill");
  ASSERT_TRUE(sound.ok()) << describe(sound.findings.at(0));
  EXPECT_EQ(sound.scenario->nodes, 3U);
  EXPECT_EQ(sound.scenario->backends, std::vector{Backend::kPython});
  EXPECT_FALSE(with("", "node.kill").ok());
  EXPECT_FALSE(with(nodes, "proc.kill").ok());
  EXPECT_FALSE(with("[cluster]\nnodes = 1\n", "node.kill").ok());
  EXPECT_FALSE(with("[cluster]\nnodes = 3\n[settings.pool]\nworkers = 4\n", "node.kill").ok());
  EXPECT_FALSE(with(nodes + "[load]\nrate = 100\nmix = { sleep = 1 }\n", "node.kill").ok());
}

TEST(Check, WavesNeedAPoolThatGrows) {
  const std::string fixed = "extends = \"elastic-waves\"\n[settings.pool]\nworkers_max = 0\n";
  EXPECT_THAT(errors(fixed), Contains(HasSubstr("the pool cannot grow")));
}

// ---- the ratchet and the blast radius

// Goal: whoever promises less than the scenario that is extended says why, and it stays in the text
// that every report and replay is made from; promising more needs no words.
TEST(Ratchet, LoweringAThresholdNeedsAReasonThatStays) {
  const std::string base = "extends = \"worker-kill\"\n";
  EXPECT_TRUE(parse(base + "[during]\nok = 0.9\ncontrol_ok = 0.99\n").ok());
  const std::string lower = "[during]\nok = 0.5\n[after]\nwithin = \"9s\"\n";
  const auto all = errors(base + lower);
  EXPECT_THAT(all, Contains(HasSubstr("during.ok: 0.7, now 0.5")));
  EXPECT_THAT(all, Contains(HasSubstr("after.within: 5s, now 9s")));
  EXPECT_THAT(errors(base + "loosened = []\n" + lower), Contains(HasSubstr("say why")))
      << "it cannot be talked away";
  const auto told = parse(base + "reason = \"two workers only\"\n" + lower);
  ASSERT_TRUE(told.ok()) << describe(told.findings.at(0));
  EXPECT_EQ(told.scenario->loosened.size(), 2U);
  const auto again = parse(told.scenario->text);
  ASSERT_TRUE(again.ok()) << describe(again.findings.at(0));
  EXPECT_EQ(again.scenario->loosened, told.scenario->loosened);
  EXPECT_EQ(again.scenario->reason, "two workers only");
  // Whoever extends that one inherits what it gave up.
  const Lookup chain = [&](std::string_view name) -> std::optional<std::string> {
    return name == "lower" ? base + "reason = \"small\"\n" + lower : library_text(name);
  };
  const auto third = parse_scenario("extends = \"lower\"\n", Level::kMedium, chain, "test");
  ASSERT_TRUE(third.ok()) << describe(third.findings.at(0));
  EXPECT_EQ(third.scenario->reason, "small");
}

TEST(Ratchet, SeesEveryThreshold) {
  const std::string base = "extends = \"worker-kill\"\n";
  const std::pair<const char*, const char*> cases[] = {
      {"[baseline]\nok = 0.9\n", "baseline.ok"},
      {"[during]\ncontrol_ok = 0.5\n", "during.control_ok"},
      {"[after]\nmargin = 0.05\n", "after.margin"},
      {"[after]\np99_factor = 9\n", "after.p99_factor"},
      {"[expect]\nunexplained = 1\n", "expect.unexplained"},
      {"[recovery]\nverify = 1\n", "recovery.verify"},
      {"[check]\nuse = [\"I1\"]\n", "without I2"}};
  for (const auto& [text, name] : cases) {
    EXPECT_THAT(errors(base + text), Contains(HasSubstr(name))) << text;
  }
}

TEST(Blast, WhatHitsMoreWorkersThanAllowedIsFoundBeforeTheRun) {
  const std::string capped = std::string(kGood) + "[safety]\nslots_pct = 50\n";
  EXPECT_TRUE(parse(capped).ok());
  std::string two = capped;
  two.replace(two.find("\"busy\""), 6, "\"n=2\"");
  EXPECT_THAT(errors(two), Contains(HasSubstr("hits 2 of 3 workers; safety.slots_pct allows 1")));
}

}  // namespace
}  // namespace keelback::chaos
