#include "chaos/application.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chaos/checkers.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const Application kApplication = *parse_application(R"({"functions": [
  {"name": "chaos_echo", "params": [{"name": "value", "required": true}]},
  {"name": "count", "idempotent": false, "params": []},
  {"name": "peek", "idempotent": true, "params": [{"name": "depth", "required": false}]},
  {"name": "classify", "params": [{"name": "text", "required": true, "type": "str"}]},
  {"name": "tokens", "stream": true, "params": []}]})");

AppFunction function(std::string name) {
  return {.name = std::move(name),
          .payload = "[]",
          .called = true,
          .stateless = true,
          .in_session = true,
          .tried = 9,
          .usual = 1ms,
          .isolation = "holds",
          .stops = "stops",
          .growth_calls = 48};
}

// What the application's part of judging needs of a run.
struct Judged {
  History history;
  Scenario scenario;
  Plan plan;
  Judged() {
    scenario.settings.pool.workers = 4;
    scenario.after.within = 5s;
    scenario.load.rate = 100;
    scenario.load.calls = {{.function = "echo", .weight = 1}};
    plan.app = "app.py";
    plan.backend = Backend::kPython;
    history.facts.import_s = 0.2;
  }
  CheckInput input() const { return {history, scenario, plan}; }
};

TEST(ChooseFunctions, TakesThoseThatNeedNoArgumentsAndSaysWhyNotTheOthers) {
  const auto chosen = choose_functions(&kApplication, {});
  ASSERT_THAT(chosen, SizeIs(4)) << "the laboratory's own are left out";
  EXPECT_EQ(chosen[0].name, "count");
  EXPECT_THAT(chosen[0].why_not, IsEmpty());
  EXPECT_TRUE(chosen[1].idempotent);
  EXPECT_EQ(chosen[2].why_not, "it needs arguments: --call 'classify={\"text\": …}'");
  EXPECT_THAT(chosen[3].why_not, HasSubstr("streams"));
}

// Goal: an operator who names functions has said which may be called: a function may do anything.
TEST(ChooseFunctions, CallsOnlyTheNamedOnesOnceOneIsNamed) {
  const std::vector<LoadCall> named = {
      {.function = "classify", .payload = R"({"text": "hi"})", .own = true},
      {.function = "gone", .payload = "[]", .own = true}};
  const auto chosen = choose_functions(&kApplication, named);
  ASSERT_THAT(chosen, SizeIs(5));
  EXPECT_THAT(chosen[0].why_not, HasSubstr("not among"));
  EXPECT_EQ(chosen[2].payload, R"({"text": "hi"})");
  EXPECT_THAT(chosen[2].why_not, IsEmpty());
  EXPECT_EQ(chosen[4].why_not, "the application has no such function");
}

TEST(ChooseFunctions, WithoutAnApplicationThereAreNone) {
  EXPECT_THAT(choose_functions(nullptr, {}), IsEmpty());
}

TEST(LoadOfTheApplication, IsHalfOfAllCallsWhereItsFunctionsAreQuick) {
  const Judged run;
  double own = 0;
  for (const LoadCall& call : load_of({function("count")}, run.scenario)) own += call.weight;
  EXPECT_NEAR(own, 1.0, 1e-9) << "beside a weight of 1 for the laboratory's words";
}

TEST(LoadOfTheApplication, LeavesRoomWhereTheyAreSlow) {
  const Judged run;
  AppFunction slow = function("train");
  slow.usual = 1s;
  double own = 0;
  for (const LoadCall& call : load_of({slow}, run.scenario)) own += call.weight;
  // 4 workers have 4 seconds a second; two fifths of them are 1.6 calls of 100.
  EXPECT_NEAR(own / (1 + own), 0.016, 1e-6);
}

TEST(LoadOfTheApplication, CallsEachFunctionInTheWaysThatWork) {
  const Judged run;
  AppFunction session_only = function("count");
  session_only.stateless = false;
  AppFunction failing = function("broken");
  failing.called = false;
  const auto calls = load_of({session_only, failing}, run.scenario);
  ASSERT_THAT(calls, SizeIs(1));
  EXPECT_TRUE(calls[0].session);
  EXPECT_TRUE(calls[0].own);
}

TEST(ApplicationAdvice, AHealthyApplicationGetsNone) {
  Judged run;
  run.history.functions = {function("count")};
  EXPECT_THAT(application_advice(run.input()), IsEmpty());
  EXPECT_THAT(application_not_tested(run.input()), IsEmpty());
  for (const char* id : {"I27", "I28", "I29", "I30"}) {
    EXPECT_EQ(check(id, run.input()).status, Status::kHolds) << id;
  }
}

TEST(ApplicationAdvice, SharedStateIsNamedWithWhatWasSeenAndWhereItBelongs) {
  Judged run;
  AppFunction shared = function("add");
  shared.isolation = "shared";
  shared.isolation_witness = "session a began with 1; session b began with 4";
  run.history.functions = {shared};
  EXPECT_EQ(check("I27", run.input()).status, Status::kBroken);
  const auto advice = application_advice(run.input());
  ASSERT_THAT(advice, SizeIs(1));
  EXPECT_THAT(advice[0], HasSubstr("`add` lets sessions see each other's state"));
  EXPECT_THAT(advice[0], HasSubstr("session b began with 4"));
  EXPECT_THAT(advice[0], HasSubstr("keelback.session().state"));
}

TEST(ApplicationAdvice, AHandlerThatSwallowsEverythingIsShownByFileAndLine) {
  Judged run;
  AppFunction stubborn = function("work");
  stubborn.stops = "killed";
  stubborn.stops_witness = "File \"app.py\", line 14 in work";
  stubborn.source_witness = "app.py:16: `except:`";
  run.history.functions = {stubborn};
  EXPECT_EQ(check("I28", run.input()).status, Status::kBroken);
  const auto advice = application_advice(run.input());
  ASSERT_THAT(advice, SizeIs(1));
  EXPECT_THAT(advice[0], HasSubstr("`work` cannot be stopped"));
  EXPECT_THAT(advice[0], HasSubstr("line 14 in work"));
  EXPECT_THAT(advice[0], HasSubstr("app.py:16: `except:` catches everything"));
}

// Goal: a lock that stays held is named, and accuses only where the worker goes on serving with it.
TEST(ApplicationAdvice, ALockThatStaysHeldIsNamed) {
  Judged run;
  AppFunction book = function("book");
  book.held = "bank.ledger_lock";
  run.history.functions = {book};
  EXPECT_EQ(check("I28", run.input()).status, Status::kHolds) << "its worker is replaced";
  EXPECT_THAT(application_advice(run.input()).at(0),
              HasSubstr("`book` leaves bank.ledger_lock held when it is interrupted"));
  run.scenario.settings.calls.after_interrupt = AfterInterrupt::kKeep;
  EXPECT_EQ(check("I28", run.input()).status, Status::kBroken);
  EXPECT_THAT(check("I28", run.input()).witness, HasSubstr("bank.ledger_lock"));
  EXPECT_THAT(application_advice(run.input()).at(0), HasSubstr("calls.after_interrupt is keep"));
}

TEST(ApplicationAdvice, ASlowFirstCallIsToldWhereToLoad) {
  Judged run;
  AppFunction predict = function("predict");
  predict.first_calls = 4;
  predict.first = 1500ms;
  run.history.functions = {predict};
  ASSERT_THAT(application_advice(run.input()), SizeIs(1));
  EXPECT_THAT(application_advice(run.input())[0],
              HasSubstr("The first call of `predict` in a new worker takes 1500 ms"));
  EXPECT_THAT(application_advice(run.input())[0], HasSubstr("@keelback.setup"));
  predict.usual = 1400ms;
  run.history.functions = {predict};
  EXPECT_THAT(application_advice(run.input()), IsEmpty()) << "each call takes that long";
  predict.usual = 1ms;
  predict.first = 40ms;
  run.history.functions = {predict};
  EXPECT_THAT(application_advice(run.input()), IsEmpty()) << "nobody notices";
}

TEST(ApplicationAdvice, ALeakIsGivenInMebibytesACall) {
  Judged run;
  AppFunction leaky = function("remember");
  leaky.bytes_per_call = 1.02 * (1 << 20);
  leaky.descriptors_per_call = 1;
  run.history.functions = {leaky};
  EXPECT_EQ(check("I29", run.input()).status, Status::kBroken);
  EXPECT_THAT(application_advice(run.input()).at(0),
              HasSubstr("`remember` keeps 1.0 MiB of memory and 1 open file(s) a call"));
  leaky.bytes_per_call = 100 << 10;
  leaky.descriptors_per_call = 0;
  run.history.functions = {leaky};
  EXPECT_EQ(check("I29", run.input()).status, Status::kHolds) << "a cache that fills is no leak";
}

TEST(ApplicationAdvice, ALongImportIsMeasuredAgainstThePromise) {
  Judged run;
  run.history.facts.import_s = 30;
  EXPECT_EQ(check("I30", run.input()).status, Status::kBroken);
  EXPECT_THAT(application_advice(run.input()).at(0),
              HasSubstr("Importing the application takes 30.0 s"));
}

TEST(ApplicationNotTested, SaysWhatNoBackendButPythonRuns) {
  Judged run;
  run.plan.backend = Backend::kFake;
  EXPECT_THAT(application_not_tested(run.input()).at(0).what, HasSubstr("app.py"));
}

TEST(ApplicationNotTested, ListsEachQuestionThatHasNoAnswer) {
  Judged run;
  AppFunction random = function("dice");
  random.isolation = "its answers differ from worker to worker anyway";
  random.stops = "it always answered before a deadline could matter";
  random.growth_calls = 0;
  run.history.functions = {random};
  EXPECT_THAT(application_not_tested(run.input()), SizeIs(3));
}

// Goal: our files are known by where the package is. An application may lie below a directory of
// our name, as in every clone of this repository, and below one that is no ASCII.
TEST(LastFrame, IsOfTheApplicationWhereverThatLies) {
  const std::string dump =
      "Current thread 0x1 (most recent call first):\n"
      "  File \"/home/keel back \\xe9/\\u20ac\\U0001f40d/keelback/python/keelback/worker.py\", "
      "line 7 in run\n"
      "  File \"/usr/lib/python3.11/threading.py\", line 9 in wait\n"
      "  File \"/home/keel back \\xe9/\\u20ac\\U0001f40d/keelback/app.py\", line 12 in work\n";
  EXPECT_EQ(last_frame(dump, {"/other", "/home/keel back é/€🐍/keelback/python/keelback"}),
            "File \"/home/keel back \\xe9/\\u20ac\\U0001f40d/keelback/app.py\", line 12 in work");
  EXPECT_EQ(last_frame("  File \"/o\\udcff/keelback/a.py\", line 1 in f", {"/o\xff/keelback"}), "");
  EXPECT_EQ(last_frame("", {"/keelback"}), "");
}

}  // namespace
}  // namespace keelback::chaos
