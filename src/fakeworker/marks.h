// The worker's side of the shared marks, and the signals that read them. A row names a call's
// words: 0 is page 0, for a call that runs alone, and above are the rows of shared calls.
//
// One worker a process, so what signal handlers need is static. SIGINT counts only while
// interrupt == started != ended; signal 63 writes what runs into the dump area; SIGTERM does
// nothing. A wake-up descriptor becomes readable when an interrupt or a cancel has come, so that
// waiting and being told cannot miss each other.
#pragma once

#include <cstdint>
#include <mutex>

namespace keelback::fakeworker {

class Marks {
 public:
  // Maps descriptor `fd`. Ends the process if it is not a marks memfd.
  explicit Marks(int fd);
  void install_signals();

  // User code of `call` begins and is over; `function` outlives the call. False: the call was
  // cancelled before, and does not begin. The call's own thread.
  [[nodiscard]] bool start(std::uint16_t row, std::uint64_t call, const char* function);
  void end(std::uint16_t row, std::uint64_t call);

  // The shared call of this row is about to end the worker, with `signal` (0: it exits). Its own
  // thread.
  void note_end(std::uint16_t row, int signal);

  bool cancelled(std::uint16_t row, std::uint64_t call) const;
  bool interrupted(std::uint64_t call) const;  // a call that runs alone
  std::uint64_t running() const;               // the call that runs alone; 0: none
  std::uint64_t result_max() const;
  std::uint64_t snapshot_max() const;
  std::uint64_t attached_max() const;

  int wake_fd() const;
  void wake();         // any thread, any signal handler
  void calm();         // empties the wake-up descriptor
  void rewind_dump();  // main thread

  // Held while a "C call" holds the interpreter: who needs the interpreter waits for it.
  std::mutex& interpreter() { return interpreter_; }

 private:
  std::mutex interpreter_;
};

}  // namespace keelback::fakeworker
