// The host with real Python processes: callers, the loop, and one outcome for each call.
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "host/host_fixture.h"

namespace keelback::host {
namespace {

TEST_F(HostTest, ABlockingCallIsServedByTheZygotesWorkers) {
  start();
  const Outcome outcome = call("greet", R"({"name":"Ada"})");
  EXPECT_EQ(outcome.kind, OutcomeKind::kOk) << outcome.message;
  EXPECT_EQ(outcome.effect, Effect::kDone);
  EXPECT_EQ(outcome.payload, R"("Hello, Ada!")");
  EXPECT_EQ(outcome.attempts, 1U);
  EXPECT_EQ(host_->info().start.mode, "zygote");
  EXPECT_EQ(host_->info().start.state, "up");
  EXPECT_TRUE(host_->application());
}

TEST_F(HostTest, AsynchronousOutcomesComeOnTheLoopAndNeverFromWithinSubmit) {
  Driver& host = start();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> results;
  bool inside = false;
  std::set<std::thread::id> threads;
  constexpr int kCalls = 50;
  for (int i = 0; i <= kCalls; ++i) {
    const std::lock_guard lock(mutex);  // a callback from within submit() would block for ever
    inside = true;
    host.submit(
        {.function = i < kCalls ? "twice" : "no such function",
         .payload = "[" + std::to_string(i) + "]",
         .deadline = 20s},
        [&](Outcome&& outcome) {
          const std::lock_guard inner(mutex);
          EXPECT_FALSE(inside);
          threads.insert(std::this_thread::get_id());
          results.push_back(outcome.ok() ? outcome.payload : std::string(to_string(outcome.kind)));
          changed.notify_one();
        });
    inside = false;
  }
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return results.size() == kCalls + 1; }));
  EXPECT_EQ(threads.size(), 1U);
  EXPECT_EQ(std::ranges::count(results, "unknown_function"), 1);
  EXPECT_EQ(std::ranges::count(results, "98"), 1);
}

TEST_F(HostTest, AStreamDeliversItsItemsInOrderAndWaitsForCredit) {
  Driver& host = start();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> items;
  std::optional<Outcome> outcome;
  const CallId id = host.stream(
      {.function = "count", .payload = "[40]", .deadline = 20s},
      [&](std::string&& item) {
        const std::lock_guard lock(mutex);
        items.push_back(std::move(item));
        changed.notify_one();
      },
      [&](Outcome&& end) {
        const std::lock_guard lock(mutex);
        outcome = std::move(end);
        changed.notify_one();
      });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return items.size() == 16; }));
  EXPECT_FALSE(outcome) << "16 items come unasked, then the generator waits";
  host.grant(id, 10);
  ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return items.size() == 26; }));
  host.grant(id, 100);
  ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, OutcomeKind::kOk) << outcome->message;
  ASSERT_EQ(items.size(), 40U);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(items[static_cast<std::size_t>(i)], std::to_string(i));
}

// Goal: payloads much larger than the socket's buffer go both ways, whoever does the I/O.
TEST_F(HostTest, LargePayloadsGoBothWays) {
  Driver& host = start();
  const std::string big = "\"" + std::string(5 << 20, 'x') + "\"";
  const Outcome blocking = call("echo", "[" + big + "]");
  EXPECT_EQ(blocking.kind, OutcomeKind::kOk) << blocking.message;
  EXPECT_TRUE(blocking.payload == big);
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Outcome> outcome;
  host.submit({.function = "echo", .payload = "[" + big + "]", .deadline = 20s},
              [&](Outcome&& end) {
                const std::lock_guard lock(mutex);
                outcome = std::move(end);
                changed.notify_one();
              });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return outcome.has_value(); }));
  EXPECT_TRUE(outcome->payload == big);
  lock.unlock();
  const Outcome too_large = call("echo", "[\"" + std::string(17 << 20, 'x') + "\"]");
  EXPECT_EQ(too_large.kind, OutcomeKind::kTooLarge);
}

// Goal: a deadline ends the call and shows where it hung, also while the GIL is held in a C call.
// (Its caller waits for that end; HostTest's siblings in host_deadline_test.cpp do not.)
TEST_F(HostTest, ADeadlineEndsACallThatHoldsTheGilAndShowsWhere) {
  config_.settings.calls.answer_at = AnswerAt::kEnd;
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const Outcome slept = call("sleep", "[100]", 200ms);
  EXPECT_EQ(slept.kind, OutcomeKind::kTimeout);
  EXPECT_EQ(slept.effect, Effect::kMaybe);
  const auto begin = std::chrono::steady_clock::now();
  const Outcome held = call("hold_gil", "[]", 200ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 200ms + 1s + 500ms * test::stretch());
  EXPECT_EQ(held.kind, OutcomeKind::kTimeout);
  EXPECT_NE(held.dump.find("hold_gil"), std::string::npos) << held.dump;
  EXPECT_NE(held.message.find("the GIL is held"), std::string::npos) << held.message;
  EXPECT_EQ(slept.message.find("the GIL is held"), std::string::npos) << slept.message;
  EXPECT_EQ(call("twice", "[2]").payload, "4");
}

TEST_F(HostTest, AFloodOfOutputBlocksNobodyAndIsCounted) {
  start();
  const Outcome outcome = call("flood", "[200000]");
  EXPECT_EQ(outcome.kind, OutcomeKind::kOk) << outcome.message;
  EXPECT_TRUE(eventually([&] {
    std::uint64_t dropped = 0;
    for (const WorkerInfo& worker : host_->workers()) dropped += worker.log_dropped_lines;
    return dropped > 100'000;
  }));
}

TEST_F(HostTest, AnImportThatFailsIsNotReadyWithTheTraceback) {
  start("import no_such_module_anywhere\n");
  const Outcome outcome = call("greet");
  EXPECT_EQ(outcome.kind, OutcomeKind::kNotReady);
  EXPECT_EQ(outcome.effect, Effect::kNone);
  ASSERT_TRUE(outcome.death) << outcome.message;
  EXPECT_EQ(outcome.death->cause, "start_failed");
  EXPECT_EQ(outcome.death->step, "hello");
  EXPECT_NE(outcome.death->detail.find("no_such_module_anywhere"), std::string::npos)
      << outcome.death->detail;
  EXPECT_NE(outcome.death->stderr_tail.find("Traceback"), std::string::npos)
      << outcome.death->stderr_tail;
}

TEST_F(HostTest, WithoutAZygoteWorkersAreExecuted) {
  config_.settings.workers.zygote = ZygoteMode::kOff;
  start();
  EXPECT_EQ(call("twice", "[3]").payload, "6");
  EXPECT_EQ(host_->info().start.mode, "exec");
  EXPECT_TRUE(host_->application());
}

TEST_F(HostTest, ADrainFinishesWhatRunsAndRefusesWhatComes) {
  Driver& host = start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  std::promise<Outcome> running;
  host.submit({.function = "sleep", .payload = "[0.3]", .deadline = 20s},
              [&](Outcome&& outcome) { running.set_value(std::move(outcome)); });
  ASSERT_TRUE(eventually([&] { return host.info().stats.workers.busy == 1; }));
  std::promise<void> drained;
  host.drain(10s, [&] { drained.set_value(); });
  ASSERT_TRUE(eventually([&] { return host.info().stats.draining; }));
  EXPECT_EQ(call("twice", "[1]").kind, OutcomeKind::kShuttingDown);
  EXPECT_EQ(running.get_future().get().kind, OutcomeKind::kOk);
  EXPECT_EQ(drained.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(pids(), std::vector<pid_t>{});
}

// Goal: ten thousand calls of eight threads while workers are killed at random end in exactly one
// outcome each, and the books balance.
TEST_F(HostTest, EveryCallHasOneOutcomeWhileWorkersAreKilledAtRandom) {
  constexpr int kThreads = 8;
  constexpr int kCalls = 10'000;
  Driver& host = start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  std::atomic<int> kills = 0, next = 0, ended = 0, ok = 0, died = 0, other = 0, asynchronous = 0;
  const auto count = [&](const Outcome& outcome, int i) {
    EXPECT_EQ(outcome.payload, outcome.ok() ? std::to_string(2 * i) : "");
    EXPECT_TRUE(outcome.kind != OutcomeKind::kWorkerDied || outcome.death);
    const bool lost =
        outcome.kind == OutcomeKind::kWorkerDied || outcome.kind == OutcomeKind::kSessionLost;
    (outcome.ok() ? ok : lost ? died : other)++;
    if (!outcome.ok() && !lost) ADD_FAILURE() << to_string(outcome.kind) << outcome.message;
    ++ended;
  };
  {
    // One at a time, when both are up: the calls must get on, too.
    std::jthread killer([&](const std::stop_token& stop) {
      for (std::uint32_t round = 0; !stop.stop_requested();) {
        const auto workers = host.workers();
        const auto up = std::ranges::count_if(workers, [](const WorkerInfo& worker) {
          return worker.state == core::WorkerState::kReady ||
                 worker.state == core::WorkerState::kBusy;
        });
        if (up == 2 && ::kill(static_cast<pid_t>(workers[round % 2].pid), SIGKILL) == 0) {
          ++round;
          ++kills;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(round * 7 % 20));
      }
    });
    std::vector<std::jthread> callers;
    for (int t = 0; t < kThreads; ++t) {
      callers.emplace_back([&, t] {
        for (int i = next++; i < kCalls; i = next++) {
          Call call{.function = "twice", .payload = "[" + std::to_string(i) + "]"};
          call.deadline = 20s;
          if (i % 3 == 0) call.session = "s" + std::to_string(t);
          if (i % 5 != 0) {
            count(host.call(std::move(call)), i);
          } else {
            ++asynchronous;
            host.submit(std::move(call), [&, i](Outcome&& outcome) { count(outcome, i); });
          }
        }
      });
    }
    callers.clear();
  }
  EXPECT_TRUE(eventually([&] { return ended == kCalls; })) << ended;
  EXPECT_GT(asynchronous, 0);
  EXPECT_GT(ok, kCalls / 2);
  EXPECT_GT(died, 0);
  const PoolStats stats = host.info().stats;
  EXPECT_EQ(stats.accepted, static_cast<std::uint64_t>(kCalls));
  EXPECT_EQ(stats.in_flight, 0U);
  std::uint64_t sum = 0;
  for (std::uint64_t outcomes : stats.outcomes) sum += outcomes;
  EXPECT_EQ(sum, stats.accepted);
  EXPECT_GT(kills, 3);
  EXPECT_EQ(other, 0);
}

}  // namespace
}  // namespace keelback::host
