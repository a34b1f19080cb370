// Workers in control groups of their own: what dies with them, and what is left of the groups.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <sstream>

#include "host/host_fixture.h"
#include "host/worker_process.h"
#include "os/cgroup.h"

namespace keelback::host {
namespace {

namespace fs = std::filesystem;

// Nothing but its control group tells whose it is.
constexpr const char* kEscape = R"py(
import resource

@keelback.function
def escape():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            resource.setrlimit(15, (4711, 4711))  # RLIMIT_RTTIME: it is nobody's kin
            os.chdir("/")
            os.write(write, str(os.getpid()).encode())
            os.closerange(0, 256)
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    found = int(os.read(read, 32))
    os.close(read)
    while b"sleep" not in open(f"/proc/{found}/cmdline", "rb").read():
        time.sleep(0.001)
    return found
)py";

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class CgroupTest : public HostTest {
 protected:
  // Where this process's workers get their groups; empty: they get none here.
  static std::string parent() {
    const auto own = os::own_cgroup();
    if (!own) return {};
    const std::string probe = *own + "/keelback-test";
    if (!fs::create_directory(probe)) return {};
    const bool usable = ::access((probe + "/cgroup.kill").c_str(), W_OK) == 0;
    os::remove_cgroup(probe);
    return usable ? *own : std::string();
  }
  void SetUp() override {
    std::error_code error;
    parent_ = parent();
    config_.settings.workers.cgroup = CgroupMode::kAuto;
    if (parent_.empty()) GTEST_SKIP() << "no control groups of version 2 can be made here";
  }
  // The groups of the pools of that process.
  std::vector<fs::path> pools_of(pid_t pid) const {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(parent_, error)) {
      const std::string name = entry.path().filename();
      if (name.starts_with(fmt::format("keelback-{}.", pid))) found.push_back(entry.path());
    }
    return found;
  }
  static std::string group_of(pid_t pid) { return text_of(fmt::format("/proc/{}/cgroup", pid)); }
  void serve(ZygoteMode zygote = ZygoteMode::kAuto) {
    config_.settings.workers.zygote = zygote;
    start(std::string(kApp) + kEscape);
    ASSERT_TRUE(eventually([&] { return ready() == 2; }));
  }
  pid_t escaped(const std::string& session) {
    const Outcome outcome =
        host_->call({.function = "escape", .payload = "[]", .session = session, .deadline = 20s});
    const auto pids = numbers_in(outcome.payload);
    EXPECT_EQ(pids.size(), 1U) << outcome.message;
    return pids.empty() ? 0 : pids.front();
  }
  // Forks a supervisor that has let a process escape; returns the supervisor, its guard and that.
  std::vector<pid_t> other_supervisor() {
    auto report = os::make_pipe();
    EXPECT_TRUE(report);
    const pid_t supervisor = ::fork();
    if (supervisor == 0) {
      config_.loop = new EventLoop;  // the other one's thread is not here
      start(std::string(kApp) + kEscape);
      const std::string line =
          fmt::format("{},{}\n", os::children_of(::getpid()).at(0), escaped("one"));
      (void)!::write(report->write.get(), line.data(), line.size());
      for (;;) ::pause();
    }
    std::string text(1000, '\0');
    text.resize(os::read_some(report->read.get(), text.data(), text.size()).value_or(0));
    std::vector<pid_t> pids = numbers_in(text);
    pids.insert(pids.begin(), supervisor);
    return pids;
  }

  std::string parent_;
};

// Goal: what has left its group, its session, its parents, its descriptors, its environment and its
// limit dies with its worker and with no other; the directory goes, too.
TEST_F(CgroupTest, WhatHidEverythingDiesWithItsWorker) {
  for (const ZygoteMode zygote : {ZygoteMode::kAuto, ZygoteMode::kOff}) {
    serve(zygote);
    const pid_t one = escaped("one"), two = escaped("two");
    const std::string group = group_of(one);
    ASSERT_NE(group, group_of(two)) << "each worker has its own";
    ASSERT_EQ(pools_of(::getpid()).size(), 1U);
    const fs::path pool = pools_of(::getpid()).front();
    const auto alive_in = [&](const fs::path& worker) { return text_of(worker / "cgroup.procs"); };
    const auto workers = host_->workers();
    for (const WorkerInfo& worker : workers) {
      const fs::path place = pool / to_string(worker.worker);
      if (alive_in(place).find(std::to_string(one)) == std::string::npos) continue;
      EXPECT_NE(alive_in(place).find(std::to_string(worker.pid)), std::string::npos);
      ::kill(static_cast<pid_t>(worker.pid), SIGKILL);
      EXPECT_TRUE(eventually([&] { return !is_alive(one) && !fs::exists(place); }));
    }
    EXPECT_FALSE(is_alive(one));
    EXPECT_TRUE(is_alive(two));
    EXPECT_EQ(call("twice", "[2]").payload, "4");
    host_.reset();
    EXPECT_TRUE(eventually([&] { return !is_alive(two); }));
    EXPECT_TRUE(pools_of(::getpid()).empty());
  }
}

// Goal: nothing is left of a supervisor that is killed: its guard sees to it.
TEST_F(CgroupTest, NothingIsLeftOfAKilledSupervisor) {
  const auto pids = other_supervisor();
  ASSERT_EQ(pids.size(), 3U);
  ASSERT_FALSE(pools_of(pids.front()).empty());
  ::kill(pids.front(), SIGKILL);
  ::waitpid(pids.front(), nullptr, 0);
  EXPECT_TRUE(eventually([&] { return !is_alive(pids.back()); }));
  EXPECT_TRUE(eventually([&] { return pools_of(pids.front()).empty(); }));
}

// Goal: or the next start, if the guard is killed with it.
TEST_F(CgroupTest, TheNextStartSweepsWhatADeadSupervisorAndItsDeadGuardLeft) {
  const auto pids = other_supervisor();
  ASSERT_EQ(pids.size(), 3U);
  ::kill(pids[0], SIGSTOP);
  ::kill(pids[1], SIGKILL);  // the guard, while nobody can start another
  ::kill(pids[0], SIGKILL);
  ::waitpid(pids[0], nullptr, 0);
  EXPECT_TRUE(is_alive(pids[2]));
  EXPECT_FALSE(pools_of(pids[0]).empty());
  serve();
  EXPECT_TRUE(eventually([&] { return !is_alive(pids[2]); }));
  EXPECT_TRUE(pools_of(pids[0]).empty());
}

// Goal: nobody gets groups that did not ask for them.
TEST_F(CgroupTest, NoneIsMadeWhenTheyAreOff) {
  config_.settings.workers.cgroup = CgroupMode::kOff;
  serve();
  EXPECT_TRUE(pools_of(::getpid()).empty());
  for (const pid_t pid : pids()) EXPECT_EQ(group_of(pid), group_of(::getpid()));
}

// Goal: a limit that cannot be held is no limit: whoever requires it is not served without it.
TEST_F(CgroupTest, ALimitWithoutItsControllerIsRefusedOrNamed) {
  if (os::has_controller(parent_, "memory")) GTEST_SKIP() << "there is one here";
  config_.settings.workers.memory_max = 64_MiB;
  serve();
  EXPECT_EQ(call("twice", "[2]").payload, "4");
  host_.reset();
  config_.settings.workers.cgroup = CgroupMode::kRequire;
  const auto refused = Host::start(config_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("no memory controller"), std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(pools_of(::getpid()).empty());
}

// Goal: what it requires it has from its first moment on.
TEST_F(CgroupTest, ARequiredGroupIsThereBeforeTheWorkerIs) {
  config_.settings.workers.cgroup = CgroupMode::kRequire;
  serve();
  for (const WorkerInfo& worker : host_->workers()) {
    EXPECT_NE(group_of(static_cast<pid_t>(worker.pid)).find(to_string(worker.worker)),
              std::string::npos);
  }
}

TEST(CgroupDirectory, IsFoundBelowWhatIsMounted) {
  const char* whole = "36 25 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
  const char* part = "1 0 0:1 / / rw - ext4 /dev/sda rw\n36 25 0:31 /box /cg rw - cgroup2 c rw\n";
  const char* older = "36 25 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
  EXPECT_EQ(os::cgroup_directory(whole, "/"), "/sys/fs/cgroup");
  EXPECT_EQ(os::cgroup_directory(whole, "/a.slice/b.service"), "/sys/fs/cgroup/a.slice/b.service");
  EXPECT_EQ(os::cgroup_directory(part, "/box"), "/cg");
  EXPECT_EQ(os::cgroup_directory(part, "/box/in"), "/cg/in");
  EXPECT_EQ(os::cgroup_directory(part, "/boxes/in"), "");
  EXPECT_EQ(os::cgroup_directory(older, "/"), "");
  EXPECT_EQ(os::cgroup_directory("nonsense", "/"), "");
}

}  // namespace
}  // namespace keelback::host
