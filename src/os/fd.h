// A file descriptor that closes itself. An Fd owns its descriptor and is moved, never shared.
#pragma once

#include <unistd.h>

#include <string>
#include <utility>

#include "os/result.h"

namespace keelback::os {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int number) : number_(number) {}
  Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  // Gives the descriptor away; the caller closes it.
  [[nodiscard]] int release() { return std::exchange(number_, -1); }
  void reset() {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
  }

 private:
  int number_ = -1;
};

// A copy with a number of at least `at_least`, closed on exec.
Result<Fd> duplicate(int fd, int at_least = 3);
Result<void> set_nonblocking(int fd, bool on);
Result<Fd> open_null();  // /dev/null, for reading and writing
// Opens /dev/null at the numbers 0, 1 and 2 that are closed, and leaves the others alone. Without
// it the next socket or file gets such a number, and what is printed goes into it.
void keep_standard_numbers();

struct Pipe {
  Fd read;
  Fd write;
};
// Both ends closed on exec, blocking.
Result<Pipe> make_pipe();

// read(2), tried again after EINTR. 0 is the end of the file. EAGAIN is an error like others.
Result<std::size_t> read_some(int fd, void* data, std::size_t size);

// The text of a file of the kernel (/proc, /sys). Stops after about `size_max` bytes.
Result<std::string> read_text_file(const std::string& path, std::size_t size_max = 1 << 20);

// How many descriptors this process has open, for the leak checks.
Result<std::size_t> count_open_fds();

}  // namespace keelback::os
