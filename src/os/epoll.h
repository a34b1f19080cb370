// An epoll whose entries report one event each. To get another one, arm the entry again.
#pragma once

#include <cstdint>
#include <span>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::os {

struct EpollEvent {
  std::uint64_t token = 0;
  bool readable = false;  // or at the end
  bool writable = false;
};

// Every method from any thread.
class Epoll {
 public:
  static Result<Epoll> create();
  int get() const { return fd_.get(); }
  // Added disarmed. `token` comes back in events.
  Result<void> add(int fd, std::uint64_t token);
  // Reports one event; then none until the next arm().
  Result<void> arm(int fd, std::uint64_t token, bool read, bool write);
  void remove(int fd);
  // What is ready now, without waiting; the number of events filled in.
  Result<std::size_t> ready(std::span<EpollEvent> events);

 private:
  Fd fd_;
};

}  // namespace keelback::os
