// Deadlines on real Python, with the defaults: the caller hears at the deadline whatever the call
// does; what runs on behind the answer costs what it must; an interrupted worker serves nobody.
#include <signal.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "host/host_fixture.h"

namespace keelback::host {
namespace {

constexpr const char* kDeadlineApp = R"py(
import asyncio, ctypes, os, socket, time
import keelback

@keelback.function
def echo(value):
    return value

@keelback.function
def pid():
    return os.getpid()

@keelback.function
def sleep(seconds):
    time.sleep(seconds)
    return "slept"

@keelback.function
def spin():
    while True:
        pass

@keelback.function(interruptible=True)
def spin_whole():
    while True:
        pass

@keelback.function
def hold_gil():
    lock = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)

@keelback.function
async def wait(seconds):
    await asyncio.sleep(seconds)
    return "waited"

@keelback.function
async def stubborn():
    while True:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

@keelback.function
def finish_later(seconds):
    # A C call without a signal check: it ends by itself, and no interrupt reaches it.
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ctypes.CDLL(None).usleep(10000)
    keelback.session().state["n"] = keelback.session().state.get("n", 0) + 1
    return "finished"

@keelback.function
def state():
    return keelback.session().state.get("n", 0)

@keelback.function
def big(text):
    return len(text)

@keelback.function(stream=True)
def drip():
    while True:
        yield 1
        time.sleep(0.01)
)py";

class DeadlineTest : public HostTest {
 protected:
  static constexpr auto kLimit = 300ms;

  // A grace so long that nobody who waits for the end is back in time.
  void begin(Duration grace = 20s, std::uint32_t workers = 1) {
    config_.settings.pool.workers = workers;
    config_.settings.calls.grace = grace;
    config_.settings.breaker.failures = 0;
    config_.settings.workers.kill_timeout = 10s;
    start(kDeadlineApp);
    ASSERT_TRUE(eventually([&] { return ready() == workers; }));
  }
  // Timed out at its deadline: the bound is generous, and far below deadline and grace.
  void expect_on_time(const Outcome& outcome, std::chrono::nanoseconds took) {
    EXPECT_EQ(outcome.kind, OutcomeKind::kTimeout) << to_string(outcome.kind) << outcome.message;
    EXPECT_GE(took, kLimit);
    EXPECT_LT(took, kLimit + 5s);
  }
  Outcome late(const std::string& function, const std::string& payload = "[]",
               Effect effect = Effect::kMaybe) {
    const auto began = std::chrono::steady_clock::now();
    Outcome outcome = call(function, payload, kLimit);
    expect_on_time(outcome, std::chrono::steady_clock::now() - began);
    EXPECT_EQ(outcome.effect, effect);
    return outcome;
  }
  void end_the_worker() {
    for (const pid_t pid : pids()) ::kill(pid, SIGKILL);
    EXPECT_TRUE(eventually([&] { return host_->info().stats.late == 0; }));
  }
};

const std::vector<std::pair<std::string, std::string>> kWays = {
    {"sleep", "[60]"}, {"spin", "[]"}, {"hold_gil", "[]"}, {"wait", "[60]"}, {"stubborn", "[]"}};

// Goal: a blocking caller returns at its deadline, whatever its call does.
TEST_F(DeadlineTest, ABlockingCallerHearsAtItsDeadline) {
  begin();
  for (const auto& [function, payload] : kWays) {
    SCOPED_TRACE(function);
    late(function, payload);
    if (function != "wait") {
      EXPECT_EQ(host_->info().stats.late, 1U);
    }
    end_the_worker();
  }
}

// Goal: so does an asynchronous one.
TEST_F(DeadlineTest, AnAsynchronousCallerHearsAtItsDeadline) {
  begin();
  for (const auto& [function, payload] : kWays) {
    SCOPED_TRACE(function);
    std::promise<Outcome> promise;
    const auto began = std::chrono::steady_clock::now();
    host_->submit({.function = function, .payload = payload, .deadline = kLimit},
                  [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
    const Outcome outcome = promise.get_future().get();
    expect_on_time(outcome, std::chrono::steady_clock::now() - began);
    EXPECT_EQ(outcome.effect, Effect::kMaybe);
    end_the_worker();
  }
}

// Goal: the reader of a stream hears at the deadline, once, and gets no item afterwards.
TEST_F(DeadlineTest, AStreamEndsAtItsDeadline) {
  begin(2s);
  std::atomic<int> items = 0;
  std::promise<Outcome> promise;
  host_->stream(
      {.function = "drip", .deadline = kLimit}, [&](std::string&&) { ++items; },
      [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
  EXPECT_EQ(promise.get_future().get().kind, OutcomeKind::kTimeout);
  const int heard = items;
  ASSERT_TRUE(eventually([&] { return host_->info().stats.late == 0; }));
  EXPECT_EQ(call("echo", "[7]").payload, "7");
  EXPECT_EQ(items, heard);
}

// Goal: a signal that the caller's thread gets does not make it late.
TEST_F(DeadlineTest, SignalsDoNotKeepTheCallerWaiting) {
  begin();
  struct sigaction old{};
  struct sigaction action{};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &old), 0);
  std::atomic<bool> over = false;
  std::promise<pthread_t> self;
  std::jthread caller([&] {
    self.set_value(::pthread_self());
    late("spin");
    over = true;
  });
  const pthread_t thread = self.get_future().get();
  EXPECT_TRUE(eventually([&] {
    if (!over) ::pthread_kill(thread, SIGUSR1);
    return over.load();
  }));
  caller.join();
  ::sigaction(SIGUSR1, &old, nullptr);
  end_the_worker();
}

// Goal: a call that ends by itself one second later costs no worker and no session, its late reply
// is nobody's, and its session has its effect.
TEST_F(DeadlineTest, ACallThatEndsByItselfCostsNothing) {
  begin(2s);
  const auto asked = [&](const char* function, const char* payload, Duration limit) {
    return host_->call(
        {.function = function, .payload = payload, .session = "ann", .deadline = limit});
  };
  const std::string before = call("pid").payload;
  ASSERT_EQ(asked("finish_later", "[0.001]", 20s).payload, "\"finished\"");
  const Outcome late = asked("finish_later", "[1.3]", 300ms);
  EXPECT_EQ(late.kind, OutcomeKind::kTimeout);
  EXPECT_EQ(late.effect, Effect::kMaybe);
  EXPECT_EQ(asked("state", "[]", 20s).payload, "2") << "it waits for the real end";
  EXPECT_EQ(call("pid").payload, before);
  const auto stats = host_->info().stats;
  EXPECT_EQ(stats.restarts, 0U);
  EXPECT_EQ(stats.sessions.lost, 0U);
  EXPECT_EQ(stats.late, 0U);
  EXPECT_EQ(stats.outcomes[static_cast<int>(OutcomeKind::kTimeout)], 1U);
}

// Goal: who asks again with the key gets the real answer, from the one run that there is.
TEST_F(DeadlineTest, ARetryWithTheKeyGetsTheRealAnswer) {
  begin(4s);
  Call call{.function = "sleep", .payload = "[1.0]", .deadline = kLimit, .idempotency_key = "k"};
  EXPECT_EQ(host_->call(Call(call)).kind, OutcomeKind::kTimeout);
  call.deadline = 20s;
  const Outcome again = host_->call(Call(call));
  EXPECT_EQ(again.payload, "\"slept\"") << again.message;
  EXPECT_EQ(host_->workers().at(0).calls, 1U);
}

// Goal: a caller whose arguments do not fit into the socket of a stopped worker hears in time too.
TEST_F(DeadlineTest, ACallerThatIsStillSendingHearsAtItsDeadline) {
  begin(2s);
  ASSERT_EQ(call("echo", "[1]").payload, "1");
  ASSERT_EQ(::kill(pids().at(0), SIGSTOP), 0);
  const std::string text(4 << 20, 'x');
  late("big", "[\"" + text + "\"]", Effect::kNone);
  EXPECT_EQ(call("big", "[\"" + text + "\"]").payload, std::to_string(text.size()))
      << "on the worker's successor";
}

// Goal: the stacks of a call that is killed behind its answer can be read afterwards.
TEST_F(DeadlineTest, TheStacksCanBeReadAfterwards) {
  begin(500ms);
  const Outcome outcome = late("hold_gil");
  EXPECT_TRUE(outcome.dump.empty());
  ASSERT_TRUE(eventually([&] { return host_->dump(CallId{outcome.call}).has_value(); }));
  const std::string dump = *host_->dump(CallId{outcome.call});
  EXPECT_NE(dump.find("hold_gil"), std::string::npos) << dump;
  EXPECT_NE(dump.find("no ping"), std::string::npos) << dump;
  EXPECT_EQ(host_->dump(CallId{outcome.call + 1}), std::nullopt);
  EXPECT_EQ(call("echo", "[1]").payload, "1");
}

// Goal: many callers that leave their workers at their deadlines, and others that follow at once:
// no answer reaches anybody else.
TEST_F(DeadlineTest, AnswersStayWithTheirCalls) {
  begin(20s, 2);
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 40; ++i) {
        const std::string value = std::to_string(1000 * caller + i);
        if (i % 4 == 0) {
          const Outcome slow = call("sleep", "[0.03]", 10ms);
          wrong += slow.kind != OutcomeKind::kTimeout && slow.kind != OutcomeKind::kOverloaded;
        }
        const Outcome outcome = call("echo", "[" + value + "]");
        wrong += outcome.payload != value;
      }
    });
  }
  callers.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(host_->info().stats.restarts, 0U);
}

// Goal: a worker that was interrupted serves nobody any more; the pool is whole again at once.
TEST_F(DeadlineTest, AnInterruptedWorkerIsReplaced) {
  begin(500ms);
  const std::string before = call("pid").payload;
  late("spin");
  const std::string after = call("pid").payload;
  EXPECT_NE(after, before);
  EXPECT_EQ(host_->info().stats.restarts, 0U) << "nothing died";
  EXPECT_TRUE(eventually([&] { return !is_alive(numbers_in(before).at(0)); }));
}

// Goal: a coroutine that is cancelled, a function that says it is interruptible, and
// calls.after_interrupt = keep leave the worker as it is.
TEST_F(DeadlineTest, WhatLeavesTheWorkerWholeKeepsIt) {
  begin(500ms);
  const std::string before = call("pid").payload;
  late("wait", "[60]");
  EXPECT_EQ(call("pid").payload, before);
  late("spin_whole");
  EXPECT_EQ(call("pid").payload, before);
  Settings kept = config_.settings;
  kept.calls.after_interrupt = AfterInterrupt::kKeep;
  host_->configure(kept);
  late("spin");
  EXPECT_EQ(call("pid").payload, before);
}

}  // namespace
}  // namespace keelback::host
