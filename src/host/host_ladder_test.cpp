// The deadline ladder on real Python, with calls.answer_at = end and calls.after_interrupt = keep:
// whatever a call does, its caller hears within deadline and grace, and nothing of it goes on
// inside a later call. host_deadline_test.cpp has the defaults.
#include <signal.h>

#include <future>
#include <string>

#include "host/host_fixture.h"

namespace keelback::host {
namespace {

constexpr const char* kLadderApp = R"py(
import asyncio, os, socket, threading, time
import keelback

def note(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)

@keelback.function
def echo(value):
    return value

@keelback.function
async def swallow_for_ever():
    while True:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

@keelback.function
async def swallow_once(value):
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return value

@keelback.function
async def leave_a_task(path):
    async def go_on():
        while True:
            note(path, "task")
            await asyncio.sleep(0.002)
    asyncio.ensure_future(go_on())
    await asyncio.sleep(1000)

@keelback.function
async def yield_to_the_loop():
    await asyncio.sleep(0.05)

@keelback.function
def leave_a_thread(path):
    def go_on():
        while True:
            note(path, "thread")
            time.sleep(0.002)
    threading.Thread(target=go_on, daemon=True).start()
    while True:
        pass

@keelback.function
def swallow_interrupts(path):
    while True:
        try:
            while True:
                note(path, "loop")
                time.sleep(0.002)
        except KeyboardInterrupt:
            pass

@keelback.function
def block(how):
    if how == "read":
        os.read(os.pipe()[0], 1)
    elif how == "recv":
        ours, theirs = socket.socketpair()
        ours.recv(1)
    elif how == "lock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif how == "sleep":
        time.sleep(1000)
    elif how == "join":
        threading.Event().wait()

@keelback.function
def slow(value, seconds):
    time.sleep(seconds)
    return value
)py";

class LadderTest : public HostTest {
 protected:
  static constexpr auto kLimit = 200ms;
  static constexpr auto kGrace = 1s;

  void begin(Duration grace = kGrace) {
    config_.settings.pool.workers = 1;
    config_.settings.calls.grace = grace;
    config_.settings.calls.answer_at = AnswerAt::kEnd;
    config_.settings.calls.after_interrupt = AfterInterrupt::kKeep;
    config_.settings.breaker.failures = 0;
    start(kLadderApp);
    ASSERT_TRUE(eventually([&] { return ready() == 1; }));
  }
  std::string ledger() const { return (directory_ / "ledger").string(); }
  std::string quoted_ledger() const { return "[\"" + ledger() + "\"]"; }
  std::uintmax_t effects() const {
    std::error_code error;
    const auto size = std::filesystem::file_size(ledger(), error);
    return error ? 0 : size;
  }
  // A call that must not succeed; heard of within deadline and grace, generously read.
  Outcome late(const std::string& function, const std::string& payload = "[]") {
    const auto began = std::chrono::steady_clock::now();
    Outcome outcome = call(function, payload, kLimit);
    const auto took = std::chrono::steady_clock::now() - began;
    EXPECT_EQ(outcome.kind, OutcomeKind::kTimeout) << to_string(outcome.kind) << outcome.message;
    EXPECT_GE(took, kLimit);
    EXPECT_LT(took, kLimit + kGrace + 5s);
    return outcome;
  }
  // The next call gets its own answer; whether from the worker that was late.
  bool same_worker_serves(const Outcome& before) {
    const Outcome next = call("echo", "[77]");
    EXPECT_EQ(next.payload, "77") << next.message;
    return next.worker == before.worker;
  }
  // Nothing adds to the ledger any more, while the worker has work to do.
  void expect_no_more_effects() {
    const auto size = effects();
    EXPECT_GT(size, 0U) << "it did run";
    EXPECT_EQ(call("slow", "[1, 0.1]").payload, "1");
    EXPECT_EQ(effects(), size) << "old work in a new call";
  }
};

TEST_F(LadderTest, ACoroutineThatSwallowsEveryCancellationIsKilled) {
  begin();
  const Outcome outcome = late("swallow_for_ever");
  EXPECT_EQ(outcome.effect, Effect::kMaybe);
  EXPECT_NE(outcome.dump.find("File"), std::string::npos) << outcome.dump;
  EXPECT_FALSE(same_worker_serves(outcome));
}

TEST_F(LadderTest, ACoroutineThatAnswersItsCancellationKeepsItsWorker) {
  begin();
  const Outcome outcome = late("swallow_once", "[1]");
  EXPECT_EQ(outcome.effect, Effect::kDone);
  EXPECT_TRUE(same_worker_serves(outcome));
}

TEST_F(LadderTest, ATaskLeftBehindDoesNotRunInsideTheNextCall) {
  begin();
  const Outcome outcome = late("leave_a_task", quoted_ledger());
  EXPECT_EQ(call("yield_to_the_loop").kind, OutcomeKind::kOk);
  expect_no_more_effects();
  EXPECT_FALSE(same_worker_serves(outcome));
}

TEST_F(LadderTest, AThreadLeftBehindDoesNotRunInsideTheNextCall) {
  begin();
  const Outcome outcome = late("leave_a_thread", quoted_ledger());
  EXPECT_EQ(outcome.effect, Effect::kMaybe);
  expect_no_more_effects();
  EXPECT_FALSE(same_worker_serves(outcome));
}

TEST_F(LadderTest, AFunctionThatSwallowsItsInterruptIsKilledWithItsStacks) {
  begin();
  const Outcome outcome = late("swallow_interrupts", quoted_ledger());
  EXPECT_NE(outcome.dump.find("swallow_interrupts"), std::string::npos) << outcome.dump;
  expect_no_more_effects();
  EXPECT_FALSE(same_worker_serves(outcome));
}

TEST_F(LadderTest, WhateverASyncFunctionWaitsForAnInterruptEndsItAndTheWorkerStays) {
  begin();
  for (const char* how : {"read", "recv", "lock", "sleep", "join"}) {
    SCOPED_TRACE(how);
    const Outcome outcome = late("block", std::string("[\"") + how + "\"]");
    EXPECT_EQ(outcome.effect, Effect::kMaybe);
    EXPECT_TRUE(same_worker_serves(outcome));
  }
  EXPECT_EQ(host_->info().stats.restarts, 0U);
}

TEST_F(LadderTest, AStoppedWorkerIsSaidToBeStoppedAndReplaced) {
  begin();
  ASSERT_EQ(::kill(pids().at(0), SIGSTOP), 0);
  const Outcome outcome = late("echo", "[1]");
  EXPECT_EQ(outcome.dump, "unavailable: stopped");
  EXPECT_FALSE(same_worker_serves(outcome));
}

// Goal: a reply that comes after its deadline is nobody else's.
TEST_F(LadderTest, ALateReplyReachesNoOtherCall) {
  begin(10s);
  for (int round = 0; round < 5; ++round) {
    const pid_t pid = pids().at(0);
    std::promise<Outcome> promise;
    host_->submit({.function = "slow", .payload = "[\"old\", 0.3]", .deadline = kLimit},
                  [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
    ASSERT_TRUE(eventually([&] { return host_->info().stats.workers.busy == 1; }));
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    ASSERT_TRUE(eventually([&] { return host_->info().stats.workers.suspect == 1; }));
    ASSERT_EQ(::kill(pid, SIGCONT), 0);
    const Outcome next = call("echo", "[\"new\"]");
    EXPECT_EQ(next.payload, "\"new\"");
    const Outcome late_one = promise.get_future().get();
    EXPECT_EQ(late_one.kind, OutcomeKind::kTimeout);
    EXPECT_TRUE(late_one.payload.empty());
  }
}

}  // namespace
}  // namespace keelback::host
