// The life of zygotes, and what workers have in common however they are started.
#include <signal.h>

#include <future>
#include <set>

#include "host/host_fixture.h"

namespace keelback::host {
namespace {

class ZygoteTest : public HostTest {
 protected:
  // Its import leaves a note when it begins, and another one when what it registered for exit runs.
  std::string noting_app(const std::string& more = "") const {
    return "import atexit, os, keelback\n"
           "NOTES = " +
           quoted("notes") +
           "\n"
           "def note(text):\n"
           "    with open(NOTES, 'a') as file:\n"
           "        file.write(f'{text} {os.getpid()}\\n')\n"
           "note('import')\n"
           "atexit.register(note, 'exit')\n"
           "@keelback.function\n"
           "def version():\n"
           "    return " +
           std::to_string(version_) + "\n" + more;
  }
  std::string quoted(const std::string& name) const {
    return "'" + (directory_ / name).string() + "'";
  }
  std::vector<std::string> notes() const {
    std::ifstream file(directory_ / "notes");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  bool noted(const std::string& line) const { return std::ranges::count(notes(), line) == 1; }
  std::string reload() {
    std::promise<std::string> done;
    host_->reload([&](std::string error) { done.set_value(std::move(error)); });
    return done.get_future().get();
  }
  pid_t zygote() { return static_cast<pid_t>(host_->info().start.zygote_pid); }

  int version_ = 1;
};

// Goal: what the import registered for exit runs once, in the zygote, when the pool is stopped; and
// stopping stays quick.
TEST_F(ZygoteTest, StoppingAPoolRunsWhatTheImportRegisteredForExit) {
  config_.settings.pool.workers = 4;
  start(
      noting_app("import tempfile\nfolder = tempfile.TemporaryDirectory()\n"
                 "note(folder.name)\n"));
  ASSERT_TRUE(eventually([&] { return ready() == 4; }));
  const std::string pid = std::to_string(zygote());
  const std::string folder = notes().at(1).substr(0, notes().at(1).find(' '));
  ASSERT_TRUE(std::filesystem::exists(folder));
  const auto begin = std::chrono::steady_clock::now();
  host_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 100ms);
  EXPECT_EQ(notes(),
            (std::vector<std::string>{"import " + pid, folder + " " + pid, "exit " + pid}));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

// Goal: an exit function that never ends costs calls.grace and no more.
TEST_F(ZygoteTest, AZygoteThatDoesNotEndIsKilled) {
  config_.settings.calls.grace = 300ms;
  start(noting_app("import time\natexit.register(lambda: (note('begun'), time.sleep(1000)))\n"));
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  const pid_t pid = zygote();
  const auto begin = std::chrono::steady_clock::now();
  host_.reset();
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, 300ms);
  EXPECT_LT(took, 300ms + 500ms * test::stretch());
  EXPECT_TRUE(noted("begun " + std::to_string(pid)));
  EXPECT_FALSE(is_alive(pid));
}

// Goal: a zygote that stands still costs no time at all.
TEST_F(ZygoteTest, AZygoteThatIsStoppedIsNotWaitedFor) {
  config_.settings.calls.grace = 10s;
  start(noting_app());
  ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  ASSERT_EQ(::kill(zygote(), SIGSTOP), 0);
  const auto begin = std::chrono::steady_clock::now();
  host_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s * test::stretch());
}

// Goal: after a reload the old zygote lives until the last worker that it forked has ended, because
// that worker may use what the zygote's end removes. Its workers die with a status all the time.
TEST_F(ZygoteTest, AReloadLeavesTheOldZygoteAliveUntilItsLastWorkerHasEnded) {
  config_.settings.pool.workers = 1;
  config_.settings.sessions.snapshot = SnapshotMode::kOff;  // its session holds the old worker
  Driver& host = start(noting_app());
  const auto in_session = [&] {
    return host.call({.function = "version", .payload = "[]", .session = "ann", .deadline = 20s});
  };
  ASSERT_EQ(in_session().payload, "1");
  const pid_t old = zygote();
  version_ = 2;
  write_app(noting_app());
  ASSERT_EQ(reload(), "");
  ASSERT_TRUE(eventually([&] { return call("version").payload == "2"; }));
  ASSERT_NE(zygote(), old);
  EXPECT_EQ(in_session().payload, "1") << "its worker drains";
  EXPECT_TRUE(is_alive(old));
  EXPECT_FALSE(noted("exit " + std::to_string(old)));
  ASSERT_TRUE(host.end_session_here("ann"));
  EXPECT_TRUE(eventually([&] { return !is_alive(old); }));
  EXPECT_TRUE(noted("exit " + std::to_string(old)));
  EXPECT_EQ(call("version").payload, "2");
}

// Goal: each of several reloads ends the import before it, once.
TEST_F(ZygoteTest, EachImportEndsOnce) {
  start(noting_app());
  std::set<pid_t> zygotes;
  for (version_ = 2; version_ <= 5; ++version_) {
    ASSERT_TRUE(eventually([&] { return ready() == 2; }));
    zygotes.insert(zygote());
    write_app(noting_app());
    ASSERT_EQ(reload(), "");
  }
  for (const pid_t pid : zygotes) {
    EXPECT_TRUE(eventually([&] { return noted("exit " + std::to_string(pid)); })) << pid;
  }
  EXPECT_EQ(zygotes.size(), 4U);
}

// Goal: an application that must not be forked is imported by workers only when the zygote's import
// is over, with all that it held: its lock, and the programs that it started.
TEST_F(ZygoteTest, AFallBackWaitsUntilTheZygotesImportHasEnded) {
  config_.settings.pool.workers = 1;
  config_.settings.workers.start_timeout = 20s * test::stretch();
  start(noting_app("import subprocess\nos.mkdir(" + quoted("lock") +
                   ")\n"
                   "atexit.register(os.rmdir, " +
                   quoted("lock") +
                   ")\n"
                   "note(subprocess.Popen(['sleep', '1000']).pid)\n"));
  EXPECT_EQ(call("version").payload, "1");
  EXPECT_EQ(host_->info().stats.restarts, 0U);
  const StartPath path = host_->info().start;
  EXPECT_EQ(path.mode, "exec");
  EXPECT_EQ(path.state, "fallback");
  for (const char* words : {"child from module app", "process", "@keelback.worker_setup",
                            "MiB of memory each", "docs/start-modes.md"}) {
    EXPECT_NE(path.reason.find(words), std::string::npos) << words << ": " << path.reason;
  }
  ASSERT_EQ(notes().size(), 5U);
  const std::string zygote = notes().at(0).substr(7);
  EXPECT_EQ(notes().at(2), "exit " + zygote);
  EXPECT_TRUE(eventually([&] { return !is_alive(std::stoi(notes().at(1))); }));
  EXPECT_TRUE(is_alive(std::stoi(notes().at(4))));
}

// Goal: with `force` nothing is forked that must not be, and the failed start says what is shared.
TEST_F(ZygoteTest, ForceRefusesAndSaysWhatWouldBeShared) {
  config_.settings.workers.zygote = ZygoteMode::kForce;
  start(noting_app("pipe = os.pipe()\n"));
  const Outcome refused = call("version");
  EXPECT_EQ(refused.kind, OutcomeKind::kNotReady);
  for (const char* words : {"pipe from module app", "all workers", "@keelback.worker_setup"}) {
    EXPECT_NE(refused.message.find(words), std::string::npos) << words << ": " << refused.message;
  }
}

// Goal: a reload to code that must not be forked says why, and one to code that may be is forked.
TEST_F(ZygoteTest, AReloadToUnsafeCodeSaysWhy) {
  start(noting_app());
  ASSERT_EQ(call("version").payload, "1");
  version_ = 2;
  write_app(noting_app("pipe = os.pipe()\n"));
  ASSERT_EQ(reload(), "");
  ASSERT_TRUE(eventually([&] { return call("version").payload == "2"; }));
  EXPECT_EQ(host_->info().start.state, "fallback");
  const std::string reason = host_->info().start.reason;
  EXPECT_NE(reason.find("pipe from module app"), std::string::npos) << reason;
  version_ = 3;
  write_app(noting_app());
  ASSERT_EQ(reload(), "");
  ASSERT_TRUE(eventually([&] { return call("version").payload == "3"; }));
  EXPECT_EQ(host_->info().start.mode, "zygote");
  EXPECT_EQ(host_->info().start.reason, "");
}

// Goal: what the environment says before the import is the same however workers are started:
// threads of numeric libraries, and the order of sets of texts, which all workers agree on.
TEST_F(ZygoteTest, ForkedAndExecutedWorkersHaveOneEnvironment) {
  const std::string app =
      "import os, keelback\n"
      "NAMES = ('OMP', 'OPENBLAS', 'MKL', 'NUMEXPR')\n"
      "seen = ' '.join(os.environ.get(n + '_NUM_THREADS', '-') for n in NAMES)\n"
      "order = ' '.join({str(n) for n in range(50)})\n"
      "@keelback.function\n"
      "def threads():\n"
      "    return seen\n"
      "@keelback.function\n"
      "def texts():\n"
      "    return [os.getpid(), order + str(hash('x'))]\n";
  for (const ZygoteMode mode : {ZygoteMode::kForce, ZygoteMode::kOff}) {
    config_.settings.workers.zygote = mode;
    for (const auto& [setting, expected] :
         {std::pair{1U, "\"7 1 1 1\""}, {3U, "\"7 3 3 3\""}, {0U, "\"7 - - -\""}}) {
      config_.settings.workers.blas_threads = setting;
      config_.environment = {"OMP_NUM_THREADS=7"};
      start(app);
      EXPECT_EQ(call("threads").payload, expected);
      ASSERT_TRUE(eventually([&] { return ready() == 2; }));
      std::set<std::string> workers, orders;
      for (int turn = 0; turn < 1000 && workers.size() < 2; ++turn) {
        std::promise<Outcome> other;
        host_->submit({.function = "texts", .payload = "[]"},
                      [&](Outcome&& outcome) { other.set_value(std::move(outcome)); });
        for (const Outcome& outcome : {call("texts"), other.get_future().get()}) {
          const std::size_t comma = outcome.payload.find(',');
          workers.insert(outcome.payload.substr(0, comma));
          orders.insert(outcome.payload.substr(comma));
        }
      }
      EXPECT_EQ(workers.size(), 2U);
      EXPECT_EQ(orders.size(), 1U);
      host_.reset();
    }
  }
}

}  // namespace
}  // namespace keelback::host
