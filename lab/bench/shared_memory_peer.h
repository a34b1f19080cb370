// The least that carrying bytes to another process and back can cost: two C++ processes that share
// warm memory and wake each other over a socket pair.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <expected>
#include <string>

#include "os/fd.h"
#include "os/memory.h"

namespace keelback::bench {

class SharedMemoryPeer {
 public:
  // For `bytes` at a time. Forks; the child touches nothing but what was made before.
  static std::expected<SharedMemoryPeer, std::string> start(std::size_t bytes);
  SharedMemoryPeer(SharedMemoryPeer&& other) noexcept;
  SharedMemoryPeer& operator=(SharedMemoryPeer&&) = delete;
  ~SharedMemoryPeer();

  pid_t pid() const { return child_; }
  // `source` into the shared memory, out of it on the other side. Blocks; false: it is gone.
  bool send(const std::string& source) { return exchange(source, 't'); }
  // The same, and back into `back`, which is as long.
  bool echo(const std::string& source, std::string& back);

 private:
  SharedMemoryPeer() = default;
  bool exchange(const std::string& source, char what);

  os::Slab shared_;
  os::Fd socket_;
  pid_t child_ = -1;
};

}  // namespace keelback::bench
