// Calls on every driver: what comes back, errors, deadlines, cancellation, order, bounds, streams.
#include <atomic>
#include <thread>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {
namespace {

INSTANTIATE_TEST_SUITE_P(Backends, DriverTest, testing::ValuesIn(backends()),
                         [](const auto& chosen) {
                           return chosen.param == Backend::kSim    ? "sim"
                                  : chosen.param == Backend::kFake ? "fake"
                                                                   : "python";
                         });

TEST_P(DriverTest, ACallReturnsWhatTheFunctionReturned) {
  World world(GetParam());
  const Outcome outcome = world.call("echo", R"([{"name":"Ada"}])");
  EXPECT_OUTCOME(outcome, kOk, kDone);
  EXPECT_NE(outcome.payload.find("Ada"), std::string::npos);
  EXPECT_EQ(world.call("echo", R"({"value":12})").payload, "12") << "an object is keywords";
  EXPECT_GT(outcome.worker.generation, 0u);
  EXPECT_EQ(outcome.attempts, 1u);
  EXPECT_EQ(outcome.epoch, 0u) << "no session, no epoch";
  EXPECT_TRUE(outcome.message.empty());
}

TEST_P(DriverTest, AColdPoolQueuesAndAnswersEveryCall) {
  World world(GetParam());
  std::vector<Pending> calls;
  for (int i = 0; i < 20; ++i)
    calls.push_back(world.submit(ask("echo", "[" + std::to_string(i) + "]")));
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = world.wait(calls[i]);
    EXPECT_OUTCOME(outcome, kOk, kDone);
    EXPECT_EQ(outcome.payload, std::to_string(i)) << "each caller its own answer";
  }
}

TEST_P(DriverTest, BlockingCallersOnManyThreadsGetTheirOwnAnswers) {
  World world(GetParam());
  std::atomic<int> right = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string value = std::to_string(t * 100 + i);
        right += world.call("echo", "[" + value + "]").payload == value;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 200);
  EXPECT_EQ(world.count(OutcomeKind::kOk), 200u);
  EXPECT_TRUE(world.adds_up());
}

TEST_P(DriverTest, WhatTheFunctionRaisesComesBackWhole) {
  World world(GetParam());
  const Outcome outcome = world.call("fail", R"(["no luck"])");
  EXPECT_OUTCOME(outcome, kError, kDone);
  ASSERT_TRUE(outcome.python);
  EXPECT_EQ(outcome.python->type, "ValueError");
  EXPECT_EQ(outcome.python->message, "no luck");
  EXPECT_NE(outcome.python->traceback.find("ValueError"), std::string::npos);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
}

TEST_P(DriverTest, AResultThatCannotBeSentIsAnErrorOfTheFunction) {
  Settings small = settings();
  small.calls.payload_max = {4096};
  World world(GetParam(), small);
  EXPECT_OUTCOME(world.call("unserialisable"), kError, kDone);
  EXPECT_OUTCOME(world.call("blob", "[4094]"), kOk, kDone);
  EXPECT_OUTCOME(world.call("blob", "[4095]"), kError, kDone);
  const WorkerRef worker = world.call("pid").worker;
  EXPECT_LE(worker.generation, 2u) << "no worker was lost to it";
}

// Goal: the caller hears where arguments do not fit; HTTP makes 422 of it.
TEST_P(DriverTest, ArgumentsThatDoNotFitAreRefusedWithTheirPlace) {
  World world(GetParam());
  const Outcome fits = world.call("typed", "[7]");
  EXPECT_OUTCOME(fits, kOk, kDone);
  EXPECT_EQ(fits.payload, "7");
  const Outcome misfit = world.call("typed", "[\"7\"]");
  EXPECT_OUTCOME(misfit, kBadRequest, kNone);
  ASSERT_TRUE(misfit.python);
  EXPECT_EQ(misfit.python->type, "keelback.ValidationError");
  EXPECT_NE(misfit.python->errors.find(R"("loc":["n"])"), std::string::npos)
      << misfit.python->errors;
  EXPECT_EQ(http_status(misfit), 422);
  const Outcome missing = world.call("typed", "[]");
  EXPECT_OUTCOME(missing, kBadRequest, kNone);
  EXPECT_EQ(http_status(missing), 400);
}

TEST_P(DriverTest, WhatCannotBeCalledIsRefusedAndRunsNothing) {
  Settings small = settings();
  small.calls.payload_max = {1024};
  World world(GetParam(), small);
  world.warm();
  EXPECT_OUTCOME(world.call("nosuch"), kUnknownFunction, kNone);
  EXPECT_OUTCOME(world.call("echo"), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call("echo", "[1, 2]"), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call("echo", R"({"valeu": 1})"), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call("echo", "nonsense"), kBadRequest, kNone);
  EXPECT_OUTCOME(world.call("echo", "[\"" + std::string(1020, 'x') + "\"]"), kOk, kDone);
  EXPECT_OUTCOME(world.call("echo", "[\"" + std::string(1021, 'x') + "\"]"), kTooLarge, kNone);
  EXPECT_OUTCOME(world.call("counter", "[]", std::string(257, 's')), kBadRequest, kNone);
  EXPECT_EQ(world.stats().restarts, 0u);
  EXPECT_TRUE(world.adds_up());
}

TEST_P(DriverTest, ADeadlineEndsACallThatRuns) {
  World world(GetParam());
  world.warm();
  const WorkerRef before = world.call("pid").worker;
  Call call = ask("spin", "[60000]");
  call.deadline = 200ms;
  const Outcome outcome = world.call(call);
  EXPECT_OUTCOME(outcome, kTimeout, kMaybe);
  EXPECT_GE(outcome.queued + outcome.ran, 200ms);
  EXPECT_LE(outcome.queued + outcome.ran, 200ms + settings().calls.grace + 1s);
  EXPECT_EQ(world.stats().restarts, 0u) << "an interrupt was enough";
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  static_cast<void>(before);
}

TEST_P(DriverTest, AFunctionThatNothingStopsIsDumpedAndKilled) {
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  const WorkerRef before = world.call("pid").worker;
  Call call = ask("hold", "[60000]");
  call.deadline = 200ms;
  const Outcome outcome = world.call(call);
  EXPECT_OUTCOME(outcome, kTimeout, kMaybe);
  EXPECT_EQ(outcome.worker, before);
  EXPECT_TRUE(outcome.dump.empty()) << "its stacks are taken later";
  EXPECT_TRUE(world.until([&] { return world.driver().dump(CallId{outcome.call}).has_value(); }));
  const Outcome next = world.call("pid");
  EXPECT_OUTCOME(next, kOk, kDone);
  EXPECT_GT(next.worker.generation, before.generation) << "never handed out again";
  EXPECT_EQ(world.stats().restarts, 1u);
}

TEST_P(DriverTest, ADeadlineThatPassesInTheQueueRunsNothing) {
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  const Pending running = world.submit(ask("spin", "[1000]"));
  ASSERT_TRUE(world.running("spin"));
  Call late = ask("echo", "[1]");
  late.deadline = 50ms;
  EXPECT_OUTCOME(world.call(late), kTimeout, kNone);
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

TEST_P(DriverTest, ACancelledCallThatWaitsEndsAtOnce) {
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  const Pending running = world.submit(ask("spin", "[500]"));
  ASSERT_TRUE(world.running("spin"));
  const Pending waiting = world.submit(ask("echo", "[1]"));
  EXPECT_TRUE(world.driver().cancel(waiting.id()));
  EXPECT_OUTCOME(world.wait(waiting), kCancelled, kNone);
  EXPECT_FALSE(world.driver().cancel(waiting.id()));
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

TEST_P(DriverTest, ACancelledStreamStopsAndCostsNoWorker) {
  World world(GetParam());
  world.warm();
  const Pending stream = world.stream(ask("items", "[1000000]"));
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 16; }));
  EXPECT_TRUE(world.driver().cancel(stream.id()));
  EXPECT_OUTCOME(world.wait(stream), kCancelled, kMaybe);
  EXPECT_EQ(stream.items().size(), 16u);
  EXPECT_OUTCOME(world.call("echo", "[1]"), kOk, kDone);
  EXPECT_EQ(world.stats().restarts, 0u);
}

TEST_P(DriverTest, AStreamComesInOrderAndOnlyAsFarAsGranted) {
  World world(GetParam());
  const Pending stream = world.stream(ask("items", "[40]"));
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 16; }));
  world.pass(50ms);
  EXPECT_EQ(stream.items().size(), 16u) << "back-pressure";
  EXPECT_FALSE(stream.done());
  world.driver().grant(stream.id(), 4);
  ASSERT_TRUE(world.until([&] { return stream.items().size() == 20; }));
  world.driver().grant(stream.id(), 100);
  const Outcome end = world.wait(stream);
  EXPECT_OUTCOME(end, kOk, kDone);
  EXPECT_TRUE(end.payload.empty());
  const std::vector<std::string> items = stream.items();
  ASSERT_EQ(items.size(), 40u);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(items[i], std::to_string(i));
}

TEST_P(DriverTest, StreamsAndPlainFunctionsCanBeAskedEitherWay) {
  World world(GetParam());
  const Pending plain = world.stream(ask("echo", "[7]"));
  const Outcome single = world.wait(plain);
  EXPECT_OUTCOME(single, kOk, kDone);
  EXPECT_EQ(single.payload, "7");
  EXPECT_TRUE(plain.items().empty());
  const Outcome list = world.call("items", "[3]");
  EXPECT_OUTCOME(list, kOk, kDone);
  std::string compact;
  for (const char c : list.payload) {
    if (c != ' ') compact += c;
  }
  EXPECT_EQ(compact, "[0,1,2]");
}

TEST_P(DriverTest, TheQueueIsBoundedAndRefusesBeyond) {
  Settings tight = settings();
  tight.pool.workers = 1;
  tight.pool.queue_max = 2;
  World world(GetParam(), tight);
  world.warm();
  std::vector<Pending> taken = {world.submit(ask("spin", "[300]"))};
  ASSERT_TRUE(world.running("spin"));
  taken.push_back(world.submit(ask("echo", "[1]")));
  taken.push_back(world.submit(ask("echo", "[2]")));
  const Pending beyond = world.submit(ask("echo", "[3]"));
  const Outcome refused = world.wait(beyond);
  EXPECT_OUTCOME(refused, kOverloaded, kNone);
  EXPECT_TRUE(refused.retry_after);
  for (const Pending& call : taken) EXPECT_OUTCOME(world.wait(call), kOk, kDone);
}

TEST_P(DriverTest, UrgentCallsOvertakeOthersInTheQueue) {
  Settings one = settings();
  one.pool.workers = 1;
  World world(GetParam(), one);
  world.warm();
  const Pending running = world.submit(ask("spin", "[300]"));
  ASSERT_TRUE(world.running("spin"));
  Call low = ask("spin", "[50]");
  low.priority = Priority::kLow;
  Call high = ask("spin", "[50]");
  high.priority = Priority::kHigh;
  const Pending later = world.submit(low);
  const Pending sooner = world.submit(high);
  const Outcome first = world.wait(sooner);
  const Outcome second = world.wait(later);
  EXPECT_OUTCOME(first, kOk, kDone);
  EXPECT_OUTCOME(second, kOk, kDone);
  EXPECT_GT(second.queued, first.queued + 40ms) << "asked first, served second";
  EXPECT_OUTCOME(world.wait(running), kOk, kDone);
}

TEST_P(DriverTest, TheSameIdempotencyKeyGetsTheSameAnswer) {
  World world(GetParam());
  Call call = ask("counter", "[]", "ann");
  call.idempotency_key = "order-7";
  const Outcome first = world.call(call);
  const Outcome again = world.call(call);
  EXPECT_OUTCOME(first, kOk, kDone);
  EXPECT_OUTCOME(again, kOk, kDone);
  EXPECT_EQ(first.payload, "1");
  EXPECT_EQ(again.payload, "1") << "answered, not run";
  EXPECT_EQ(world.call("counter", "[]", "ann").payload, "2");
  Call other = ask("echo", "[1]");
  other.idempotency_key = "order-7";
  const Outcome refused = world.call(other);
  EXPECT_OUTCOME(refused, kBadRequest, kNone);
  EXPECT_TRUE(refused.key_reused);
  EXPECT_EQ(http_status(refused), 422);
  EXPECT_EQ(http_status(world.call("echo", R"({"no":"such"})")), 400) << "any other wrong request";
}

}  // namespace
}  // namespace keelback::test
