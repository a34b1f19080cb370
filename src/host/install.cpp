#include "host/install.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <iterator>
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

// Where the dynamic linker searches for the libraries of the program, or of the shared library,
// that this code is linked into. Our package adds the directory of our programs to that path
// (-rpath), so that a program which lies elsewhere finds them.
std::vector<fs::path> link_directories() {
  Dl_info symbol{};
  void* self = nullptr;
  const auto* here = reinterpret_cast<const void*>(&link_directories);
  if (::dladdr1(here, &symbol, &self, RTLD_DL_LINKMAP) == 0 || self == nullptr) return {};
  Dl_serinfo size;
  if (::dlinfo(self, RTLD_DI_SERINFOSIZE, &size) != 0) return {};
  std::vector<std::max_align_t> memory(size.dls_size / sizeof(std::max_align_t) + 1);
  auto* found = reinterpret_cast<Dl_serinfo*>(memory.data());
  *found = size;
  if (::dlinfo(self, RTLD_DI_SERINFO, found) != 0) return {};
  std::vector<fs::path> directories;
  for (unsigned i = 0; i < found->dls_cnt; ++i) {
    directories.emplace_back(found->dls_serpath[i].dls_name);
  }
  return directories;
}

// The first that is there, without links and dots in its path.
std::string first_that_exists(const std::vector<fs::path>& candidates) {
  for (const fs::path& path : candidates) {
    std::error_code error;
    if (!path.is_absolute() || !fs::exists(path, error)) continue;
    const fs::path plain = fs::canonical(path, error);
    if (!error) return plain.string();
  }
  return "";
}

std::string given(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) ? fs::absolute(path, error).string() : "";
}

// Where a program that lies in `own` has another one.
std::vector<fs::path> beside(const fs::path& own, std::string_view name) {
  return {own / name, own / KEELBACK_LIBEXEC_FROM_BIN / name,
          own / KEELBACK_BIN_FROM_LIBEXEC / name};
}

}  // namespace

std::string find_program(std::string_view name) {
  if (const char* directory = std::getenv("KEELBACK_LIBEXEC_DIR")) {
    const std::string there = given(fs::path(directory) / name);
    return there.empty() ? given(fs::path(directory) / KEELBACK_BIN_FROM_LIBEXEC / name) : there;
  }
  std::vector<fs::path> candidates;
  for (const fs::path& directory : link_directories()) candidates.push_back(directory / name);
  std::ranges::copy(beside(own_directory(), name), std::back_inserter(candidates));
  return first_that_exists(candidates);
}

std::string find_program_of(const std::string& program, std::string_view name) {
  std::error_code error;
  const fs::path path = fs::canonical(program, error);
  return error ? "" : first_that_exists(beside(path.parent_path(), name));
}

std::string find_python_directory() {
  if (const char* directory = std::getenv("KEELBACK_PYTHON_DIR")) return given(directory);
  std::vector<fs::path> candidates;
  for (const fs::path& directory : link_directories()) {
    // The dynamic linker's other directories are not ours.
    std::error_code error;
    if (!fs::exists(directory / "keelback-guard", error)) continue;
    candidates.push_back(directory / KEELBACK_PYTHON_FROM_LIBEXEC);
  }
  const fs::path own = own_directory();
  candidates.push_back(own / "keelback-python");
  candidates.push_back(own / KEELBACK_PYTHON_FROM_BIN);
  candidates.push_back(own / KEELBACK_PYTHON_FROM_LIBEXEC);
  return first_that_exists(candidates);
}

}  // namespace keelback::host
