// The files of a store: their names, why they cannot be used, and how a new database replaces one
// that is set aside.
//
//   PATH            the database            PATH-stale     which rows are out of date; the lock
//   PATH-wal        its log                 PATH-anchor    what was acknowledged
//   PATH-new        is being made           PATH-ready     is made, and about to become PATH
//   PATH.damaged-T  was set aside at T (Unix time in ms), with -wal, -anchor, … of the same T
//
// PATH-ready is complete as soon as it exists. So if the process dies while it renames files, the
// next process can finish the work.
#pragma once

#include <expected>
#include <string>
#include <system_error>
#include <utility>

namespace keelback::store {

// Claims a path for one store of this process, because a file's lock does not keep out another
// store of the same process.
class PathClaim {
 public:
  PathClaim() = default;
  // Not valid: it is claimed already.
  explicit PathClaim(const std::string& path);
  PathClaim(PathClaim&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PathClaim& operator=(PathClaim&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~PathClaim();
  bool valid() const { return !path_.empty(); }

 private:
  std::string path_;
};

struct StorePaths {
  explicit StorePaths(const std::string& path);

  // Links are followed: names are beside the file itself.
  std::string database, log, journal, list, anchor, fresh, ready;

  // Why the store cannot be used, apart from damage, in a sentence.
  std::expected<void, std::string> check() const;
  // No process can write here.
  bool is_read_only() const;
  // Bytes that the database and its log have; 0: there is none.
  std::uint64_t database_bytes() const;
  std::uint64_t log_bytes() const;
  // The log is there and is no file.
  bool log_is_no_file() const;

  // The name that a file gets when it is set aside, for all files of one occasion the same.
  static std::string aside_suffix();
  // Renames `file`, if it is there; keeps the latest three occasions.
  std::error_code set_aside(const std::string& file, const std::string& suffix) const;
  // Deletes what a run that died has left half made.
  void remove_fresh() const;
  // `fresh` becomes the database; what was the database gets the suffix.
  std::error_code swap(const std::string& suffix) const;
  // What is left of a swap that an earlier run has begun.
  std::error_code finish_swap(const std::string& suffix) const;
};

}  // namespace keelback::store
