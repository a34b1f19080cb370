// A file of the run that is written while the run goes on, by the pool and by its workers: it lies
// in memory, so that a disk that is busy with somebody else's work stops nobody. Other processes
// open it by its path, which is a link to it for as long as the laboratory lives.
#pragma once

#include <expected>
#include <string>

#include "os/fd.h"

namespace keelback::chaos {

class MemoryFile {
 public:
  MemoryFile() = default;
  [[nodiscard]] static std::expected<MemoryFile, std::string> create(const std::string& path);
  // What was written becomes an ordinary file at the path; more is not written.
  void keep();

 private:
  std::string path_;
  os::Fd fd_;
};

}  // namespace keelback::chaos
