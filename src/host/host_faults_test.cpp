// The host when system calls fail: the 1st, the 2nd, ... until a whole life passes without reaching
// the failing one. Whatever fails, every call has an outcome, nothing hangs and nothing is left.
#include <signal.h>

#include <cerrno>
#include <cstdlib>
#include <future>
#include <set>

#include "host/host_fixture.h"
#include "os/result.h"

namespace keelback::host {
namespace {

// One life: start, a blocking call, an asynchronous one, a session, stop. Returns whether the calls
// succeeded.
bool live(const HostConfig& config) {
  auto host = Host::start(config);
  if (!host) return false;
  Driver& driver = **host;
  const Outcome first = driver.call({.function = "twice", .payload = "[2]", .deadline = 20s});
  std::promise<Outcome> promise;
  driver.submit({.function = "twice", .payload = "[3]", .session = "s", .deadline = 20s},
                [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
  const Outcome second = promise.get_future().get();
  for (const Outcome* outcome : {&first, &second}) {
    if (outcome->ok()) continue;
    EXPECT_TRUE(outcome->kind == OutcomeKind::kWorkerDied ||
                outcome->kind == OutcomeKind::kSessionLost ||
                outcome->kind == OutcomeKind::kNotReady)
        << to_string(outcome->kind) << outcome->message;
  }
  return first.payload == "4" && second.payload == "6";
}

class HostFaultsTest : public HostTest, public ::testing::WithParamInterface<ZygoteMode> {};

TEST_P(HostFaultsTest, WhicheverSystemCallFailsNothingHangsAndNothingIsLeft) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.zygote = GetParam();
  config_.settings.workers.start_timeout = 5s;
  config_.settings.workers.kill_timeout = 2s;  // of a worker whose order to start was lost
  config_.sweep = false;                       // hundreds of calls that matter to nobody
  write_app(kApp);
  config_.app = path();
  int lives = 0;
  for (long nth = 1;; ++nth, ++lives) {
    SCOPED_TRACE(nth);
    const auto begin = std::chrono::steady_clock::now();
    os::fault::fail_nth(nth, EMFILE);
    const bool ok = live(config_);
    const bool reached = os::fault::passed() >= nth;
    SCOPED_TRACE(os::fault::where());
    os::fault::fail_nth(0, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
    leaks_.expect_none();
    if (HasFailure()) break;
    if (!reached) {
      EXPECT_TRUE(ok);
      break;
    }
  }
  EXPECT_GT(lives, 20) << "the failures reached the calls";
}

INSTANTIATE_TEST_SUITE_P(Modes, HostFaultsTest,
                         ::testing::Values(ZygoteMode::kAuto, ZygoteMode::kOff),
                         [](const auto& mode) {
                           return mode.param == ZygoteMode::kAuto ? "Zygote" : "Exec";
                         });

// A whole session of work on fake workers, which come and go in milliseconds: calls, a session,
// shared memory both ways, a stream, a death, a recycling, a drain. Returns whether all went as if
// nothing had failed.
bool work(const HostConfig& config) {
  auto host = Host::start(config);
  if (!host) return false;
  Driver& driver = **host;
  bool well = true;
  const auto take = [&](const Outcome& outcome, OutcomeKind expected) {
    well = well && outcome.kind == expected;
    EXPECT_TRUE(outcome.kind == expected || outcome.kind == OutcomeKind::kWorkerDied ||
                outcome.kind == OutcomeKind::kSessionLost ||
                outcome.kind == OutcomeKind::kNotReady || outcome.kind == OutcomeKind::kCircuitOpen)
        << to_string(outcome.kind) << " " << outcome.message;
  };
  const auto submit = [&](Call call) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    driver.submit(std::move(call), [promise](Outcome&& o) { promise->set_value(std::move(o)); });
    return promise->get_future();
  };
  for (int i = 0; i < 3; ++i) {
    const Outcome echo = driver.call({.function = "echo", .payload = "[7]", .deadline = 20s});
    take(echo, OutcomeKind::kOk);
    EXPECT_TRUE(!echo.ok() || echo.payload == "7");
    take(submit({.function = "count", .session = "s", .deadline = 20s}).get(), OutcomeKind::kOk);
  }
  Call carrying{.function = "attach_echo", .deadline = 20s};
  carrying.attachments.push_back({"x", Buffer(std::string(100'000, 'x')), "", {}});
  const Outcome carried = driver.call(carrying);
  take(carried, OutcomeKind::kOk);  // no memory to share is no failure: the socket carries it
  EXPECT_TRUE(!carried.ok() ||
              (carried.attachments.size() == 1 &&
               carried.attachments[0].data.view() == carrying.attachments[0].data.view()));
  std::promise<Outcome> streamed;
  std::atomic<int> items = 0;
  const CallId stream = driver.stream(
      {.function = "items", .payload = "[40]", .deadline = 20s}, [&](std::string&&) { ++items; },
      [&](Outcome&& o) { streamed.set_value(std::move(o)); });
  driver.grant(stream, 100);
  const Outcome end = streamed.get_future().get();
  take(end, OutcomeKind::kOk);
  EXPECT_TRUE(!end.ok() || items == 40) << items;
  take(driver.call({.function = "crash", .payload = "[6]", .deadline = 20s}),
       OutcomeKind::kWorkerDied);
  driver.recycle(1);
  take(driver.call({.function = "echo", .payload = "[7]", .deadline = 20s}), OutcomeKind::kOk);
  std::promise<void> drained;
  driver.drain(2s, [&] { drained.set_value(); });
  auto over = drained.get_future();
  EXPECT_EQ(over.wait_for(15s), std::future_status::ready) << "the drain hangs";
  return well;
}

class HostWorkTest : public HostTest {
 protected:
  HostWorkTest() {
    config_.settings.pool.backend = Backend::kFake;
    config_.settings.pool.workers = 2;
    config_.settings.workers.start_timeout = 5s;
    config_.settings.calls.grace = 200ms;
    config_.settings.quarantine.deaths = 0;
    config_.sweep = false;
    config_.app = "standard";
  }
};

TEST_F(HostWorkTest, AWholeSessionOfWorkSurvivesTheFailureOfAnySystemCall) {
  int lives = 0;
  for (long nth = 1;; ++nth, ++lives) {
    const int error = nth % 2 == 0 ? ENOMEM : EMFILE;
    SCOPED_TRACE("call " + std::to_string(nth) + " fails with " + std::to_string(error));
    const auto begin = std::chrono::steady_clock::now();
    os::fault::fail_nth(nth, error);
    const bool well = work(config_);
    const bool reached = os::fault::passed() >= nth;
    SCOPED_TRACE(os::fault::where());
    os::fault::fail_nth(0, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
    leaks_.expect_none();
    if (HasFailure()) return;
    if (!reached) {
      EXPECT_TRUE(well);
      break;
    }
  }
  std::printf("%d lives until none of their calls failed\n", lives);
  EXPECT_GT(lives, 100) << "the failures reached the calls";
}

// Goal: credit is the stream's and not its worker's: when the first dies before it began, the next
// may send as many.
TEST_F(HostWorkTest, AStreamKeepsItsCreditOnItsNextWorker) {
  config_.settings.pool.workers = 1;
  auto host = Host::start(config_);
  ASSERT_TRUE(host);
  const Outcome first = (*host)->call({.function = "pid", .deadline = 20s});
  ASSERT_TRUE(first.ok()) << first.message;
  const auto pid = static_cast<pid_t>(std::stol(first.payload));
  ::kill(pid, SIGSTOP);
  std::promise<Outcome> ended;
  std::atomic<int> items = 0;
  const CallId stream = (*host)->stream(
      {.function = "items", .payload = "[40]", .deadline = 20s}, [&](std::string&&) { ++items; },
      [&](Outcome&& o) { ended.set_value(std::move(o)); });
  (*host)->grant(stream, 24);
  ::kill(pid, SIGKILL);
  const Outcome end = ended.get_future().get();
  EXPECT_EQ(end.kind, OutcomeKind::kOk) << end.message;
  EXPECT_EQ(end.attempts, 2U);
  EXPECT_EQ(items, 40);
}

// The same for the guard, whose calls are fork, signalfd, dup, read, write …: it is another
// process.
class GuardFaultsTest : public HostWorkTest {
 protected:
  GuardFaultsTest() {
    const std::filesystem::path built =
        std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const auto own = directory_ / "libexec";
    std::filesystem::create_directories(own);
    std::filesystem::create_symlink(built / "keelback-guard-faulty", own / "keelback-guard");
    std::filesystem::create_symlink(built / "keelback-fakeworker", own / "keelback-fakeworker");
    ::setenv("KEELBACK_LIBEXEC_DIR", own.c_str(), 1);
  }
  ~GuardFaultsTest() override {
    for (const char* name : {"KEELBACK_LIBEXEC_DIR", "KEELBACK_FAULT_NTH", "KEELBACK_FAULT_MARK"}) {
      ::unsetenv(name);
    }
  }
};

TEST_F(GuardFaultsTest, AWholeSessionOfWorkSurvivesTheFailureOfAnySystemCallOfTheGuard) {
  const std::string mark = (directory_ / "mark").string();
  ::setenv("KEELBACK_FAULT_MARK", mark.c_str(), 1);
  long lives = 0;
  for (long nth = 1;; ++nth, ++lives) {
    SCOPED_TRACE(nth);
    std::filesystem::remove(mark);
    ::setenv("KEELBACK_FAULT_NTH", std::to_string(nth).c_str(), 1);
    const auto begin = std::chrono::steady_clock::now();
    const bool well = work(config_);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
    leaks_.expect_none();
    if (HasFailure()) return;
    long passed = nth;  // a guard that was killed has not said
    std::ifstream(mark) >> passed;
    if (passed < nth && well) break;
    ASSERT_LT(nth, 5000) << "it never gets through";
  }
  std::printf("%ld lives\n", lives);
  EXPECT_GT(lives, 20);
}

// Goal: a guard that cannot live costs the service, said with its reason, and not the machine.
TEST_F(GuardFaultsTest, AGuardThatCannotLiveIsNotBroughtBackInALoop) {
  ::setenv("KEELBACK_FAULT_NTH", "1", 1);
  auto host = Host::start(config_);
  ASSERT_TRUE(host);
  std::set<std::string> states;
  int deaths = 0;
  const auto until = std::chrono::steady_clock::now() + 1s;
  pid_t last = 0;
  while (std::chrono::steady_clock::now() < until) {
    states.insert((*host)->info().start.state);
    for (const pid_t pid : os::children_of(::getpid())) {
      if (pid != last) ++deaths;
      last = pid;
    }
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(states.contains("down"));
  EXPECT_LE(deaths, 10) << "0, 200, 400 ms … apart";
  const Outcome refused = (*host)->call({.function = "echo", .payload = "[1]", .deadline = 5s});
  EXPECT_FALSE(refused.ok());
  ::unsetenv("KEELBACK_FAULT_NTH");
  EXPECT_TRUE(eventually([&] {
    return (*host)->call({.function = "echo", .payload = "[1]", .deadline = 5s}).ok();
  })) << "and it comes back by itself";
  host->reset();
}

// Goal: whatever a worker sends costs the call that it had, and the pool goes on.
TEST_F(HostWorkTest, AWorkerThatBreaksTheProtocolCostsItsOwnCallOnly) {
  for (const char* script :
       {"garbage_after=2", "half_frame_after=2", "duplicate_reply", "zombie_reply", "zombie_nested",
        "crash_after_calls=2", "unclean_every=2"}) {
    SCOPED_TRACE(script);
    config_.app = script;
    auto host = Host::start(config_);
    ASSERT_TRUE(host);
    int ok = 0;
    for (int i = 0; i < 12; ++i) {
      const std::string value = std::to_string(1000 + i);
      const Outcome outcome =
          (*host)->call({.function = "echo", .payload = "[" + value + "]", .deadline = 20s});
      EXPECT_TRUE(outcome.ok() || outcome.kind == OutcomeKind::kWorkerDied ||
                  outcome.kind == OutcomeKind::kCircuitOpen)
          << to_string(outcome.kind) << " " << outcome.message;
      EXPECT_TRUE(!outcome.ok() || outcome.payload == value) << "the answer of another call";
      ok += outcome.ok();
    }
    EXPECT_GT(ok, 0);
  }
}

}  // namespace
}  // namespace keelback::host
