// What a blocking call costs its caller in system calls. A program of its own: it puts itself
// between our libraries and the C library, and counts for each thread apart.
#include <dlfcn.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <thread>

#include "host/host_fixture.h"

namespace {

struct Counts {
  std::uint64_t sent = 0, received = 0;
  std::uint64_t others = 0;  // futexes (they come through syscall(2)), polls, reads and writes
};
thread_local Counts counts;

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static const auto real = next<ssize_t (*)(int, const msghdr*, int)>("sendmsg");
  ++counts.sent;
  return real(fd, message, flags);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  static const auto real = next<ssize_t (*)(int, msghdr*, int)>("recvmsg");
  ++counts.received;
  return real(fd, message, flags);
}

ssize_t read(int fd, void* data, size_t size) {
  static const auto real = next<ssize_t (*)(int, void*, size_t)>("read");
  ++counts.others;
  return real(fd, data, size);
}

ssize_t write(int fd, const void* data, size_t size) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  ++counts.others;
  return real(fd, data, size);
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
  static const auto real = next<int (*)(int, int, int, const void*, socklen_t)>("setsockopt");
  ++counts.others;
  return real(fd, level, name, value, size);
}

int poll(pollfd* entries, nfds_t count, int timeout) {
  static const auto real = next<int (*)(pollfd*, nfds_t, int)>("poll");
  ++counts.others;
  return real(entries, count, timeout);
}

long syscall(long number, ...) noexcept {
  static const auto real = next<long (*)(long, ...)>("syscall");
  ++counts.others;
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}

}  // extern "C"

namespace keelback::host {
namespace {

// Goal: a caller that finds a worker free sends once and receives once, in a session or not; it
// wakes nobody and waits for nothing else.
TEST_F(HostTest, ABlockingCallIsOneSendAndOneReceive) {
  Driver& host = start();
  constexpr std::uint64_t kCalls = 500;
  for (const char* session : {"", "ann"}) {
    const auto call = [&] {
      return host.call({.function = "twice", .payload = "[21]", .session = session});
    };
    for (int i = 0; i < 20; ++i) ASSERT_EQ(call().payload, "42");
    counts = {};
    std::uint64_t ok = 0;
    for (std::uint64_t i = 0; i < kCalls; ++i) ok += call().ok() ? 1 : 0;
    const Counts counted = counts;
    EXPECT_EQ(ok, kCalls);
    EXPECT_EQ(counted.sent, kCalls);
    EXPECT_EQ(counted.received, kCalls);
    // The loop's timer has fired meanwhile, and one caller or another has woken the loop to arm it.
    EXPECT_LE(counted.others, kCalls / 100) << "in session \"" << session << "\"";
  }
}

// Goal: the timeout of the socket is not set anew for every call, whatever deadlines take turns.
TEST_F(HostTest, DeadlinesOfAllSizesCostNoSystemCall) {
  Driver& host = start();
  constexpr std::uint64_t kCalls = 500;
  const std::chrono::nanoseconds deadlines[] = {60s, 900ms, 5s, 59s};
  const auto call = [&](std::uint64_t i) {
    return host.call({.function = "twice", .payload = "[21]", .deadline = deadlines[i % 4]});
  };
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_EQ(call(i).payload, "42");
  counts = {};
  std::uint64_t ok = 0;
  for (std::uint64_t i = 0; i < kCalls; ++i) ok += call(i).ok() ? 1 : 0;
  EXPECT_EQ(ok, kCalls);
  EXPECT_EQ(counts.sent, kCalls);
  EXPECT_EQ(counts.received, kCalls);
  EXPECT_LE(counts.others, kCalls / 100);
}

// Goal: counting counts. A caller that waits for a busy worker sleeps on its word, and is woken.
TEST_F(HostTest, ACallThatQueuesSleepsOnceMore) {
  config_.settings.pool.workers = 1;
  Driver& host = start();
  ASSERT_TRUE(call("twice", "[1]").ok());
  std::jthread first([&] { EXPECT_TRUE(call("sleep", "[0.3]").ok()); });
  ASSERT_TRUE(eventually([&] { return host.info().stats.workers.busy == 1; }));
  counts = {};
  EXPECT_EQ(call("twice", "[21]").payload, "42");
  EXPECT_EQ(counts.sent, 0U) << "the first caller dispatched it on its way out";
  EXPECT_EQ(counts.received, 1U);
  EXPECT_GE(counts.others, 1U);
}

}  // namespace
}  // namespace keelback::host
