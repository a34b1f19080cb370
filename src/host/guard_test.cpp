// The guard alone, against real processes: what it kills, what it reaps, and when.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "host/guard_orders.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/socket.h"
#include "support/waiting.h"

namespace keelback::host {
namespace {

using namespace std::chrono_literals;

using test::eventually;
const auto kPatience = 10s * test::stretch();

bool is_alive(pid_t pid) {
  const auto stat = os::read_stat(pid);
  return stat && stat->state != 'Z' && stat->state != 'X';
}

// A guard and the socket to order it, from whatever process makes it.
class Guard {
 public:
  Guard() {
    auto pair = os::make_seqpacket_pair();
    auto self = os::Pidfd::open(::getpid());
    auto null = os::open_null();
    const int fds[] = {null->get(), null->get(), null->get(), pair->theirs.get(), self->get()};
    pid_ = os::spawn({std::string(::getenv("KEELBACK_LIBEXEC_DIR")) + "/keelback-guard"}, fds)
               .value_or(-1);
    socket_ = std::move(pair->ours);
    pidfd_ = std::move(*os::Pidfd::open(pid_));
  }
  ~Guard() { stop(); }
  void stop() {
    socket_.reset();
    if (pid_ <= 0) return;
    EXPECT_EQ(pidfd_.wait_dead(kPatience), true);
    EXPECT_EQ(os::reap_own_child(pid_), 0);
    pid_ = -1;
  }

  GuardReply spawn(std::vector<std::string> argv, std::vector<std::string> environment = {},
                   int output = -1, std::uint64_t kin = 0) {
    auto null = os::open_null();
    const int out = output >= 0 ? output : null->get();
    SpawnSpec spec{std::move(argv), std::move(environment), "/", {0, 1, 2}, kin};
    spec.environment.push_back("PATH=/usr/bin:/bin");
    auto text = os::make_text_memfd("spec", encode(spec));
    const int fds[] = {text->get(), null->get(), out, out};
    order({GuardOp::kSpawn, 7, 0, 0, {}}, fds);
    GuardReply reply;
    auto packet = os::receive_packet(socket_.get(), std::as_writable_bytes(std::span(&reply, 1)),
                                     os::Wait::kYes);
    EXPECT_EQ(packet->size, sizeof(reply));
    EXPECT_EQ(reply.tag, 7U);
    return reply;
  }
  void order(const GuardOrder& order, std::span<const int> fds = {}) {
    EXPECT_TRUE(os::send_packet_with_fds(socket_.get(),
                                         {reinterpret_cast<const char*>(&order), sizeof(order)},
                                         fds, os::Wait::kYes));
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  os::Pidfd pidfd_;
  os::Fd socket_;
};

// Reads numbers, one a line, until there are `count`.
std::vector<pid_t> read_pids(int fd, std::size_t count) {
  std::string text;
  char piece[256];
  while (static_cast<std::size_t>(std::ranges::count(text, '\n')) < count) {
    const auto got = os::read_some(fd, piece, sizeof(piece));
    if (!got || *got == 0) break;
    text.append(piece, *got);
  }
  std::vector<pid_t> pids;
  for (const char* at = text.c_str(); *at != 0;) {
    char* end = nullptr;
    pids.push_back(static_cast<pid_t>(std::strtol(at, &end, 10)));
    at = end + 1;
  }
  return pids;
}

// A worker with a child in its group, one in a session of its own, and a daemon; it prints the pids
// of all four.
const std::vector<std::string> kFamily = {
    "sh", "-c",
    "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; "
    "(setsid sh -c 'sleep 1000 & echo $!' &) ; echo $$; exec sleep 1000"};

TEST(Guard, StartsAProgramInAGroupOfItsOwnAndSaysWhyNot) {
  Guard guard;
  const GuardReply started = guard.spawn({"sleep", "1000"});
  EXPECT_EQ(started.error, 0);
  const auto stat = os::read_stat(started.pid);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->group, started.pid);
  EXPECT_EQ(stat->parent, guard.pid());
  EXPECT_EQ(guard.spawn({"/no/such/program"}).error, ENOENT);
}

// Goal: the zombie of a known child stands until the order, so that its status can be read.
TEST(Guard, ReapsAKnownChildOnlyOnOrder) {
  Guard guard;
  const pid_t pid = guard.spawn({"sh", "-c", "exit 9"}).pid;
  ASSERT_TRUE(eventually([&] { return os::read_stat(pid)->state == 'Z'; }));
  guard.spawn({"true"});  // it has been through its loop since
  const auto stat = os::read_stat(pid);
  ASSERT_TRUE(stat);
  EXPECT_EQ(WEXITSTATUS(stat->exit_status), 9);
  guard.order({GuardOp::kReap, 0, pid, 0, {}});
  EXPECT_TRUE(eventually([&] { return !os::read_stat(pid); }));
}

TEST(Guard, ReapsStrangersThatFallToIt) {
  Guard guard;
  auto pipe = os::make_pipe();
  guard.spawn({"sh", "-c", "(sh -c 'echo $$; read x </dev/null' &)"}, {}, pipe->write.get());
  const pid_t stranger = read_pids(pipe->read.get(), 1).at(0);
  EXPECT_TRUE(eventually([&] { return !os::read_stat(stranger); }));
}

// Goal: a dead worker's daemon is found by the name in its environment; others are left alone.
TEST(Guard, KillsWhatADeadWorkerLeftOutsideItsGroup) {
  Guard guard;
  auto pipe = os::make_pipe();
  const std::vector<std::string> daemon = {"sh", "-c", "(setsid sh -c 'echo $$; sleep 1000' &)"};
  guard.spawn(daemon, {"KEELBACK_WORKER=2.17"}, pipe->write.get());
  const pid_t left = read_pids(pipe->read.get(), 1).at(0);
  guard.spawn(daemon, {"KEELBACK_WORKER=2.18"}, pipe->write.get());
  const pid_t other = read_pids(pipe->read.get(), 1).at(0);
  ASSERT_TRUE(eventually([&] { return os::read_stat(left)->parent == guard.pid(); }));
  ASSERT_TRUE(eventually([&] { return os::read_stat(other)->parent == guard.pid(); }));
  GuardOrder order{GuardOp::kKillMarked, 0, 0, 0, 0, {}};
  std::strcpy(order.text, "KEELBACK_WORKER=2.17");
  guard.order(order);
  EXPECT_TRUE(eventually([&] { return !is_alive(left); }));
  EXPECT_TRUE(is_alive(other));
}

// Goal: kin are known by what the kernel hands on, whatever else they have made of themselves.
TEST(Guard, KillsKinWithoutAnEnvironment) {
  Guard guard;
  auto pipe = os::make_pipe();
  const std::uint64_t kin = os::draw_kin(), others = os::draw_kin();
  ASSERT_NE(kin, 0U);
  ASSERT_NE(kin, others);
  const std::vector<std::string> daemon = {
      "sh", "-c", "(setsid env -i /bin/sh -c 'echo $$; exec sleep 1000' &)"};
  guard.spawn(daemon, {}, pipe->write.get(), kin);
  const pid_t left = read_pids(pipe->read.get(), 1).at(0);
  guard.spawn(daemon, {}, pipe->write.get(), others);
  const pid_t other = read_pids(pipe->read.get(), 1).at(0);
  ASSERT_TRUE(eventually([&] { return os::read_stat(left)->parent == guard.pid(); }));
  ASSERT_TRUE(eventually([&] { return os::read_stat(other)->parent == guard.pid(); }));
  EXPECT_TRUE(os::is_kin(left, kin));
  EXPECT_FALSE(os::is_kin(left, others));
  guard.order({GuardOp::kKillMarked, 0, 0, 0, kin, "KEELBACK_WORKER=1.1"});
  EXPECT_TRUE(eventually([&] { return !is_alive(left); }));
  EXPECT_TRUE(is_alive(other));
}

TEST(Guard, KillsAllWhenItsSocketEnds) {
  Guard guard;
  auto pipe = os::make_pipe();
  guard.spawn(kFamily, {}, pipe->write.get());
  const auto pids = read_pids(pipe->read.get(), 4);
  ASSERT_EQ(pids.size(), 4U);
  for (pid_t pid : pids) EXPECT_TRUE(is_alive(pid));
  guard.stop();
  for (pid_t pid : pids) EXPECT_FALSE(is_alive(pid)) << pid;
}

// Goal: SIGKILL of the supervisor leaves nothing, setsid'ed and daemonised descendants included,
// within a second - also when a fork of the supervisor still holds the order socket.
TEST(Guard, KillsAllWhenTheSupervisorIsKilled) {
  auto pipe = os::make_pipe();
  auto bystander_pipe = os::make_pipe();
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    Guard guard;
    guard.spawn(kFamily, {}, pipe->write.get());
    const pid_t bystander = ::fork();
    if (bystander > 0) {
      const std::string line = std::to_string(bystander) + "\n";
      (void)!::write(bystander_pipe->write.get(), line.data(), line.size());
    }
    for (;;) ::pause();
  }
  const auto pids = read_pids(pipe->read.get(), 4);
  const pid_t bystander = read_pids(bystander_pipe->read.get(), 1).at(0);
  ASSERT_EQ(pids.size(), 4U);
  const auto killed_at = std::chrono::steady_clock::now();
  ::kill(supervisor, SIGKILL);
  EXPECT_TRUE(eventually([&] { return std::ranges::none_of(pids, is_alive); }));
  EXPECT_LT(std::chrono::steady_clock::now() - killed_at, 1s * test::stretch());
  EXPECT_TRUE(is_alive(bystander)) << "the program's own children are none of ours";
  ::kill(bystander, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);
}

TEST(GuardOrders, ASpawnSpecComesBackAndPiecesOfItAreRefused) {
  const SpawnSpec spec{{"python3", "-m", "x y"}, {"A=1", "B="}, "/tmp", {0, 1, 2, 6}, 77};
  const std::string text = encode(spec);
  const auto back = decode_spawn_spec(text);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->argv, spec.argv);
  EXPECT_EQ(back->environment, spec.environment);
  EXPECT_EQ(back->directory, spec.directory);
  EXPECT_EQ(back->numbers, spec.numbers);
  EXPECT_EQ(back->kin, spec.kin);
  EXPECT_FALSE(decode_spawn_spec(""));
  EXPECT_FALSE(decode_spawn_spec(text.substr(0, text.size() - 1)));
  EXPECT_FALSE(decode_spawn_spec(std::string_view("/\0000\0009\0", 6)));
}

}  // namespace
}  // namespace keelback::host
