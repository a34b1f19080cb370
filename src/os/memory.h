// Memory that two processes share: a memfd whose size nobody can change, mapped here.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::os {

// Sealed: nobody can shrink it, grow it or change its seals. So no peer can make us fault on it.
Result<Fd> make_sealed_memfd(const char* name, std::size_t size);
// A memfd that holds `text`, positioned at its start; for what does not fit into a packet.
Result<Fd> make_text_memfd(const char* name, std::string_view text);
// Everything that `fd` holds, from its start, at most size_max bytes.
Result<std::string> read_all(int fd, std::size_t size_max);

// Bytes that the machine can still give without swapping. The largest number if the kernel does not
// say.
std::uint64_t available_memory();

// Memory that carries bytes to a process and back: a sealed memfd. All its pages exist before it is
// used, so that no access faults. It needs no file system: the size of /dev/shm does not matter.
class Slab {
 public:
  // Size in bytes, a multiple of the page. Blocks while the kernel clears the pages. ENOMEM: the
  // size is more than half of the memory that the machine has left. (The limit of our cgroup is not
  // looked at.)
  static Result<Slab> create(std::size_t size);
  Slab() = default;
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&& other) noexcept;
  ~Slab();

  char* data() const { return data_; }
  std::size_t size() const { return size_; }
  // The descriptor, for the peer; the mapping does not need it.
  Fd take_fd() { return std::move(fd_); }
  // Gives the pages back at once, even if processes still map them: they then read as zeros.
  void empty();

 private:
  Fd fd_;
  char* data_ = nullptr;
  std::size_t size_ = 0;
};

// The marks of one worker (docs/protocol.md): a few words that either side writes and the other
// reads, and the texts of a dump and of a stack. Words are accessed from any thread.
class Marks {
 public:
  static constexpr std::size_t kBytes = 192 * 1024;
  static constexpr std::size_t kRowsOffset = 4096;
  static constexpr std::uint16_t kRows = 1024;
  // Behind everything else: a dump may be of any length, and goes on to the end.
  static constexpr std::size_t kDumpOffset = kRowsOffset + 32 * kRows;
  static constexpr std::size_t kStackOffset = 128 * 1024;

  Marks() = default;
  static Result<Marks> create();
  Marks(Marks&& other) noexcept;
  Marks& operator=(Marks&& other) noexcept;
  ~Marks();

  int fd() const { return fd_.get(); }
  std::uint64_t inode() const;  // names the memfd in /proc/PID/maps of whoever maps it
  std::uint64_t started() const { return load(0); }
  std::uint64_t ended() const { return load(1); }
  // Of the shared call that has this row, from 1 to kRows.
  std::uint64_t started(std::uint16_t row) const { return load(word_of(row)); }
  std::uint64_t ended(std::uint16_t row) const { return load(word_of(row) + 1); }
  void cancel_row(std::uint16_t row, std::uint64_t call) { store(word_of(row) + 2, call); }
  // Which thread runs the call's code now, as the worker numbers threads; 0: none.
  std::uint64_t thread(std::uint16_t row) const { return load(word_of(row) + 3); }
  // The thread of the event loop; 0: there has been no shared call.
  std::uint64_t loop_thread() const { return load(11); }
  // The thread that ends the worker by itself, and the signal that it does so with (0: it exits);
  // 0: none has said so.
  std::uint64_t ending() const { return load(12); }
  std::uint64_t ending_signal() const { return load(13); }
  // When the event loop's present turn began, in nanoseconds of CLOCK_MONOTONIC; 0: it waits.
  std::uint64_t turn() const { return load(10); }
  // The worker's own marks are in order for whoever calls order_marks() between his and its.
  bool ordered() const { return load(9) == 1; }
  // dispatched_ns: when the worker was given the call, on CLOCK_MONOTONIC.
  void set_cancel(std::uint64_t call, std::uint64_t dispatched_ns) {
    store(6, dispatched_ns);  // first: a worker that sees the cancel also finds the time
    store(2, call);
  }
  void set_interrupt(std::uint64_t call) { store(3, call); }
  void set_result_max(std::uint64_t bytes) { store(4, bytes); }
  void set_snapshot_max(std::uint64_t bytes) { store(5, bytes); }
  void set_attached_max(std::uint64_t bytes) { store(8, bytes); }
  // The text that the worker's dump has left from byte `from` on; empty: none. A foreign process
  // wrote it: it may be any bytes.
  std::string dump(std::size_t from = 0) const;
  // The next stack that the worker writes goes to where stack() reads, and the last one is gone.
  // The worker's descriptor has its position in common with ours.
  void expect_stack();
  std::string stack() const;  // as dump()

 private:
  std::string text(std::size_t begin, std::size_t end) const;
  static constexpr std::size_t kWordsOfRow = 4;
  static std::size_t word_of(std::uint16_t row) {
    return kRowsOffset / sizeof(std::uint64_t) + kWordsOfRow * (row - 1U);
  }
  std::uint64_t load(std::size_t word) const;
  void store(std::size_t word, std::uint64_t value);

  Fd fd_;
  std::uint64_t* words_ = nullptr;  // the mapping
};

// Afterwards every worker that says ordered() has its earlier stores visible to us, and sees ours
// at its next look. A few microseconds. False: this kernel cannot.
bool order_marks();

}  // namespace keelback::os
