// A disk that is full, fails or is slow, under the SQLite files of this process: its writes go
// through here on their way to the kernel. Every write is hit, also one over what is already there,
// as on a file system that copies on write. What SQLite does not write itself (the list of
// out-of-date rows, whose blocks were taken at the start) is spared, as it would be.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

namespace keelback::chaos {

struct DiskFault {
  std::string fault;  // its id
  int error = 0;      // what every write ends with; 0: it succeeds
  Duration delay{0};  // what every write takes longer
};

// One at a time in a process; made before the first SQLite connection, gone after the last.
class BadDisk {
 public:
  BadDisk();
  ~BadDisk();
  BadDisk(const BadDisk&) = delete;
  BadDisk& operator=(const BadDisk&) = delete;

  void spoil(const DiskFault& fault);
  void mend();
  // Writes that the present fault, or the last one of this id, has hit.
  std::uint64_t hits(const std::string& fault) const;

 private:
  std::string fault_;
};

}  // namespace keelback::chaos
