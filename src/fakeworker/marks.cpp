#include "fakeworker/marks.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>

#include "wire/process.h"

namespace keelback::fakeworker {
namespace {

char* g_page = nullptr;
int g_wake = -1;
std::atomic<std::uint64_t> g_interrupted{0};
std::array<std::atomic<const char*>, wire::kRowsMax + 1> g_functions{};  // by row

std::atomic_ref<std::uint64_t> word(std::size_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(g_page + offset));
}

std::atomic_ref<std::uint64_t> started(std::uint16_t row) {
  return word(row == 0 ? wire::kMarkStarted : wire::row_offset(row) + wire::kRowStarted);
}
std::atomic_ref<std::uint64_t> ended(std::uint16_t row) {
  return word(row == 0 ? wire::kMarkEnded : wire::row_offset(row) + wire::kRowEnded);
}
std::atomic_ref<std::uint64_t> cancel(std::uint16_t row) {
  return word(row == 0 ? wire::kMarkCancel : wire::row_offset(row) + wire::kRowCancel);
}

std::uint64_t running_now(std::uint16_t row) {
  const std::uint64_t call = started(row).load();
  return call == ended(row).load() ? 0 : call;
}

void write_wake() {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, so it is readable already.
  [[maybe_unused]] const ssize_t written = ::write(g_wake, &one, sizeof one);
}

// ---- signal handlers: async-signal-safe calls only

void on_interrupt(int) {
  const int saved = errno;
  const std::uint64_t call = word(wire::kMarkInterrupt).load();
  if (call != 0 && call == running_now(0)) {
    g_interrupted.store(call);
    write_wake();
  }
  errno = saved;
}

void nothing(int) {}

// Into the dump area, behind the dumps that are there, as far as there is room.
struct Text {
  char* at = g_page + wire::kDumpOffset;
  char* const end = g_page + wire::kMarksBytes - 1;
  Text() {
    while (*at != '\0' && at < end) ++at;
  }
  void add(const char* text) {
    while (*text != '\0' && at < end) *at++ = *text++;
  }
  void add(std::uint64_t number) {
    char digits[21] = {};
    char* digit = digits + 20;
    do {
      *--digit = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    add(digit);
  }
  void add_call(std::uint64_t call, std::uint16_t row) {
    const char* function = g_functions[row].load();
    add(function != nullptr ? function : "serve");
    add("\n  running call ");
    add(call);
    add("\n");
  }
};

void on_dump(int) {
  Text text;
  text.add("Current thread (most recent call first):\n  File \"<fakeworker>\" in ");
  if (const std::uint64_t call = running_now(0)) {
    text.add_call(call, 0);
  } else {
    text.add("serve\n  idle\n");
  }
  for (std::uint16_t row = 1; row <= wire::kRowsMax; ++row) {
    const std::uint64_t call = running_now(row);
    if (call == 0) continue;
    text.add("\nThread of row ");
    text.add(row);
    text.add(" (most recent call first):\n  File \"<fakeworker>\" in ");
    text.add_call(call, row);
  }
  *text.at = '\0';
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

}  // namespace

Marks::Marks(int fd) {
  void* page = ::mmap(nullptr, wire::kMarksBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  g_wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (page == MAP_FAILED || g_wake < 0) {
    std::perror("keelback-fakeworker: marks");
    ::_exit(1);
  }
  ::close(fd);
  g_page = static_cast<char*>(page);
  const long in_order =
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 ? 1 : 0;
  word(wire::kMarkOrdered).store(static_cast<std::uint64_t>(in_order));
}

void Marks::install_signals() {
  handle(SIGINT, on_interrupt, 0);  // no SA_RESTART: a wait is to end
  handle(SIGTERM, nothing, SA_RESTART);
  handle(SIGPIPE, nothing, SA_RESTART);
  handle(wire::kDumpSignal, on_dump, SA_RESTART);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool Marks::start(std::uint16_t row, std::uint64_t call, const char* function) {
  g_functions[row].store(function);
  started(row).store(call);
  if (!cancelled(row, call)) return true;  // looked at after the mark (docs/protocol.md, Marks)
  started(row).store(ended(row).load());
  return false;
}
void Marks::end(std::uint16_t row, std::uint64_t call) { ended(row).store(call); }
void Marks::note_end(std::uint16_t row, int signal) {
  const auto thread = static_cast<std::uint64_t>(::pthread_self());
  word(wire::row_offset(row) + wire::kRowThread).store(thread);
  word(wire::kMarkEndingSignal).store(static_cast<std::uint64_t>(signal));
  word(wire::kMarkEnding).store(thread);
}
bool Marks::cancelled(std::uint16_t row, std::uint64_t call) const {
  return cancel(row).load() == call;
}
bool Marks::interrupted(std::uint64_t call) const { return g_interrupted.load() == call; }
std::uint64_t Marks::running() const { return running_now(0); }
std::uint64_t Marks::result_max() const {
  const std::uint64_t most = word(wire::kMarkResultMax).load();
  return most == 0 ? wire::kResultMaxDefault : most;
}
std::uint64_t Marks::attached_max() const {
  const std::uint64_t most = word(wire::kMarkAttachedMax).load();
  return most == 0 ? wire::kAttachedMaxDefault : most;
}

std::uint64_t Marks::snapshot_max() const {
  const std::uint64_t most = word(wire::kMarkSnapshotMax).load();
  return most == 0 ? wire::kSnapshotMaxDefault : most;
}

int Marks::wake_fd() const { return g_wake; }
void Marks::wake() { write_wake(); }
void Marks::calm() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(g_wake, &count, sizeof count);
}
void Marks::rewind_dump() { g_page[wire::kDumpOffset] = '\0'; }

}  // namespace keelback::fakeworker
