#include "store/stale_list.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace keelback::store {
namespace {

// One entry: a birth and its check word, so that a torn or a strange entry is none. Written as they
// lie in memory: the file is read on the machine that wrote it.
struct Entry {
  std::uint64_t birth = 0;
  std::uint64_t check = 0;
};
constexpr std::uint64_t kCheck = 0x6b65656c6261636bULL;
constexpr std::size_t kBytes = StaleList::kEntriesMax * sizeof(Entry);

// In the first entry: every row is out of date. No session has this birth.
constexpr std::uint64_t kAll = 0;

// False: another process has it. A file system without locks has no other process.
bool lock(int fd) {
  struct flock whole{};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &whole) == 0 || (errno != EACCES && errno != EAGAIN);
}

}  // namespace

os::Result<StaleList> StaleList::open(const std::string& path) {
  StaleList list;
  list.fd_ = os::Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!list.fd_) return os::last_failure();
  struct stat stat{};
  if (::fstat(list.fd_.get(), &stat) != 0) return os::last_failure();
  if (!S_ISREG(stat.st_mode)) return os::failure(EISDIR);
  if (!lock(list.fd_.get())) return os::failure(EWOULDBLOCK);
  if (const int error = ::posix_fallocate(list.fd_.get(), 0, kBytes); error != 0) {
    return os::failure(error);
  }
  if (::fsync(list.fd_.get()) != 0) {
    return os::last_failure();
  }
  std::vector<Entry> entries(kEntriesMax);
  const ssize_t got = ::pread(list.fd_.get(), entries.data(), kBytes, 0);
  if (got < 0) return os::last_failure();
  for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(Entry); ++i) {
    const Entry& entry = entries[i];
    if (entry.check != (entry.birth ^ kCheck)) continue;
    if (entry.birth == kAll) list.all_ = true;
    list.found_.insert(entry.birth);
    list.used_ = i + 1;
  }
  return list;
}

bool StaleList::write(std::size_t entry, std::uint64_t birth) {
  const Entry written{birth, birth ^ kCheck};
  const auto at = static_cast<off_t>(entry * sizeof(Entry));
  return ::pwrite(fd_.get(), &written, sizeof written, at) == sizeof written &&
         ::fdatasync(fd_.get()) == 0;
}

bool StaleList::add(std::uint64_t birth) {
  if (used_ >= kEntriesMax) return write(0, kAll);
  if (!write(used_, birth)) return false;
  ++used_;
  return true;
}

bool StaleList::clear() {
  const std::vector<Entry> nothing(kEntriesMax);
  if (::pwrite(fd_.get(), nothing.data(), kBytes, 0) != static_cast<ssize_t>(kBytes) ||
      ::fdatasync(fd_.get()) != 0) {
    return false;
  }
  used_ = 0;
  return true;
}

}  // namespace keelback::store
