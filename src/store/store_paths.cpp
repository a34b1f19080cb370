#include "store/store_paths.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <vector>

#include "os/clock.h"
#include "os/fd.h"
#include "os/mutex.h"
#include "store/session_rows.h"

namespace keelback::store {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDamaged = ".damaged-";
constexpr std::size_t kKeptMax = 3;  // occasions

// Links lead to the file that they name, also if it is not there yet.
std::string followed(const std::string& path) {
  constexpr int kLinksMax = 40;  // as in the kernel
  std::error_code error;
  fs::path at = fs::absolute(path, error);
  for (int i = 0; i < kLinksMax && !error && fs::is_symlink(at, error); ++i) {
    const fs::path to = fs::read_symlink(at, error);
    at = to.is_absolute() ? to : at.parent_path() / to;
  }
  return at.empty() ? path : at.string();
}

std::string parent_of(const std::string& path) { return fs::path(path).parent_path().string(); }

std::uint64_t bytes_of_file(const std::string& path) {
  struct stat stat{};
  if (::stat(path.c_str(), &stat) != 0 || !S_ISREG(stat.st_mode)) return 0;
  return static_cast<std::uint64_t>(stat.st_size);
}

std::error_code rename_if_there(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return {};
  return {errno, std::system_category()};
}

// When it returns, the names are on the disk, if the file system can ensure that.
void sync_directory(const std::string& path) {
  const os::Fd fd(::open(parent_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) static_cast<void>(::fsync(fd.get()));
}

// Deletes the files of all occasions but the latest.
void forget_older(const std::string& database) {
  const std::string prefix = fs::path(database).filename().string() + std::string(kDamaged);
  std::map<std::string, std::vector<fs::path>> occasions;  // by time, which has 13 digits
  std::error_code error;
  for (fs::directory_iterator each(parent_of(database), error), end; !error && each != end;
       each.increment(error)) {
    const std::string name = each->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::size_t digits = name.find_first_not_of("0123456789", prefix.size());
    occasions[name.substr(prefix.size(), digits - prefix.size())].push_back(each->path());
  }
  while (occasions.size() > kKeptMax) {
    // A directory that somebody has put in a file's place is deleted only if it is empty.
    for (const fs::path& path : occasions.begin()->second) fs::remove(path, error);
    occasions.erase(occasions.begin());
  }
}

// Of this process.
struct Claims {
  os::Mutex mutex;
  std::set<std::string> paths GUARDED_BY(mutex);
};
Claims& claims() {
  static Claims claims;
  return claims;
}

}  // namespace

PathClaim::PathClaim(const std::string& path) {
  const os::MutexLock lock(claims().mutex);
  if (claims().paths.insert(path).second) path_ = path;
}

PathClaim::~PathClaim() {
  if (path_.empty()) return;
  const os::MutexLock lock(claims().mutex);
  claims().paths.erase(path_);
}

StorePaths::StorePaths(const std::string& path)
    : database(followed(path)),
      log(database + "-wal"),
      journal(database + "-journal"),
      list(database + "-stale"),
      anchor(database + "-anchor"),
      fresh(database + "-new"),
      ready(database + "-ready") {}

std::expected<void, std::string> StorePaths::check() const {
  const auto no = [](int error) {
    return std::unexpected(std::error_code(error, std::system_category()).message());
  };
  const std::string directory = parent_of(database);
  struct stat stat{};
  if (::stat(directory.c_str(), &stat) != 0) return no(errno);
  if (!S_ISDIR(stat.st_mode)) return no(ENOTDIR);
  for (const std::string& path : {directory, database, log}) {
    if (::access(path.c_str(), R_OK | W_OK) != 0 && (errno == EACCES || errno == EPERM)) {
      return no(errno);
    }
  }
  if (::stat(database.c_str(), &stat) == 0 && !S_ISREG(stat.st_mode)) {
    return std::unexpected("it is not a file");
  }
  return {};
}

bool StorePaths::is_read_only() const {
  return ::access(parent_of(database).c_str(), W_OK) != 0 && errno == EROFS;
}

std::uint64_t StorePaths::database_bytes() const { return bytes_of_file(database); }
std::uint64_t StorePaths::log_bytes() const { return bytes_of_file(log); }

bool StorePaths::log_is_no_file() const {
  struct stat stat{};
  return ::lstat(log.c_str(), &stat) == 0 && !S_ISREG(stat.st_mode);
}

std::string StorePaths::aside_suffix() { return fmt::format("{}{}", kDamaged, os::unix_ms()); }

std::error_code StorePaths::set_aside(const std::string& file, const std::string& suffix) const {
  const std::string kind = file.substr(database.size());
  const std::error_code error = rename_if_there(file, database + suffix + kind);
  if (!error) forget_older(database);
  return error;
}

void StorePaths::remove_fresh() const {
  for (const char* kind : {"", "-wal", "-journal", "-shm"}) ::unlink((fresh + kind).c_str());
}

std::error_code StorePaths::swap(const std::string& suffix) const {
  if (const auto error = rename_if_there(fresh, ready)) return error;
  return finish_swap(suffix);
}

// Moves the log together with its database: it would damage another database.
std::error_code StorePaths::finish_swap(const std::string& suffix) const {
  struct stat stat{};
  if (::stat(ready.c_str(), &stat) != 0) return {};
  for (const std::string& file : {database, log, journal}) {
    if (const auto error = set_aside(file, suffix)) return error;
  }
  if (const auto error = rename_if_there(ready, database)) return error;
  sync_directory(database);
  return {};
}

}  // namespace keelback::store
