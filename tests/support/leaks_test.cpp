#include "support/leaks.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "os/mutex.h"

namespace keelback::test {
namespace {

constexpr std::chrono::milliseconds kSoon{50};  // long enough for what is only passing

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Goal: the fixture that says "nothing is left" would notice each kind of thing that can be left.
TEST(Leaks, FindsADescriptor) {
  const Leaks leaks;
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_THAT(leaks.found(kSoon), ElementsAre(HasSubstr("/dev/null")));
  ::close(fd);
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
}

TEST(Leaks, FindsADescriptorThatTookTheNumberOfAnother) {
  const int first = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const Leaks leaks;
  ::close(first);
  const int second = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(first, second);
  EXPECT_THAT(leaks.found(kSoon), ElementsAre(HasSubstr("/dev/zero")));
  ::close(second);
}

TEST(Leaks, DoesNotMindThatAFileIsRemoved) {
  char name[] = "/tmp/keelback-leaks-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  const Leaks leaks;
  ::unlink(name);
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
  ::close(fd);
}

TEST(Leaks, FindsAMappingOfSharedMemory) {
  const Leaks leaks;
  const int fd = ::memfd_create("keelback-leak", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(fd, 4096), 0);
  void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  EXPECT_THAT(leaks.found(kSoon), ElementsAre(HasSubstr("/memfd:keelback-leak")));
  ::munmap(mapped, 4096);
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
}

TEST(Leaks, FindsANameInSharedMemory) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm takes no files of ours";
  const Leaks leaks;
  const std::string path = "/dev/shm/keelback-leak-" + std::to_string(::getpid());
  std::ofstream(path) << "x";
  EXPECT_THAT(leaks.found(kSoon), Contains(path));
  ::unlink(path.c_str());
}

// Goal: tests that run side by side do not see each other's, and what a dead process left is found.
TEST(Leaks, TheNameOfALivingProcessIsItsOwnAffair) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm takes no files of ours";
  const Leaks leaks;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  const std::string theirs = "/dev/shm/keelback-leak-" + std::to_string(::getppid()) + "-a";
  const std::string of_the_dead = "/dev/shm/keelback-leak-" + std::to_string(child) + "-a";
  std::ofstream(theirs) << "x";
  std::ofstream(of_the_dead) << "x";
  EXPECT_THAT(leaks.found(kSoon), ElementsAre(of_the_dead));
  ::unlink(theirs.c_str());
  ::unlink(of_the_dead.c_str());
}

TEST(Leaks, FindsAChildAlsoOneThatNobodyWaitsFor) {
  const Leaks leaks;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  EXPECT_THAT(leaks.found(kSoon), ElementsAre("child " + std::to_string(child)));
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
}

TEST(Leaks, FindsAThread) {
  const Leaks leaks;
  std::atomic<std::uint32_t> stop = 0;
  std::thread thread([&] {
    while (stop == 0) os::futex_wait(stop, 0);
  });
  EXPECT_THAT(leaks.found(kSoon), ElementsAre(HasSubstr("thread ")));
  stop = 1;
  os::futex_wake(&stop);
  thread.join();
  EXPECT_THAT(leaks.found(kSoon), IsEmpty());
}

}  // namespace
}  // namespace keelback::test
