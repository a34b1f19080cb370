// The laboratory is tested on real processes: each test lets a defect happen that a broken host or
// a broken laboratory would cause, while a run goes on, and the run must be failed by the invariant
// whose business that is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "chaos/lab.h"
#include "chaos/report.h"
#include "chaos/undo.h"
#include "host/environment.h"
#include "os/fd.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr const char* kScenario = R"(
name = "mutant"
why = "A quick run on which a defect is let loose."
[settings.pool]
workers = 2
min_ready = 1
[settings.calls]
grace = "300ms"
[load]
rate = 100
ramp = "100ms"
deadline = "1s"
[baseline]
for = "1s"
[recovery]
quiet = "300ms"
for = "1s"
[[fault]]
id = "k"
class = "proc.kill"
at = "100ms"
)";

class RealMutants : public testing::Test {
 protected:
  RealMutants() {
    std::string pattern = (fs::temp_directory_path() / "keelback-mutant-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~RealMutants() override { fs::remove_all(directory_); }

  // `defect` is called a few times a second from the baseline on.
  RunResult run(std::function<void()> defect) {
    auto parsed = parse_scenario(kScenario, Level::kLight, scenario_lookup(), "test");
    EXPECT_TRUE(parsed.ok()) << describe(parsed.findings.at(0));
    RunRequest request{.backend = Backend::kFake, .level = Level::kLight, .seed = 4};
    request.out = directory_;
    request.conduct.on_progress = [defect = std::move(defect)](const Progress& progress) {
      if (progress.phase == "baseline" || progress.phase == "recovery") defect();
    };
    auto result = run_scenario(std::move(*parsed.scenario), request);
    EXPECT_TRUE(result) << result.error();
    return std::move(*result);
  }
  static Status status_of(const RunResult& result, std::string_view id) {
    const auto found = std::ranges::find(result.judgement.invariants, id, &CheckResult::id);
    return found == result.judgement.invariants.end() ? Status::kVacuous : found->status;
  }
  void expect_killed_by(std::string_view id, std::function<void()> defect) {
    const RunResult result = run(std::move(defect));
    EXPECT_EQ(status_of(result, id), Status::kBroken) << report_text(result);
    EXPECT_EQ(result.judgement.verdict, Verdict::kSafety) << report_text(result);
  }

  std::string directory_;
};

TEST_F(RealMutants, WithoutADefectNoneOfThemIsBroken) {
  const RunResult result = run([] {});
  for (const char* id : {"I1", "I2", "I3", "I8", "I9", "I10", "I11", "I19", "I20", "I22", "I23"}) {
    EXPECT_EQ(status_of(result, id), Status::kHolds) << id << "\n" << report_text(result);
  }
}

TEST_F(RealMutants, ADescriptorLeakedWithEveryRestartIsI11) {
  std::vector<os::Fd> leaked;
  expect_killed_by("I11", [&] {
    if (auto copy = os::open_null()) leaked.push_back(std::move(*copy));
  });
}

TEST_F(RealMutants, AThreadThatStaysIsI11) {
  std::mutex mutex;
  std::condition_variable over;
  bool done = false;
  std::vector<std::thread> left;
  expect_killed_by("I11", [&] {
    left.emplace_back([&] {
      std::unique_lock lock(mutex);
      over.wait(lock, [&] { return done; });
    });
  });
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  over.notify_all();
  for (std::thread& each : left) each.join();
}

TEST_F(RealMutants, SharedMemoryThatStaysIsI11) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm takes no files of ours";
  const std::string path = std::string(kShared) + std::to_string(::getpid()) + "-mutant";
  expect_killed_by("I11", [&] { std::ofstream(path) << "left"; });
  fs::remove(path);
}

TEST_F(RealMutants, AnOrphanIsI10) {
  pid_t orphan = 0;
  expect_killed_by("I10", [&] {
    if (orphan != 0) return;
    const auto null = os::open_null();
    const int fds[] = {null->get(), null->get(), null->get()};
    const auto pid = os::spawn(
        {"/usr/bin/env", "KEELBACK_OWNER=" + host::owner_of_this_process(), "/bin/sleep", "120"},
        fds);
    ASSERT_TRUE(pid);
    orphan = *pid;
  });
  ::kill(orphan, SIGKILL);  // our own child, not yet reaped
  static_cast<void>(os::reap_own_child(orphan));
}

// A worker's ledger says that a call began twice, which only the host can have brought about.
TEST_F(RealMutants, ACallThatRunsTwiceIsI2) {
  std::atomic<bool> forged = false;
  expect_killed_by("I2", [&] {
    if (forged) return;
    std::ifstream ledger(directory_ + "/effects.log");
    std::string line, last;
    while (std::getline(ledger, line)) {
      if (line.starts_with("E ")) last = line;
    }
    if (last.empty()) return;
    std::ofstream(directory_ + "/effects.log", std::ios::app) << last << "\n";
    forged = true;
  });
}

// Something kills workers that is no fault of the plan's: its losses have no explanation.
TEST_F(RealMutants, ADeathThatNobodyOrderedIsI22) {
  int killed = 0;
  expect_killed_by("I22", [&] {
    if (killed >= 3) return;
    const std::string mine = "KEELBACK_OWNER=" + host::owner_of_this_process();
    for (const pid_t pid : os::all_processes()) {
      if (!os::environment_has(pid, mine)) continue;
      if (!os::environment_value(pid, "KEELBACK_WORKER=")) continue;
      if (const auto handle = os::Pidfd::open(pid); handle && os::environment_has(pid, mine)) {
        static_cast<void>(handle->send_signal(SIGKILL));
        ++killed;
        return;
      }
    }
  });
  EXPECT_GT(killed, 0);
}

}  // namespace
}  // namespace keelback::chaos
