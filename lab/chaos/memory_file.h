// A file that the pool and its workers write while the run goes on. It lies in memory: a disk that
// is busy with other work must not stop the run. Other processes open it by its path, which is a
// link to it as long as the laboratory lives.
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
