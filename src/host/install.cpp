#include "host/install.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

namespace keelback::host {
namespace {

namespace fs = std::filesystem;

fs::path own_directory() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path() : self.parent_path();
}

std::string first_that_exists(const std::vector<fs::path>& candidates) {
  for (const fs::path& path : candidates) {
    std::error_code error;
    if (!path.empty() && fs::exists(path, error)) return fs::absolute(path, error).string();
  }
  return "";
}

}  // namespace

std::string find_program(std::string_view name) {
  if (const char* directory = std::getenv("KEELBACK_LIBEXEC_DIR")) {
    return first_that_exists({fs::path(directory) / name});
  }
  const fs::path own = own_directory();
  return first_that_exists({own / name, own / "../libexec/keelback" / name,
                            fs::path(KEELBACK_BUILD_PROGRAM_DIR) / name,
                            fs::path(KEELBACK_INSTALL_LIBEXEC_DIR) / name});
}

std::string find_python_directory() {
  if (const char* directory = std::getenv("KEELBACK_PYTHON_DIR")) {
    return first_that_exists({fs::path(directory)});
  }
  const fs::path own = own_directory();
  return first_that_exists({own / "../share/keelback/python", fs::path(KEELBACK_BUILD_PYTHON_DIR),
                            fs::path(KEELBACK_INSTALL_PYTHON_DIR)});
}

}  // namespace keelback::host
