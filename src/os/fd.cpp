#include "os/fd.h"

#include <dirent.h>
#include <fcntl.h>

namespace keelback::os {

Result<Fd> duplicate(int fd, int at_least) {
  if (int error = fault::next()) return failure(error);
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, at_least);
  if (copy < 0) return last_failure();
  return Fd(copy);
}

Result<void> set_nonblocking(int fd, bool on) {
  if (int error = fault::next()) return failure(error);
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return last_failure();
  if (::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0) {
    return last_failure();
  }
  return {};
}

Result<Fd> open_null() {
  if (int error = fault::next()) return failure(error);
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (fd < 0) return last_failure();
  return Fd(fd);
}

void keep_standard_numbers() {
  // The lowest free number is given: all below are open when it is above 2. They stay open over
  // exec, as standard descriptors do.
  int fd = -1;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) ::close(fd);
}

Result<Pipe> make_pipe() {
  if (int error = fault::next()) return failure(error);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return last_failure();
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Result<std::size_t> read_some(int fd, void* data, std::size_t size) {
  if (int error = fault::next()) return failure(error);
  for (;;) {
    const ssize_t got = ::read(fd, data, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return last_failure();
  }
}

Result<std::string> read_text_file(const std::string& path, std::size_t size_max) {
  if (int error = fault::next()) return failure(error);
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return last_failure();
  std::string text;
  char piece[4096];
  while (text.size() < size_max) {
    auto got = read_some(fd.get(), piece, sizeof(piece));
    if (!got) return std::unexpected(got.error());
    if (*got == 0) break;
    text.append(piece, *got);
  }
  return text;
}

Result<std::size_t> count_open_fds() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return last_failure();
  std::size_t count = 0;
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') ++count;
  }
  ::closedir(directory);
  return count - 1;  // the directory's own
}

}  // namespace keelback::os
