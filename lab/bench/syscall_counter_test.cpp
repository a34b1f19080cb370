#include "bench/syscall_counter.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace keelback::bench {
namespace {

// A child that answers each byte with a byte: two system calls an answer.
class Echo {
 public:
  Echo() {
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends_[0]);
      char byte;
      while (::read(ends_[1], &byte, 1) == 1) (void)!::write(ends_[1], &byte, 1);
      ::_exit(7);
    }
    ::close(ends_[1]);
  }
  ~Echo() {
    ::close(ends_[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << "it lives on as before";
  }
  void round_trips(int n) {
    char byte = 'x';
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ(::write(ends_[0], &byte, 1), 1);
      ASSERT_EQ(::read(ends_[0], &byte, 1), 1);
    }
  }
  pid_t pid() const { return pid_; }

 private:
  std::array<int, 2> ends_{-1, -1};
  pid_t pid_ = -1;
};

// Goal: exact. A thousand answers are two thousand calls more than none, and the traced process
// goes on as if nothing had been.
TEST(SyscallCounter, CountsEveryCallOnce) {
  Echo echo;
  ASSERT_GT(echo.pid(), 0);
  echo.round_trips(1);
  const auto counted = count_system_calls({echo.pid()}, [&] { echo.round_trips(1000); });
  if (!counted) GTEST_SKIP() << counted.error();
  // It stood in a read() when we came, and stands in one when we leave.
  EXPECT_NEAR(static_cast<double>(counted->at(echo.pid())), 2000, 2);
  echo.round_trips(10);
}

TEST(SyscallCounter, SaysWhenThereIsNothingToTrace) {
  bool worked = false;
  EXPECT_FALSE(count_system_calls({-1}, [&] { worked = true; }));
  EXPECT_FALSE(worked);
}

}  // namespace
}  // namespace keelback::bench
