// A short file beside a store. While the store cannot be written to, this file remembers the births
// of the rows that are out of date. Its blocks exist from the start, so that it can be written when
// the disk is full. The anchor says the same, so that one damaged file alone hides nothing.
//
// An open list is locked against other processes. This file carries the lock because no other file
// ever replaces it. Do not open it twice in one process: to close one gives up the lock of both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_set>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::store {

class StaleList {
 public:
  static constexpr std::size_t kEntriesMax = 4096;

  // Opens or makes it. EWOULDBLOCK: another process has it; EISDIR: it is not a file.
  static os::Result<StaleList> open(const std::string& path);

  // An earlier run has left it here, or has left more births than the list can hold.
  bool had(std::uint64_t birth) const { return all_ || found_.contains(birth); }
  // On the disk when it returns true. One more than kEntriesMax makes it say `all`.
  [[nodiscard]] bool add(std::uint64_t birth);
  // Empty, on the disk, when it returns true.
  [[nodiscard]] bool clear();
  bool empty() const { return used_ == 0; }
  bool is_open() const { return static_cast<bool>(fd_); }

 private:
  bool write(std::size_t entry, std::uint64_t birth);
  os::Fd fd_;
  std::size_t used_ = 0;
  std::unordered_set<std::uint64_t> found_;  // what an earlier run has left
  bool all_ = false;                         // likewise: every birth
};

}  // namespace keelback::store
