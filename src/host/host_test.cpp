// The host with real Python processes: who reads, who dies, what is left.
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/sinks/null_sink.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "host/host.h"
#include "os/process.h"

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 20s;

bool eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

constexpr const char* kApp = R"py(
import ctypes, os, signal, subprocess, sys, time
import keelback

@keelback.function
def greet(name):
    return f"Hello, {name}!"

@keelback.function
def pid():
    return os.getpid()

@keelback.function(idempotent=True)
def twice(x):
    return 2 * x

@keelback.function
def echo(text):
    return text

@keelback.function
def sleep(seconds):
    time.sleep(seconds)

@keelback.function
def hold_gil():
    # A lock taken twice: waits in C with the GIL held, and no signal ends that.
    lock = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)

@keelback.function
def die(how):
    print("last words", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))

@keelback.function
def leave_behind():
    plain = subprocess.Popen(["sleep", "1000"])
    session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    daemon = subprocess.run(["sh", "-c", "(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)"],
                            stdout=subprocess.PIPE, text=True)
    return [plain.pid, session.pid, int(daemon.stdout)]

@keelback.function
def flood(lines):
    for i in range(lines):
        print("line", i)

@keelback.function(stream=True)
def count(n):
    for i in range(n):
        yield i

@keelback.function
def threads():
    return len(os.listdir("/proc/self/task"))
)py";

// A pool of its own for each test, and proof that nothing of it is left.
class HostTest : public ::testing::Test {
 protected:
  HostTest() {
    directory_ = std::filesystem::temp_directory_path() /
                 ("keelback-host-test-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
    fds_before_ = os::count_open_fds().value();
    config_.settings.pool.workers = 2;
    config_.settings.calls.grace = 1s;
    config_.logger =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>());
  }
  ~HostTest() override {
    host_.reset();
    EXPECT_EQ(os::count_open_fds().value(), fds_before_);
    EXPECT_EQ(os::children_of(::getpid()), std::vector<pid_t>{});
    std::filesystem::remove_all(directory_);
  }

  Driver& start(const std::string& app = kApp) {
    write_app(app);
    config_.app = path();
    auto host = Host::start(config_);
    EXPECT_TRUE(host) << host.error().message;
    host_ = std::move(*host);
    return *host_;
  }
  std::string path() const { return (directory_ / "app.py").string(); }
  void write_app(const std::string& app) const { std::ofstream(path()) << app; }
  Outcome call(const std::string& function, const std::string& payload = "[]",
               std::optional<std::chrono::nanoseconds> deadline = 20s) {
    return host_->call({.function = function, .payload = payload, .deadline = deadline});
  }
  std::vector<pid_t> pids() {
    std::vector<pid_t> found;
    for (const WorkerInfo& worker : host_->workers()) {
      if (worker.pid != 0) found.push_back(static_cast<pid_t>(worker.pid));
    }
    return found;
  }
  std::uint32_t ready() { return host_->info().stats.workers.ready; }

  HostConfig config_;
  std::unique_ptr<Driver> host_;
  std::filesystem::path directory_;
  std::size_t fds_before_ = 0;
};

bool is_alive(pid_t pid) {
  const auto stat = os::read_stat(pid);
  return stat && stat->state != 'Z' && stat->state != 'X';
}

TEST_F(HostTest, ABlockingCallIsServedByTheZygotesWorkers) {
  start();
  const Outcome outcome = call("greet", R"({"name":"Ada"})");
  EXPECT_EQ(outcome.kind, OutcomeKind::kOk) << outcome.message;
  EXPECT_EQ(outcome.effect, Effect::kDone);
  EXPECT_EQ(outcome.payload, R"("Hello, Ada!")");
  EXPECT_EQ(outcome.attempts, 1U);
  EXPECT_EQ(host_->info().start.mode, "zygote");
  EXPECT_EQ(host_->info().start.state, "up");
  EXPECT_TRUE(host_->application().known);
}

// Goal: the outcome says how the worker died, with its last words, and the pool goes on.
TEST_F(HostTest, ADeathIsToldWithItsCauseAndLastWords) {
  start();
  const Outcome segfault = call("die", R"(["SIGSEGV"])");
  EXPECT_EQ(segfault.kind, OutcomeKind::kWorkerDied);
  EXPECT_EQ(segfault.effect, Effect::kMaybe);
  ASSERT_TRUE(segfault.death);
  EXPECT_EQ(segfault.death->cause, "signal");
  EXPECT_EQ(segfault.death->signal, SIGSEGV);
  EXPECT_FALSE(segfault.death->oom_suspected);
  EXPECT_NE(segfault.death->stderr_tail.find("last words"), std::string::npos);

  const Outcome killed = call("die", R"(["SIGKILL"])");
  ASSERT_TRUE(killed.death);
  EXPECT_EQ(killed.death->signal, SIGKILL);
  EXPECT_TRUE(killed.death->oom_suspected);

  const Outcome exited = call("die", R"(["exit"])");
  ASSERT_TRUE(exited.death);
  EXPECT_EQ(exited.death->cause, "exit");
  EXPECT_EQ(exited.death->exit_code, 3);
  EXPECT_EQ(call("greet", R"(["Bob"])").kind, OutcomeKind::kOk);
}

std::vector<pid_t> numbers_in(const std::string& json) {
  std::vector<pid_t> numbers;
  for (std::size_t at = 0; at < json.size();) {
    const std::size_t digit = json.find_first_of("0123456789", at);
    if (digit == std::string::npos) break;
    std::size_t length = 0;
    numbers.push_back(static_cast<pid_t>(std::stol(json.substr(digit), &length)));
    at = digit + length;
  }
  return numbers;
}

// Goal: a worker's death takes along what it had started, in its group, in sessions of their own,
// and as daemons.
TEST_F(HostTest, ADeadWorkersDescendantsDieWithIt) {
  start();
  const Outcome left = call("leave_behind");
  const std::vector<pid_t> descendants = numbers_in(left.payload);
  ASSERT_EQ(descendants.size(), 3U) << left.payload << left.message;
  for (pid_t pid : descendants) EXPECT_TRUE(is_alive(pid)) << pid;
  ASSERT_EQ(::kill(pids().at(left.worker.slot - 1), SIGKILL), 0);
  for (pid_t pid : descendants) EXPECT_TRUE(eventually([&] { return !is_alive(pid); })) << pid;
}

// Goal: stopping an idle pool takes at most 100 ms and leaves no process (the fixture looks).
TEST_F(HostTest, StoppingLeavesNothingAndIsQuick) {
  config_.settings.pool.workers = 4;
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 4; }));
  const std::vector<pid_t> descendants = numbers_in(call("leave_behind").payload);
  ASSERT_EQ(descendants.size(), 3U);
  const auto begin = std::chrono::steady_clock::now();
  host_.reset();
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took, 100ms);
  for (pid_t pid : descendants) EXPECT_FALSE(is_alive(pid)) << pid;
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
TEST_F(HostTest, ADeadlineEndsACallThatHoldsTheGilAndShowsWhere) {
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const Outcome slept = call("sleep", "[100]", 200ms);
  EXPECT_EQ(slept.kind, OutcomeKind::kTimeout);
  EXPECT_EQ(slept.effect, Effect::kMaybe);
  const auto begin = std::chrono::steady_clock::now();
  const Outcome held = call("hold_gil", "[]", 200ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 200ms + 1s + 500ms);
  EXPECT_EQ(held.kind, OutcomeKind::kTimeout);
  EXPECT_NE(held.dump.find("hold_gil"), std::string::npos) << held.dump;
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

// Goal: the zygote's death fails no call, and it is back by itself.
TEST_F(HostTest, AKilledZygoteHarmsNoWorkerAndComesBack) {
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const auto before = pids();
  const auto zygote = static_cast<pid_t>(host_->info().start.zygote_pid);
  ASSERT_GT(zygote, 0);
  ASSERT_EQ(::kill(zygote, SIGKILL), 0);
  EXPECT_EQ(call("twice", "[4]").payload, "8");
  ASSERT_TRUE(eventually([&] {
    const StartPath path = host_->info().start;
    return path.state == "up" && path.zygote_pid != zygote;
  }));
  EXPECT_EQ(pids(), before);
  // A worker that has lost its parent still dies with a status, and is replaced.
  const Outcome death = call("die", R"(["exit"])");
  ASSERT_TRUE(death.death);
  EXPECT_EQ(death.death->exit_code, 3);
  EXPECT_TRUE(eventually([&] { return ready() == 2; }));
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

// Goal: an application that starts a thread at import is served by exec, and info() names the
// culprit; `force` makes it a failed start instead.
TEST_F(HostTest, AnApplicationThatIsUnsafeToForkFallsBackToExec) {
  const std::string app =
      std::string(kApp) +
      "import threading\n"
      "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n";
  start(app);
  EXPECT_EQ(call("twice", "[2]").payload, "4");
  EXPECT_EQ(host_->info().start.mode, "exec");
  EXPECT_EQ(host_->info().start.state, "fallback");
  EXPECT_NE(host_->info().start.reason.find("thread"), std::string::npos)
      << host_->info().start.reason;
  host_.reset();
  config_.settings.workers.zygote = ZygoteMode::kForce;
  start(app);
  const Outcome refused = call("twice", "[2]");
  EXPECT_EQ(refused.kind, OutcomeKind::kNotReady) << to_string(refused.kind);
}

TEST_F(HostTest, WithoutAZygoteWorkersAreExecuted) {
  config_.settings.workers.zygote = ZygoteMode::kOff;
  start();
  EXPECT_EQ(call("twice", "[3]").payload, "6");
  EXPECT_EQ(host_->info().start.mode, "exec");
  EXPECT_TRUE(host_->application().known);
}

// Goal: a reload serves the new code after it has been probed, and keeps the old if it is broken.
TEST_F(HostTest, AReloadServesTheNewCodeOrKeepsTheOld) {
  Driver& host = start("import keelback\n@keelback.function\ndef version():\n    return 1\n");
  EXPECT_EQ(call("version").payload, "1");
  const auto reload = [&] {
    std::promise<std::string> done;
    host.reload([&](std::string error) { done.set_value(std::move(error)); });
    return done.get_future().get();
  };
  write_app("raise ValueError('broken')\n");
  EXPECT_NE(reload().find("broken"), std::string::npos);
  EXPECT_EQ(call("version").payload, "1");
  write_app("import keelback\n@keelback.function\ndef version():\n    return 2\n");
  EXPECT_EQ(reload(), "");
  EXPECT_TRUE(eventually([&] { return call("version").payload == "2"; }));
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

// Goal: when the guard is killed the pool goes on, under a new guard and with new workers.
TEST_F(HostTest, AKilledGuardIsReplacedAndTheWorkersRolled) {
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const auto before = pids();
  const auto children = os::children_of(::getpid());
  ASSERT_EQ(children.size(), 1U);
  ASSERT_EQ(::kill(children[0], SIGKILL), 0);
  EXPECT_EQ(call("twice", "[4]").payload, "8");
  EXPECT_TRUE(eventually([&] {
    const auto now = pids();
    return now.size() == 2 && ready() == 2 &&
           std::ranges::none_of(now, [&](pid_t pid) { return std::ranges::count(before, pid); });
  }));
  for (pid_t pid : before) EXPECT_TRUE(eventually([&] { return !is_alive(pid); }));
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
  const core::Stats stats = host.info().stats;
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
