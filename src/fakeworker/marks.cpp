#include "fakeworker/marks.h"

#include <linux/membarrier.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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
std::atomic<const char*> g_function{nullptr};

std::atomic_ref<std::uint64_t> word(std::size_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(g_page + offset));
}

std::uint64_t running_now() {
  const std::uint64_t started = word(wire::kMarkStarted).load();
  return started == word(wire::kMarkEnded).load() ? 0 : started;
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
  if (call != 0 && call == running_now()) {
    g_interrupted.store(call);
    write_wake();
  }
  errno = saved;
}

void nothing(int) {}

struct Text {
  char* at;
  void add(const char* text) {
    while (*text != '\0') *at++ = *text++;
  }
  void add(std::uint64_t number) {
    char digits[20];
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (count > 0) *at++ = digits[--count];
  }
};

void on_dump(int) {
  const std::uint64_t call = running_now();
  const char* function = g_function.load();
  Text text{g_page + wire::kDumpOffset};
  text.add("Current thread (most recent call first):\n  File \"<fakeworker>\" in ");
  text.add(call != 0 && function != nullptr ? function : "serve");
  if (call != 0) {
    text.add("\n  running call ");
    text.add(call);
  } else {
    text.add("\n  idle");
  }
  text.add("\n");
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

bool Marks::start(std::uint64_t call, const char* function) {
  g_function.store(function);
  rewind_dump();  // the last call's dump could be read until now
  word(wire::kMarkStarted).store(call);
  if (!cancelled(call)) return true;  // looked at after the mark (docs/protocol.md, Marks)
  word(wire::kMarkStarted).store(word(wire::kMarkEnded).load());
  return false;
}
void Marks::end(std::uint64_t call) { word(wire::kMarkEnded).store(call); }
bool Marks::cancelled(std::uint64_t call) const { return word(wire::kMarkCancel).load() == call; }
bool Marks::interrupted(std::uint64_t call) const { return g_interrupted.load() == call; }
std::uint64_t Marks::running() const { return running_now(); }
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
