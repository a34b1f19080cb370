#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "os/epoll.h"
#include "os/machine.h"
#include "os/memory.h"
#include "os/mutex.h"
#include "os/process.h"
#include "os/random.h"
#include "os/socket.h"

namespace keelback::os {
namespace {

using namespace std::chrono_literals;

// A child that waits for its death, killed and reaped at the end of the test.
class Child {
 public:
  explicit Child(void (*body)()) : pid_(::fork()) {
    if (pid_ == 0) {
      body();
      ::_exit(0);
    }
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

// Goal: the status of a dead worker is read from its zombie before anybody reaps it; a command name
// full of brackets does not shift the fields.
TEST(Process, ReadsTheWaitStatusFromTheZombie) {
  const Child killed([] { ::raise(SIGUSR1); });
  const Child exited([] { ::_exit(41); });
  for (const Child* child : {&killed, &exited}) {
    auto pidfd = Pidfd::open(child->pid());
    ASSERT_TRUE(pidfd);
    EXPECT_EQ(pidfd->wait_dead(10s), true);
  }
  const auto killed_stat = read_stat(killed.pid());
  ASSERT_TRUE(killed_stat);
  EXPECT_EQ(killed_stat->state, 'Z');
  EXPECT_EQ(WTERMSIG(killed_stat->exit_status), SIGUSR1);
  EXPECT_EQ(killed_stat->parent, ::getpid());
  const auto exited_stat = read_stat(exited.pid());
  ASSERT_TRUE(exited_stat);
  EXPECT_EQ(WEXITSTATUS(exited_stat->exit_status), 41);
}

TEST(Process, ParsesAStatLineWhoseCommandHoldsBracketsAndRefusesPieces) {
  std::string line = "12 (a) b) (c) R 7 12 11 0 -1 0 0 0 0 0 1 2 3 4 20 0 5 0 4242 0 0";
  for (int field = 25; field <= 51; ++field) line += " 0";
  line += " 9\n";
  const auto stat = parse_stat(line);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->state, 'R');
  EXPECT_EQ(stat->parent, 7);
  EXPECT_EQ(stat->group, 12);
  EXPECT_EQ(stat->session, 11);
  EXPECT_EQ(stat->threads, 5U);
  EXPECT_EQ(stat->start_time, 4242U);
  EXPECT_EQ(stat->exit_status, 9);
  EXPECT_FALSE(parse_stat(""));
  EXPECT_FALSE(parse_stat("12 (cat)"));
  EXPECT_FALSE(parse_stat("12 (cat) R 7 12"));
}

TEST(Process, SeesOwnMemoryChildrenAndEnvironment) {
  const Child child([] { ::pause(); });
  const auto children = children_of(::getpid());
  EXPECT_NE(std::ranges::find(children, child.pid()), children.end());
  // Written after the fork: until then a child shares every page of its parent.
  const std::vector<char> written(1 << 20, 'x');
  const auto memory = read_memory_use(::getpid());
  ASSERT_TRUE(memory);
  EXPECT_GE(memory->own, written.size());
  EXPECT_GE(memory->resident, memory->own);
  EXPECT_GT(read_resident_bytes(::getpid()).value_or(0), 100'000U);
  // The kernel brings it up to date at ticks: a process that has just begun has had none.
  auto use = read_processor_use(::getpid());
  while (use && use->ran.count() == 0) use = read_processor_use(::getpid());
  EXPECT_TRUE(use);
  EXPECT_EQ(environment_has(::getpid(), std::string("HOME=") + ::getenv("HOME")), true);
  EXPECT_FALSE(environment_has(::getpid(), "HOME"));
}

TEST(Process, FindsItsCgroupInEitherHierarchy) {
  const std::string text = "4:memory:/a/b\n3:cpu,cpuacct:/c\n1:name=systemd:/d\n0::/e\n";
  EXPECT_EQ(cgroup_path(text, ""), "/e");
  EXPECT_EQ(cgroup_path(text, "memory"), "/a/b");
  EXPECT_EQ(cgroup_path(text, "cpuacct"), "/c");
  EXPECT_FALSE(cgroup_path(text, "cpuac"));
  EXPECT_FALSE(cgroup_path("0::", "memory"));
  EXPECT_EQ(cgroup_path("0::/only", ""), "/only");
  EXPECT_FALSE(cgroup_path("nonsense\n4:memory", ""));
}

TEST(Process, AGroupNumberThatCouldBeEverybodyIsRefused) {
  EXPECT_EQ(kill_group(0).error().value(), EINVAL);
  EXPECT_EQ(kill_group(1).error().value(), EINVAL);
  EXPECT_EQ(kill_group(-5).error().value(), EINVAL);
}

// Goal: descriptors keep their identity through a packet, and nothing leaks on either side.
TEST(Socket, DescriptorsTravelBesideAPacket) {
  const auto before = count_open_fds();
  {
    auto pair = make_seqpacket_pair();
    auto pipe = make_pipe();
    ASSERT_TRUE(pair && pipe);
    const int sent[] = {pipe->write.get()};
    ASSERT_TRUE(send_packet_with_fds(pair->ours.get(), "take this", sent, Wait::kNo));
    std::vector<Fd> fds;
    std::byte buffer[64];
    const auto packet = receive_packet_with_fds(pair->theirs.get(), buffer, fds, Wait::kNo);
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->size, 9U);
    ASSERT_EQ(fds.size(), 1U);
    EXPECT_EQ(::fcntl(fds[0].get(), F_GETFD), FD_CLOEXEC);
    ASSERT_EQ(::write(fds[0].get(), "x", 1), 1);
    char got = 0;
    EXPECT_EQ(read_some(pipe->read.get(), &got, 1), 1U);
    EXPECT_EQ(got, 'x');
  }
  EXPECT_EQ(count_open_fds(), before);
}

// Goal: shutting the reading down lets everything that has arrived be received first, then wakes
// the blocked reader. The death of a worker whose socket a grandchild still holds depends on it.
TEST(Socket, ShuttingReadingDownKeepsWhatArrivedAndWakesTheReader) {
  auto pair = make_seqpacket_pair();
  ASSERT_TRUE(pair);
  ASSERT_TRUE(send_packet(pair->theirs.get(), "first", Wait::kNo));
  shutdown_reading(pair->ours.get());
  std::byte buffer[16];
  EXPECT_EQ(receive_packet(pair->ours.get(), buffer, Wait::kYes)->size, 5U);
  EXPECT_EQ(receive_packet(pair->ours.get(), buffer, Wait::kYes)->size, 0U);
  EXPECT_EQ(send_packet(pair->theirs.get(), "late", Wait::kNo).error().value(), EPIPE);

  auto blocked = make_seqpacket_pair();
  ASSERT_TRUE(blocked);
  std::jthread reader(
      [&] { EXPECT_EQ(receive_packet(blocked->ours.get(), buffer, Wait::kYes)->size, 0U); });
  shutdown_reading(blocked->ours.get());
}

TEST(Socket, SaysWhenAPacketWasCutAndWhenThereIsNone) {
  auto pair = make_seqpacket_pair();
  ASSERT_TRUE(pair);
  std::byte buffer[4];
  EXPECT_EQ(receive_packet(pair->ours.get(), buffer, Wait::kNo).error().value(), EAGAIN);
  ASSERT_TRUE(send_packet(pair->theirs.get(), "12345", Wait::kNo));
  EXPECT_TRUE(receive_packet(pair->ours.get(), buffer, Wait::kNo)->truncated);
}

// Goal: an entry tells of one event and is silent until armed again; what was readable before the
// arming counts.
TEST(Epoll, FiresOnceForEachArming) {
  auto epoll = Epoll::create();
  auto pair = make_seqpacket_pair();
  ASSERT_TRUE(epoll && pair);
  EpollEvent events[4];
  ASSERT_TRUE(epoll->add(pair->ours.get(), 77));
  ASSERT_TRUE(send_packet(pair->theirs.get(), "hello", Wait::kNo));
  EXPECT_EQ(epoll->ready(events), 0U) << "added disarmed";
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(epoll->arm(pair->ours.get(), 77, true, false));
    ASSERT_EQ(epoll->ready(events), 1U);
    EXPECT_EQ(events[0].token, 77U);
    EXPECT_TRUE(events[0].readable);
    EXPECT_EQ(epoll->ready(events), 0U) << "once";
  }
}

TEST(Marks, CarryWordsAndADumpBetweenTwoMappings) {
  auto marks = Marks::create();
  ASSERT_TRUE(marks);
  auto* worker = static_cast<std::uint64_t*>(
      ::mmap(nullptr, Marks::kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, marks->fd(), 0));
  ASSERT_NE(worker, MAP_FAILED);
  worker[0] = 11;
  worker[1] = 12;
  EXPECT_TRUE(maps_inode(::getpid(), marks->inode()));
  EXPECT_FALSE(maps_inode(::getpid(), marks->inode() + 1));
  EXPECT_FALSE(maps_inode(::getpid(), 0));
  marks->set_cancel(13, 1'234'567);
  marks->set_interrupt(14);
  EXPECT_EQ(marks->started(), 11U);
  EXPECT_EQ(marks->ended(), 12U);
  EXPECT_EQ(worker[2], 13U);
  EXPECT_EQ(worker[6], 1'234'567U);
  EXPECT_EQ(worker[3], 14U);
  EXPECT_EQ(marks->dump(), "");
  std::strcpy(reinterpret_cast<char*>(worker) + Marks::kDumpOffset, "Thread 1\n");
  EXPECT_EQ(marks->dump(), "Thread 1\n");
  EXPECT_EQ(::ftruncate(marks->fd(), 0), -1) << "sealed: no peer can take the memory away";
  std::memset(reinterpret_cast<char*>(worker) + Marks::kDumpOffset, 'x',
              Marks::kBytes - Marks::kDumpOffset);
  EXPECT_EQ(marks->dump().size(), Marks::kStackOffset - Marks::kDumpOffset) << "no NUL: to the end";
  EXPECT_EQ(marks->stack().size(), Marks::kBytes - Marks::kStackOffset);
  ::munmap(worker, Marks::kBytes);
}

// Goal: a stack that the worker writes through its descriptor lands where the supervisor reads, as
// often as it is asked for, and nothing is left of the one before.
TEST(Marks, AStackIsWrittenWhereItIsExpected) {
  auto marks = Marks::create();
  ASSERT_TRUE(marks);
  const Fd workers(::dup(marks->fd()));
  const std::string_view texts[] = {"Stack: a long one\n", "Stack: short\n"};
  for (const std::string_view text : texts) {
    marks->expect_stack();
    EXPECT_EQ(marks->stack(), "");
    ASSERT_EQ(::write(workers.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(marks->stack(), text);
    EXPECT_EQ(marks->dump(), "");
  }
}

// Goal: a slab is sealed, whole from the start, and empties at once for everybody.
TEST(Slab, IsSharedSealedAndEmptiesAtOnce) {
  auto slab = Slab::create(128 << 10);
  ASSERT_TRUE(slab) << slab.error().message();
  const Fd fd = slab->take_fd();
  ASSERT_TRUE(fd);
  EXPECT_LT(::ftruncate(fd.get(), 0), 0) << "nobody shrinks it";
  struct stat info{};
  ASSERT_EQ(::fstat(fd.get(), &info), 0);
  EXPECT_EQ(info.st_blocks * 512, 128 << 10) << "all pages are there before anybody writes";
  void* theirs = ::mmap(nullptr, slab->size(), PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(theirs, MAP_FAILED);
  slab->data()[100'000] = 'x';
  EXPECT_EQ(static_cast<char*>(theirs)[100'000], 'x');
  slab->empty();
  ASSERT_EQ(::fstat(fd.get(), &info), 0);
  EXPECT_EQ(info.st_blocks, 0) << "the memory has been given back";
  EXPECT_EQ(static_cast<char*>(theirs)[100'000], '\0');
  ::munmap(theirs, slab->size());
}

// Goal: a container's /dev/shm of 64 MiB is no limit: slabs do not live there.
TEST(Slab, NeedsNoSharedMemoryFileSystem) {
  struct statvfs before{}, after{};
  const bool there = ::statvfs("/dev/shm", &before) == 0;
  auto slab = Slab::create(80 << 20);
  ASSERT_TRUE(slab) << slab.error().message();
  std::memset(slab->data(), 1, slab->size());
  if (!there) return;
  ASSERT_EQ(::statvfs("/dev/shm", &after), 0);
  const auto used = static_cast<std::int64_t>(before.f_bfree - after.f_bfree) *
                    static_cast<std::int64_t>(before.f_frsize);
  EXPECT_LT(used, 40 << 20) << "others may use it meanwhile, we do not";
}

// Goal: more than the machine has is an error, told before the first page is taken: fallocate would
// have other processes killed for it. Should that be broken, the limit on files stops it here.
TEST(Slab, IsRefusedBeforeItEmptiesTheMachine) {
  EXPECT_GT(available_memory(), 1u << 20);
  EXPECT_LT(available_memory(), std::uint64_t{1} << 60);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 16 << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::size_t most_of_it = available_memory() / 4 * 3;
  for (const std::size_t size : {most_of_it, std::size_t{1} << 60, std::size_t{SIZE_MAX}}) {
    const auto slab = Slab::create(size);
    ASSERT_FALSE(slab);
    EXPECT_EQ(slab.error().value(), ENOMEM) << size;
  }
  EXPECT_TRUE(Slab::create(64 << 10));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, SIG_DFL);
}

TEST(Slab, AFailureIsAnErrorAndLeavesNothing) {
  for (int nth = 1; nth <= 3; ++nth) {
    fault::fail_nth(nth, ENOMEM);
    EXPECT_FALSE(Slab::create(64 << 10)) << nth;
    fault::fail_nth(0, 0);
  }
  EXPECT_TRUE(Slab::create(64 << 10));
}

TEST(Futex, AWakeAfterTheStoreIsNotLost) {
  std::atomic<std::uint32_t> word = 0;
  std::jthread waker([&] {
    word = 1;
    futex_wake(&word);
  });
  while (word == 0) futex_wait(word, 0);
}

// Goal: the injected error reaches the caller of exactly the nth system call.
TEST(Fault, FailsTheNthSystemCall) {
  fault::fail_nth(2, EMFILE);
  EXPECT_TRUE(make_pipe());
  EXPECT_EQ(make_pipe().error().value(), EMFILE);
  EXPECT_TRUE(make_pipe());
  EXPECT_EQ(fault::passed(), 3);
  fault::fail_nth(0, 0);
}

// Goal: what is said of a process is said of that process, and of all its threads.
TEST(Process, SaysWhatItHolds) {
  std::atomic<bool> over = false;
  std::thread second([&over] { over.wait(false); });
  EXPECT_EQ(threads_of(::getpid()).size(), read_stat(::getpid())->threads);
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  const auto open = descriptors_of(::getpid());
  ASSERT_TRUE(open);
  EXPECT_TRUE(std::ranges::find(*open, pipe->read.get()) != open->end());
  EXPECT_EQ(open->size(), *count_open_fds() + 1) << "the descriptor that reads the list is in it";
  const auto all = read_processor_use_of_threads(::getpid());
  ASSERT_TRUE(all);
  EXPECT_GT(all->ran, 0ns);
  EXPECT_GT(read_status_number(::getpid(), "VmSize:").value_or(0), 0U);
  EXPECT_EQ(read_status_number(::getpid(), "NoSuch:").value_or(1), 0U);
  over = true;
  over.notify_all();
  second.join();
}

TEST(Process, OfOneThatIsGoneThereIsNothing) {
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  EXPECT_TRUE(threads_of(gone).empty());
  EXPECT_FALSE(descriptors_of(gone));
  EXPECT_EQ(read_processor_use_of_threads(gone).error().value(), ESRCH);
}

// Goal: the machine is described as the kernel describes it.
TEST(Machine, IsDescribed) {
  const Machine machine = describe_machine();
  EXPECT_GT(machine.processors, 0U);
  EXPECT_EQ(machine.system, "Linux");
  EXPECT_EQ(machine.release, first_line_of("/proc/sys/kernel/osrelease"));
  const MachineMemory memory = machine_memory();
  EXPECT_GT(memory.available, 0U);
  EXPECT_GE(memory.total, memory.available);
  EXPECT_GE(load_average(), 0);
  EXPECT_EQ(first_line_of("/proc/no/such/file"), "");
  EXPECT_EQ(host_name(), first_line_of("/proc/sys/kernel/hostname"));
}

TEST(Random, IsNewEachTimeAndAWordIsNeverZero) {
  const std::string text = random_text();
  EXPECT_EQ(text.size(), 32U);
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), text.npos);
  EXPECT_NE(random_text(), text);
  const std::uint64_t word = random_word();
  EXPECT_NE(word, 0U);
  EXPECT_NE(random_word(), word);
}

}  // namespace
}  // namespace keelback::os
