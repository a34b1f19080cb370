// Functions of the program that Python code calls, by the public C++ API, on fake workers. Who is
// asked and when requests end is tested in tests/conformance.
#include <gtest/gtest.h>

#include <keelback/keelback.h>
#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace keelback {
namespace {

using namespace std::chrono_literals;

Pool start() {
  Config config("");
  EXPECT_TRUE(config.set("pool.backend", "fake"));
  EXPECT_TRUE(config.set("pool.workers", "2"));
  auto pool = Pool::start(std::move(config));
  EXPECT_TRUE(pool) << pool.error().message;
  EXPECT_TRUE(pool->wait_ready(60s));
  return std::move(*pool);
}

Call ask_host(std::string arguments = "[]", std::string session = {}) {
  Call call;
  call.function = "ask_host";
  call.payload = R"({"name":"lookup","arguments":)" + arguments + "}";
  call.session = std::move(session);
  return call;
}

// Keeps a request until the test has it.
struct Kept {
  std::promise<HostCall> promise;
  std::future<HostCall> future = promise.get_future();
  HostFunction function() {
    return [this](HostCall call) { promise.set_value(std::move(call)); };
  }
};

TEST(HostCalls, AFunctionAnswersAtOnceOrFails) {
  Pool pool = start();
  const ProviderHandle handle = pool.provide("lookup", [](HostCall call) {
    if (call.arguments == "[1]") {
      EXPECT_TRUE(call.fail("KeyError", "no 1"));
      EXPECT_FALSE(call.answer("1")) << "it has failed";
    } else {
      EXPECT_EQ(call.name, "lookup");
      EXPECT_TRUE(call.answer(call.arguments));
    }
  });
  const Result reply = pool.call(ask_host(R"({"key":"a"})"));
  ASSERT_TRUE(reply) << reply.error().describe();
  EXPECT_EQ(reply->payload, R"({"key":"a"})");
  const Result failed = pool.call(ask_host("[1]"));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().python->type, "keelback.CallFailed");
  EXPECT_EQ(failed.error().python->message, "error: KeyError: no 1");

  pool.withdraw(handle);
  pool.withdraw(handle);
  EXPECT_EQ(pool.call(ask_host()).error().python->type, "keelback.HostGone");
}

TEST(HostCalls, AnAnswerMayComeLaterAndFromAnotherThread) {
  Pool pool = start();
  Kept kept;
  pool.provide("lookup", kept.function());
  Submission submission = pool.submit(ask_host("[2]", "ann"));
  HostCall call = kept.future.get();
  EXPECT_EQ(call.call, submission.handle.id);
  EXPECT_EQ(call.session, "ann");
  EXPECT_GT(call.deadline, std::chrono::steady_clock::now());
  std::thread([call = std::move(call)]() mutable { EXPECT_TRUE(call.answer("[2]")); }).join();
  EXPECT_EQ(submission.result.get()->payload, "[2]");
}

// Goal: a request that the program loses ends for Python, and does not wait for its deadline.
TEST(HostCalls, OneThatIsDroppedIsGone) {
  Pool pool = start();
  pool.provide("lookup", [](HostCall) {});
  EXPECT_EQ(pool.call(ask_host()).error().python->type, "keelback.HostGone");
  Kept first;
  pool.provide("other", first.function());
  Call call = ask_host();
  call.payload = R"(["other"])";
  Submission submission = pool.submit(call);
  HostCall kept = first.future.get();
  HostCall empty = std::move(kept);
  kept = std::move(empty);
  kept = HostCall(nullptr);  // what it was is dropped
  EXPECT_EQ(submission.result.get().error().python->type, "keelback.HostGone");
}

TEST(HostCalls, AFunctionHearsThatNobodyWaitsAnyMore) {
  Pool pool = start();
  Kept kept;
  pool.provide("lookup", kept.function());
  Submission submission = pool.submit(ask_host());
  HostCall call = kept.future.get();
  std::promise<void> heard;
  call.on_cancel([] { ADD_FAILURE() << "another one took its place"; });
  call.on_cancel([&] { heard.set_value(); });
  EXPECT_TRUE(pool.cancel(submission.handle));
  heard.get_future().get();
  bool at_once = false;
  call.on_cancel([&] { at_once = true; });
  EXPECT_TRUE(at_once);
  EXPECT_FALSE(call.answer("1")) << "late";
  EXPECT_EQ(submission.result.get().error().kind, OutcomeKind::kCancelled);
}

// Goal: what is answered is never said to be cancelled.
TEST(HostCalls, AnAnsweredRequestIsNotCancelled) {
  Pool pool = start();
  pool.provide("lookup", [](HostCall call) {
    call.on_cancel([] { ADD_FAILURE() << "cancelled"; });
    EXPECT_TRUE(call.answer("1"));
  });
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(pool.call(ask_host()));
}

// Goal: a HostCall may outlive its pool, and answers that race with the end of the pool do no harm.
TEST(HostCalls, ItMayOutliveItsPool) {
  std::vector<HostCall> kept;
  std::atomic<bool> stop = false;
  std::thread answers;
  {
    Pool pool = start();
    std::promise<void> both;
    std::mutex mutex;
    pool.provide("lookup", [&](HostCall call) {
      const std::lock_guard lock(mutex);
      kept.push_back(std::move(call));
      if (kept.size() == 2) both.set_value();
    });
    static_cast<void>(pool.submit(ask_host()));
    static_cast<void>(pool.submit(ask_host()));
    both.get_future().get();
    answers = std::thread([&, call = std::move(kept[0])]() mutable {
      while (!stop) std::this_thread::yield();
      static_cast<void>(call.answer("1"));
    });
    stop = true;
  }
  answers.join();
  EXPECT_FALSE(kept[1].answer("1"));
}

}  // namespace
}  // namespace keelback
