// The public C++ API, on the simulator: what the wrapper adds (results, futures, pulled and pushed
// streams, configuration). What a pool does is tested in tests/conformance.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <keelback/keelback.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "simdriver/backend.h"

namespace keelback {
namespace {

const bool simulator = simdriver::register_backend();

using namespace std::chrono_literals;

Config simulated() {
  Config config("app.py");
  EXPECT_TRUE(config.set("pool.backend", "sim"));
  return config;
}

Pool start(Config config = simulated()) {
  auto pool = Pool::start(std::move(config));
  EXPECT_TRUE(pool) << pool.error().message;
  EXPECT_TRUE(pool->wait_ready(10s));
  return std::move(*pool);
}

Call ask(std::string function, std::string payload = "[]") {
  Call call;
  call.function = std::move(function);
  call.payload = std::move(payload);
  return call;
}

TEST(PublicPool, AReplyOrAFailureComesBack) {
  Pool pool = start();
  const Result reply = pool.call("echo", R"(["hi"])");
  ASSERT_TRUE(reply) << reply.error().describe();
  EXPECT_EQ(reply->payload, R"("hi")");
  EXPECT_GT(reply->worker.generation, 0u);
  EXPECT_EQ(reply->attempts, 1u);
  const Result failed = pool.call("fail", R"(["no luck"])");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, OutcomeKind::kError);
  EXPECT_EQ(failed.error().effect, Effect::kDone);
  ASSERT_TRUE(failed.error().python);
  EXPECT_EQ(failed.error().python->type, "ValueError");
  EXPECT_NE(failed.error().describe().find("error (effect done)"), std::string::npos);
  EXPECT_NE(failed.error().describe().find("no luck"), std::string::npos);
}

TEST(PublicPool, SubmittedCallsAnswerByFutureAndByCallback) {
  Pool pool = start();
  Submission submission = pool.submit(ask("echo", "[1]"));
  EXPECT_GT(submission.handle.id, 0u);
  EXPECT_EQ(submission.result.get()->payload, "1");
  std::promise<std::string> heard;
  pool.submit(ask("echo", "[2]"), [&](Result result) { heard.set_value(result->payload); });
  EXPECT_EQ(heard.get_future().get(), "2");
  // Both workers are busy, so the third call waits and a cancellation ends it at once.
  Submission busy[] = {pool.submit(ask("sleep", "[100]")), pool.submit(ask("sleep", "[100]"))};
  Submission waiting = pool.submit(ask("sleep", "[60000]"));
  EXPECT_TRUE(pool.cancel(waiting.handle));
  EXPECT_EQ(waiting.result.get().error().kind, OutcomeKind::kCancelled);
  EXPECT_FALSE(pool.cancel(waiting.handle));
  for (Submission& call : busy) EXPECT_TRUE(call.result.get());
}

TEST(PublicPool, APulledStreamIsReadToItsEndInOrder) {
  Pool pool = start();
  Stream stream = pool.stream(ask("items", "[100]"));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(stream.next(), std::to_string(i));
  EXPECT_EQ(stream.next(), std::nullopt);
  EXPECT_EQ(stream.next(), std::nullopt) << "over stays over";
  EXPECT_TRUE(stream.result());
  Stream single = pool.stream(ask("echo", "[7]"));
  EXPECT_EQ(single.next(), std::nullopt) << "a function that does not stream yields no item";
  EXPECT_EQ(single.result()->payload, "7");
}

TEST(PublicPool, AnAbandonedStreamIsCancelled) {
  Pool pool = start();
  {
    Stream stream = pool.stream(ask("items", "[1000000]"));
    EXPECT_EQ(stream.next(), "0");
  }
  Stream other = pool.stream(ask("items", "[1000000]"));
  EXPECT_EQ(other.next(), "0");
  other.cancel();
  EXPECT_EQ(other.result().error().kind, OutcomeKind::kCancelled);
  EXPECT_EQ(pool.stats().count(OutcomeKind::kCancelled), 2u);
}

TEST(PublicPool, PushedItemsFlowByThemselvesOrAsGranted) {
  Pool pool = start();
  std::atomic<int> items = 0;
  std::promise<Result> ended;
  pool.stream(
      ask("items", "[100]"), [&](std::string) { ++items; },
      [&](Result result) { ended.set_value(std::move(result)); });
  EXPECT_TRUE(ended.get_future().get());
  EXPECT_EQ(items, 100);

  std::atomic<int> granted = 0;
  std::promise<Result> over;
  std::promise<void> sixteen;
  const CallHandle call = pool.stream(
      ask("items", "[20]"),
      [&](std::string) {
        if (++granted == 16) sixteen.set_value();
      },
      [&](Result result) { over.set_value(std::move(result)); }, Pool::Flow::kGranted);
  sixteen.get_future().get();
  std::future<Result> end = over.get_future();
  EXPECT_EQ(end.wait_for(20ms), std::future_status::timeout) << "nothing more was granted";
  EXPECT_EQ(granted, 16);
  pool.grant(call, 4);
  EXPECT_TRUE(end.get());
  EXPECT_EQ(granted, 20);
}

TEST(PublicPool, ASessionKeepsItsStateAndCanBeFenced) {
  Pool pool = start();
  Session ann = pool.session("ann");
  const Result first = ann.call("count");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->payload, "1");
  EXPECT_EQ(first->epoch, 1u);
  EXPECT_EQ(pool.session("ann").call("count")->payload, "2");
  EXPECT_EQ(pool.session("bob").call("count")->payload, "1");
  ann.expect({first->birth, 1});
  EXPECT_TRUE(ann.call("peek"));
  EXPECT_EQ(pool.sessions().total, 2u);
  ASSERT_EQ(pool.sessions().items.size(), 2u);
  EXPECT_EQ(pool.sessions().items[0].id, "ann");
  EXPECT_EQ(pool.sessions({}, 1).next, "ann");
  EXPECT_EQ(pool.sessions("ann").items.at(0).id, "bob");
  EXPECT_TRUE(ann.end());
  EXPECT_FALSE(ann.end());
  EXPECT_FALSE(ann.call("peek")) << "the fence names a birth that is gone";
}

TEST(PublicPool, TheRuntimeTimeoutIsObeyed) {
  Config config = simulated();
  ASSERT_TRUE(config.set("sessions.idle_ttl", "5m"));
  Pool pool = start(std::move(config));
  Session ann = pool.session("ann");
  ASSERT_TRUE(ann.call("count"));
  ASSERT_TRUE(pool.configure("sessions.idle_ttl", "200ms"));
  EXPECT_EQ(pool.setting("sessions.idle_ttl"), "200ms");
  const auto until = std::chrono::steady_clock::now() + 10s;
  while (pool.stats().sessions.active > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(pool.sessions().total, 0u);
  EXPECT_EQ(pool.stats().sessions.expired, 1u);
  EXPECT_EQ(ann.call("peek").error().kind, OutcomeKind::kSessionExpired);
  ASSERT_TRUE(pool.configure("sessions.idle_ttl", "5m"));
  EXPECT_EQ(ann.call("count")->payload, "1");
}

TEST(PublicPool, LiveConfigurationIsAllOrNothing) {
  Pool pool = start();
  const auto refused = pool.configure({{"calls.retries", "3"}, {"sessions.idle_tll", "1s"}});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("sessions.idle_ttl"), std::string::npos)
      << "names the nearest: " << refused.error().message;
  EXPECT_EQ(pool.setting("calls.retries"), "1");
  EXPECT_FALSE(pool.configure("pool.backend", "python")) << "takes a restart";
  ASSERT_TRUE(pool.configure({{"calls.retries", "3"}, {"pool.workers", "4"}}));
  EXPECT_EQ(pool.setting("calls.retries"), "3");
  EXPECT_FALSE(pool.setting("no.such"));
  const auto until = std::chrono::steady_clock::now() + 10s;
  while (pool.workers().size() < 4 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(pool.workers().size(), 4u);
}

TEST(PublicPool, ADrainEndsThePoolAndAReloadRenewsIt) {
  Pool pool = start();
  std::uint32_t newest = 0;
  for (const WorkerStatus& worker : pool.workers()) {
    newest = std::max(newest, worker.worker.generation);
  }
  ASSERT_TRUE(pool.reload());
  const auto until = std::chrono::steady_clock::now() + 10s;
  while (pool.call("pid")->worker.generation <= newest) {
    ASSERT_LT(std::chrono::steady_clock::now(), until) << "the old code still serves";
  }
  EXPECT_FALSE(pool.recycle(99));
  EXPECT_TRUE(pool.recycle(pool.workers().at(0).worker.slot));
  Submission running = pool.submit(ask("sleep", "[50]"));
  pool.drain(10s);
  EXPECT_TRUE(running.result.get());
  EXPECT_EQ(pool.call("echo", "[1]").error().kind, OutcomeKind::kShuttingDown);
  EXPECT_TRUE(pool.stats().draining);
}

// Goal: an operator sees which requests are refused because they kill, and lets one run again.
TEST(PublicPool, AQuarantinedRequestIsListedAndReleased) {
  Config config = simulated();
  ASSERT_TRUE(config.set("quarantine.deaths", "2"));
  ASSERT_TRUE(config.set("calls.retries", "0"));
  Pool pool = start(std::move(config));
  const auto crash = [&pool] { return pool.call("crash", "[6]").error().kind; };
  EXPECT_TRUE(pool.quarantine().empty());
  EXPECT_EQ(crash(), OutcomeKind::kWorkerDied);
  EXPECT_EQ(crash(), OutcomeKind::kWorkerDied);
  EXPECT_EQ(crash(), OutcomeKind::kQuarantined);
  const std::vector<QuarantinedRequest> held = pool.quarantine();
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].function, "crash");
  EXPECT_EQ(held[0].session, "");
  EXPECT_EQ(held[0].deaths, 2u);
  EXPECT_GT(held[0].remaining, 0ns);
  EXPECT_FALSE(pool.release(held[0].fingerprint + 1)) << "no such request";
  EXPECT_TRUE(pool.release(held[0].fingerprint));
  EXPECT_FALSE(pool.release(held[0].fingerprint)) << "it is released";
  EXPECT_TRUE(pool.quarantine().empty());
  EXPECT_EQ(crash(), OutcomeKind::kWorkerDied);
}

TEST(PublicPool, TheApplicationSaysWhatItOffers) {
  Config config = simulated();
  config.expose({"greet"});
  Pool pool = start(std::move(config));
  bool greet = false;
  bool items = false;
  for (const FunctionInfo& function : pool.functions()) {
    greet |= function.name == "greet";
    EXPECT_EQ(function.interruptible, function.name == "nap") << function.name;
    if (function.name == "items") {
      items = function.stream;
      ASSERT_EQ(function.parameters.size(), 1u);
      EXPECT_EQ(function.parameters[0].name, "n");
    }
  }
  EXPECT_TRUE(greet);
  EXPECT_TRUE(items);
  EXPECT_EQ(pool.call("greet", R"(["Ada"])")->payload, R"("Ada")");
}

TEST(PublicPool, MovesWithItsSessions) {
  Pool pool = start();
  Session ann = pool.session("ann");
  EXPECT_TRUE(ann.call("count"));
  Pool moved = std::move(pool);
  EXPECT_EQ(ann.call("count")->payload, "2");
  EXPECT_EQ(moved.stats().accepted, 2u);
}

TEST(PublicConfig, TheLastWordWinsAndAMistakeChangesNothing) {
  const std::string path = testing::TempDir() + "keelback-config-" + std::to_string(getpid());
  std::ofstream(path) << "[pool]\nworkers = 3\n[calls]\nretries = 7\n";
  auto loaded = Config::from_file(path);
  ASSERT_TRUE(loaded) << loaded.error().message;
  Config config = *loaded;
  EXPECT_EQ(config.get("pool.workers"), "3");
  ASSERT_TRUE(config.set("pool.workers", "5"));
  EXPECT_EQ(config.get("pool.workers"), "5");
  EXPECT_EQ(loaded->get("pool.workers"), "3") << "a copy is a copy";
  setenv("KEELBACK_CALLS_RETRIES", "9", 1);
  setenv("KEELBACK_POOL_WORKERS", "8", 1);
  ASSERT_TRUE(config.use_environment());
  unsetenv("KEELBACK_CALLS_RETRIES");
  unsetenv("KEELBACK_POOL_WORKERS");
  EXPECT_EQ(config.get("calls.retries"), "9") << "over the file";
  EXPECT_EQ(config.get("pool.workers"), "5") << "under set()";
  EXPECT_FALSE(config.set("pool.workers", "many"));
  EXPECT_FALSE(config.set({{"pool.workers", "6"}, {"no.such", "1"}}));
  EXPECT_EQ(config.get("pool.workers"), "5");
  ASSERT_TRUE(config.set({{"pool.workers", "6"}, {"calls.retries", "1"}}));
  EXPECT_EQ(config.get("pool.workers"), "6");
  EXPECT_FALSE(Config::from_file(path + ".absent"));
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace keelback
