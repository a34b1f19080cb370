#include "chaos/memory_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "chaos/lab.h"

namespace keelback::chaos {

std::expected<MemoryFile, std::string> MemoryFile::create(const std::string& path) {
  MemoryFile made;
  made.path_ = path;
  made.fd_ = os::Fd(::memfd_create("keelback-chaos", MFD_CLOEXEC));
  if (!made.fd_) return std::unexpected(std::strerror(errno));
  std::error_code error;
  std::filesystem::remove(path, error);
  const std::string target = fmt::format("/proc/{}/fd/{}", ::getpid(), made.fd_.get());
  std::filesystem::create_symlink(target, path, error);
  if (error) return std::unexpected(fmt::format("{}: {}", path, error.message()));
  return made;
}

void MemoryFile::keep() {
  if (!fd_) return;
  std::string text;
  char piece[1 << 16];
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(fd_.get(), piece, sizeof(piece), at);
    if (got <= 0) break;
    text.append(piece, static_cast<std::size_t>(got));
    at += got;
  }
  std::error_code error;
  std::filesystem::remove(path_, error);
  static_cast<void>(write_file(path_, text));  // the report is made of what was read before
  fd_.reset();
}

}  // namespace keelback::chaos
