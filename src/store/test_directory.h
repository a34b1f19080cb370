// For tests: where many small files are made quickly.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace keelback::store {

// A new directory in memory; on disk where /dev/shm takes no files of ours. Empty: there is none.
inline std::string make_test_directory() {
  const std::string base = ::access("/dev/shm", W_OK) == 0
                               ? "/dev/shm"
                               : std::filesystem::temp_directory_path().string();
  std::string name = base + "/kb-store-XXXXXX";
  return ::mkdtemp(name.data()) != nullptr ? name : std::string();
}

}  // namespace keelback::store
