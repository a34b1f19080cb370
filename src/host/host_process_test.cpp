// The host with real Python processes: how they come, die, and are gone.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <future>
#include <thread>

#include "host/host_fixture.h"

namespace keelback::host {
namespace {

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

// Goal: a worker's death takes along what it had started, in its group, in sessions of their own,
// and as daemons.
TEST_F(HostTest, ADeadWorkersDescendantsDieWithIt) {
  start();
  const Outcome left = call("leave_behind");
  const std::vector<pid_t> descendants = numbers_in(left.payload);
  ASSERT_EQ(descendants.size(), 4U) << left.payload << left.message;
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
  ASSERT_EQ(descendants.size(), 4U);
  const auto begin = std::chrono::steady_clock::now();
  host_.reset();
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took, 100ms);
  for (pid_t pid : descendants) EXPECT_FALSE(is_alive(pid)) << pid;
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

// Goal: starts that a zygote owed when it died are no failed starts: the next zygote makes them,
// and calls wait instead of hearing that no worker can start.
TEST_F(HostTest, StartsThatADeadZygoteOwedAreMadeByTheNext) {
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const auto zygote = static_cast<pid_t>(host_->info().start.zygote_pid);
  ASSERT_GT(zygote, 0);
  ASSERT_EQ(::kill(zygote, SIGSTOP), 0);
  for (const pid_t pid : pids()) ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return host_->info().stats.workers.starting == 2; }));
  std::promise<Outcome> promise;
  host_->submit({.function = "twice", .payload = "[4]"},
                [&](Outcome&& outcome) { promise.set_value(std::move(outcome)); });
  ASSERT_EQ(::kill(zygote, SIGKILL), 0);
  const Outcome outcome = promise.get_future().get();
  EXPECT_EQ(outcome.kind, OutcomeKind::kOk) << outcome.message;
  EXPECT_TRUE(eventually([&] { return ready() == 2; }));
}

// Goal: a zygote that hangs is replaced once a start has waited for it in vain: it cannot keep the
// pool from ever having a worker again.
TEST_F(HostTest, AZygoteThatHangsIsReplaced) {
  config_.settings.workers.start_timeout = 2s * test::stretch();
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const auto zygote = static_cast<pid_t>(host_->info().start.zygote_pid);
  ASSERT_GT(zygote, 0);
  ASSERT_EQ(::kill(zygote, SIGSTOP), 0);
  for (const pid_t pid : pids()) ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] {
    const StartPath path = host_->info().start;
    return path.state == "up" && path.zygote_pid != zygote && ready() == 2;
  }));
  EXPECT_EQ(call("twice", "[4]").payload, "8");
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

// Goal: SIGKILL of the supervisor leaves nothing after a second: not workers that hold the GIL, not
// what they started in their group, in sessions of their own, or as daemons. The program's other
// children are none of our business.
TEST_F(HostTest, AKilledSupervisorLeavesNothing) {
  auto report = os::make_pipe();
  ASSERT_TRUE(report);
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    const pid_t bystander = ::fork();
    if (bystander == 0) {
      for (;;) ::pause();
    }
    config_.loop = new EventLoop;  // the other one's thread is not here
    Driver& host = start();
    std::string line = std::to_string(bystander) + call("leave_behind").payload;
    while (ready() < 2) std::this_thread::sleep_for(1ms);
    for (int i = 0; i < 2; ++i) {
      host.submit({.function = "hold_gil", .payload = "[]", .deadline = 100s}, [](Outcome&&) {});
    }
    while (host.info().stats.workers.busy < 2) std::this_thread::sleep_for(1ms);
    for (pid_t pid : pids()) line += "," + std::to_string(pid);
    line += "," + std::to_string(host.info().start.zygote_pid);
    for (pid_t pid : os::children_of(::getpid())) {
      if (pid != bystander) line += "," + std::to_string(pid);  // the guard
    }
    line += "\n";
    (void)!::write(report->write.get(), line.data(), line.size());
    for (;;) ::pause();
  }
  std::string text(1000, '\0');
  text.resize(os::read_some(report->read.get(), text.data(), text.size()).value_or(0));
  std::vector<pid_t> all = numbers_in(text);
  ASSERT_EQ(all.size(), 1U + 4 + 2 + 1 + 1) << text;
  const pid_t bystander = all.front();
  all.erase(all.begin());
  for (pid_t pid : all) EXPECT_TRUE(is_alive(pid)) << pid;
  const auto killed_at = std::chrono::steady_clock::now();
  ::kill(supervisor, SIGKILL);
  EXPECT_TRUE(eventually([&] { return std::ranges::none_of(all, is_alive); }));
  EXPECT_LT(std::chrono::steady_clock::now() - killed_at, 1s * test::stretch());
  EXPECT_TRUE(is_alive(bystander));
  ::kill(bystander, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);
}

// Goal: what escapes because guard and supervisor were killed together falls to the next start.
TEST_F(HostTest, TheNextStartSweepsWhatADeadSupervisorAndItsDeadGuardLeft) {
  auto report = os::make_pipe();
  ASSERT_TRUE(report);
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    config_.loop = new EventLoop;  // the other one's thread is not here
    start();
    std::string line = call("leave_behind").payload;
    line += "," + std::to_string(os::children_of(::getpid()).at(0)) + "\n";
    (void)!::write(report->write.get(), line.data(), line.size());
    for (;;) ::pause();
  }
  std::string text(1000, '\0');
  text.resize(os::read_some(report->read.get(), text.data(), text.size()).value_or(0));
  std::vector<pid_t> left = numbers_in(text);
  ASSERT_EQ(left.size(), 4U + 1) << text;
  ::kill(supervisor, SIGSTOP);
  ::kill(left.back(), SIGKILL);  // the guard, while nobody can start another
  ::kill(supervisor, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);
  EXPECT_TRUE(is_alive(left[1])) << "in a session of its own, it has escaped";
  start();
  EXPECT_TRUE(eventually([&] { return std::ranges::none_of(left, is_alive); }));
  EXPECT_EQ(call("twice", "[2]").payload, "4") << "our own are not swept";
}

// Goal: two supervisors in one process never touch each other's workers.
TEST_F(HostTest, TwoHostsInOneProcessLeaveEachOtherAlone) {
  start();
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const auto first = pids();
  auto second = Host::start(config_);
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)->call({.function = "twice", .payload = "[2]", .deadline = 20s}).payload, "4");
  second->reset();
  EXPECT_EQ(pids(), first);
  EXPECT_EQ(call("twice", "[2]").payload, "4");
}

// Goal: a worker whose private memory has grown is replaced between calls, one that is merely large
// because of the zygote is not.
TEST_F(HostTest, AWorkerWhosePrivateMemoryGrowsIsReplaced) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.max_rss = 64_MiB;
  start(std::string(kApp) +
        "hoard = [bytearray(200 << 20)]\n"
        "@keelback.function\n"
        "def grow(mib):\n"
        "    hoard.append(b'x' * (mib << 20))\n");
  ASSERT_TRUE(eventually([&] { return ready() == 1; }));
  const auto before = pids();
  EXPECT_TRUE(call("grow", "[100]").ok());
  EXPECT_TRUE(eventually([&] { return ready() == 1 && !pids().empty() && pids() != before; }));
}

// Goal: a call that asks for more than workers.memory_limit fails alone, typed, and its worker goes
// on.
TEST_F(HostTest, AMemoryLimitMakesAnErrorOfWhatAsksForTooMuch) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.memory_limit = 400_MiB;
  start(std::string(kApp) +
        "@keelback.function\n"
        "def hog(mib):\n"
        "    return len(bytearray(mib << 20))\n");
  const Outcome modest = call("hog", "[50]");
  EXPECT_EQ(modest.kind, OutcomeKind::kOk) << modest.message;
  const Outcome greedy = call("hog", "[1000]");
  EXPECT_EQ(greedy.kind, OutcomeKind::kError) << to_string(greedy.kind);
  EXPECT_EQ(greedy.effect, Effect::kDone);
  ASSERT_TRUE(greedy.python);
  EXPECT_EQ(greedy.python->type, "MemoryError");
  EXPECT_EQ(call("hog", "[50]").worker, modest.worker);
}

// Goal: a limit that a worker cannot live with is a failed start that names it, not a worker that
// is ready and then cannot answer.
TEST_F(HostTest, AMemoryLimitThatLeavesNoRoomIsAFailedStart) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.memory_limit = 10_MiB;
  for (const ZygoteMode mode : {ZygoteMode::kForce, ZygoteMode::kOff}) {
    config_.settings.workers.zygote = mode;
    start();
    const Outcome outcome = call("twice", "[3]");
    EXPECT_EQ(outcome.kind, OutcomeKind::kNotReady) << to_string(outcome.kind);
    ASSERT_TRUE(outcome.death) << outcome.message;
    EXPECT_EQ(outcome.death->cause, "start_failed");
    EXPECT_NE((outcome.death->detail + outcome.death->stderr_tail).find("emory"), std::string::npos)
        << outcome.death->detail << "\n"
        << outcome.death->stderr_tail;
    if (mode == ZygoteMode::kForce) {
      EXPECT_NE(outcome.death->detail.find("workers.memory_limit"), std::string::npos)
          << outcome.death->detail;
    }
    host_.reset();
  }
}

// Goal: a descriptor that the program left inheritable reaches no worker, started either way.
TEST_F(HostTest, WorkersInheritNoDescriptorButTheirOwn) {
  const std::string secret = (directory_ / "secret").string();
  const os::Fd plain(::open(secret.c_str(), O_RDWR | O_CREAT, 0600));  // no O_CLOEXEC
  const os::Fd high(::fcntl(plain.get(), F_DUPFD, 100));
  ASSERT_TRUE(plain && high);
  for (const ZygoteMode mode : {ZygoteMode::kForce, ZygoteMode::kOff}) {
    config_.settings.workers.zygote = mode;
    start(std::string(kApp) +
          "@keelback.function\n"
          "def descriptors():\n"
          "    found = []\n"
          "    for name in os.listdir('/proc/self/fd'):\n"
          "        try:\n"
          "            found.append(os.readlink('/proc/self/fd/' + name).split('[')[0].split(' "
          "')[0])\n"
          "        except FileNotFoundError:\n"
          "            pass  # the listing's own\n"
          "    return sorted(found)\n");
    const Outcome listed = call("descriptors");
    ASSERT_EQ(listed.kind, OutcomeKind::kOk) << listed.message;
    std::string text = listed.payload;
    const auto take = [&](const std::string& name) {
      int count = 0;
      for (std::size_t at; (at = text.find("\"" + name + "\"")) != std::string::npos; ++count) {
        text.erase(at, name.size() + 2);
      }
      return count;
    };
    EXPECT_EQ(take("/dev/null"), 1) << "stdin";
    EXPECT_EQ(take("socket:"), 2) << "calls and control";
    EXPECT_LE(take("pipe:"), 5) << "stdout, stderr, the lifeline";
    EXPECT_LE(take("/memfd:keelback-marks"), 3) << "to map, for a dump, and for a stack";
    EXPECT_LE(take("/memfd:keelback-shared"), 1);
    EXPECT_EQ(text.find_first_not_of("[], "), std::string::npos) << "more: " << listed.payload;
    host_.reset();
  }
}

// Goal: a machine that cannot fork at the moment is waited for, and named.
TEST_F(HostTest, AForkThatFailsIsTriedAgainAndNamed) {
  config_.settings.pool.workers = 1;
  Driver& host = start(
      "from keelback import native\n"
      "fork, left = native.fork, [2]\n"
      "def failing():\n"
      "    if left[0]:\n"
      "        left[0] -= 1\n"
      "        raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
      "    return fork()\n"
      "native.fork = failing\n" +
      std::string(kApp));
  const Outcome first = call("twice", "[2]");
  EXPECT_EQ(first.kind, OutcomeKind::kNotReady) << to_string(first.kind);
  EXPECT_EQ(first.effect, Effect::kNone);
  EXPECT_NE(first.message.find("temporarily unavailable"), std::string::npos) << first.message;
  EXPECT_TRUE(eventually([&] { return call("twice", "[2]").payload == "4"; }));
  EXPECT_EQ(host.info().start.mode, "zygote");
}

TEST_F(HostTest, AnInterpreterThatIsNotThereIsNamed) {
  for (const ZygoteMode mode : {ZygoteMode::kAuto, ZygoteMode::kOff}) {
    config_.settings.workers.zygote = mode;
    config_.settings.workers.python = "/nowhere/python3";
    start();
    const Outcome refused = call("twice", "[2]");
    EXPECT_EQ(refused.kind, OutcomeKind::kNotReady);
    EXPECT_NE(refused.message.find("/nowhere/python3"), std::string::npos) << refused.message;
    host_.reset();
  }
}

}  // namespace
}  // namespace keelback::host
