// The application as another user: what it is, and what it cannot do to the daemon.
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>

#include "host/host_fixture.h"
#include "host/install.h"
#include "host/worker_process.h"
#include "os/cgroup.h"

namespace keelback::host {
namespace {

constexpr const char* kHostile = R"py(
IMPORTED_AS = os.getuid()
libc = ctypes.CDLL(None, use_errno=True)

def refused(attack):
    try:
        attack()
    except OSError as error:
        return type(error).__name__
    return "worked"

def trace(pid):
    if libc.ptrace(16, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

@keelback.function
def who():
    return [IMPORTED_AS, *os.getresuid(), *os.getresgid(), os.environ["USER"], os.environ["HOME"]]

@keelback.function
def attack(pid):
    return [
        refused(lambda: os.kill(pid, 0)),
        refused(lambda: trace(pid)),
        refused(lambda: open(f"/proc/{pid}/environ", "rb").read()),
        refused(lambda: open(f"/proc/{pid}/mem", "rb").read(1)),
        refused(lambda: os.listdir(f"/proc/{pid}/fd")),
    ]

@keelback.function
def read(path):
    return refused(lambda: open(path).read())

@keelback.function
def become_root():
    return [refused(lambda: os.setuid(0)), refused(lambda: os.setgroups([0]))]

@keelback.function
def print_anew():
    with open("/dev/stdout", "w") as out:
        out.write("printed\n")
    return True

@keelback.function
def group():
    return open("/proc/self/cgroup").read()
)py";

class UserTest : public HostTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can run workers as somebody else";
    if (!std::filesystem::exists("/usr/bin/python3")) GTEST_SKIP() << "no Python for everybody";
    for (std::filesystem::path at = find_python_directory(); at != "/"; at = at.parent_path()) {
      struct stat info{};
      if (::stat(at.c_str(), &info) < 0 || (info.st_mode & S_IXOTH) == 0) {
        GTEST_SKIP() << at << " is not for everybody";
      }
    }
    config_.settings.workers.python = "/usr/bin/python3";
    config_.settings.workers.user = "nobody";
    config_.settings.workers.cgroup = CgroupMode::kAuto;
    std::filesystem::permissions(directory_, std::filesystem::perms(0755));
  }
  void serve(ZygoteMode zygote) {
    config_.settings.workers.zygote = zygote;
    start(std::string(kApp) + kHostile);
    ASSERT_TRUE(eventually([&] { return ready() == 2; }));
    EXPECT_EQ(host_->info().start.mode, zygote == ZygoteMode::kOff ? "exec" : "zygote");
  }
};

// Goal: all of the application is that user, its import too, and has no way back.
TEST_F(UserTest, TheApplicationIsThatUser) {
  for (const ZygoteMode zygote : {ZygoteMode::kAuto, ZygoteMode::kOff}) {
    serve(zygote);
    const std::string who = call("who").payload;
    EXPECT_TRUE(who.starts_with("[65534,65534,65534,65534,65534,65534,65534,\"nobody\",")) << who;
    EXPECT_EQ(call("become_root").payload, R"(["PermissionError","PermissionError"])");
    EXPECT_EQ(call("print_anew").payload, "true");
    host_.reset();
  }
}

// Goal: it cannot signal, trace or read the daemon and its guard, nor read what is root's.
TEST_F(UserTest, TheApplicationCannotReachTheDaemon) {
  const std::string secret = (directory_ / "secret").string();
  std::ofstream(secret) << "token";
  ::chmod(secret.c_str(), 0600);
  for (const ZygoteMode zygote : {ZygoteMode::kAuto, ZygoteMode::kOff}) {
    serve(zygote);
    std::vector<pid_t> victims = os::children_of(::getpid());
    victims.push_back(::getpid());
    ASSERT_GE(victims.size(), 2U);
    for (const pid_t victim : victims) {
      const std::string found = call("attack", fmt::format("[{}]", victim)).payload;
      EXPECT_EQ(found.find("worked"), std::string::npos) << victim << found;
      EXPECT_NE(found.find("PermissionError"), std::string::npos) << victim << found;
    }
    EXPECT_EQ(call("read", fmt::format("[\"{}\"]", secret)).payload, "\"PermissionError\"");
    host_.reset();
  }
}

// Goal: what makes a worker a worker works for it, too: it is killed, replaced, and has its group.
TEST_F(UserTest, ItsWorkersAreReplacedAndHaveTheirGroups) {
  for (const ZygoteMode zygote : {ZygoteMode::kAuto, ZygoteMode::kOff}) {
    serve(zygote);
    EXPECT_EQ(call("die", "[\"SIGSEGV\"]").kind, OutcomeKind::kWorkerDied);
    EXPECT_EQ(call("sleep", "[100]", 500ms).kind, OutcomeKind::kTimeout);
    ASSERT_TRUE(eventually([&] { return ready() == 2 && call("twice", "[2]").payload == "4"; }));
    if (os::own_cgroup()) {
      const std::string group = call("group").payload;
      const auto workers = host_->workers();
      EXPECT_TRUE(std::ranges::any_of(workers, [&](const WorkerInfo& worker) {
        return group.find("/" + to_string(worker.worker)) != std::string::npos;
      })) << group;
    }
    host_.reset();
  }
}

// Goal: a user that is not there, or who is nobody else, is refused with the reason.
TEST_F(UserTest, AUserThatCannotBeIsRefused) {
  write_app(kApp);
  config_.app = path();
  const std::vector<std::pair<std::string, std::string>> refusals = {
      {"no-such-user", "there is no such user"},
      {"4294967290", "there is no such user"},
      {"root", "that is root"}};
  for (const auto& [user, why] : refusals) {
    config_.settings.workers.user = user;
    const auto refused = Host::start(config_);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(why), std::string::npos) << refused.error().message;
  }
}

}  // namespace
}  // namespace keelback::host
