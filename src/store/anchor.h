// The store's second witness: a short file beside the database. It says which commits were
// acknowledged and which row each session has. SQLite reads its log up to the first damaged byte,
// so a damaged log looks like a log that a crash has cut. The anchor tells the two apart: a
// database that is older than the anchor has lost something.
//
// The file is a log with one record for each commit. A record is written after its commit and
// before the commit is acknowledged. So an undamaged database is never older than its anchor; it is
// newer by at most the commit that was under way when the process died. A record counts as a whole
// or not at all. If the process dies, the page cache keeps what was written. After a power failure
// the anchor may be older than the database. That does no harm: it then proves less.
//
// The file is written with pwrite and not mapped. The page cache is the same, and a mapped file
// that somebody cuts would cause SIGBUS. Blocks are taken before they are needed, and some are a
// reserve: so the anchor can say on a full disk too which rows are out of date.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::store {

// What one record says, in this order.
class AnchorChanges {
 public:
  void drop(std::uint64_t birth);
  void put(std::string_view session, std::uint64_t birth, std::uint64_t number,
           std::uint64_t proof);
  // Its row in the database is out of date and could not be replaced.
  void mark_stale(std::uint64_t birth);
  // Its session was reported as lost. Its row, if there is one, could not be removed.
  void mark_told(std::uint64_t birth);
  bool empty() const { return bytes_.empty(); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Anchor {
 public:
  static constexpr std::uint32_t kVersion = 2;  // the store's; there was no anchor before it
  static constexpr std::size_t kReserve = 32 << 10;

  enum class Mark : std::uint8_t { kNone, kStale, kTold };
  struct Entry {
    std::string session;
    std::uint64_t number = 0;
    std::uint64_t proof = 0;
    Mark mark = Mark::kNone;
    std::uint64_t marked_at = 0;  // rows of later commits are not meant
  };
  enum class Health : std::uint8_t {
    kMissing,
    kGood,
    kTorn,     // it ends with bytes that are no record: a write that was cut, or a damaged one
    kDamaged,  // its records are true, but some are missing
    kLater,    // a later version wrote it
  };
  // What an earlier run has left.
  struct Found {
    Health health = Health::kMissing;
    std::uint32_t version = 0;
    std::uint64_t store = 0;      // whose it is
    std::uint64_t committed = 0;  // the last commit that was acknowledged
    std::uint64_t used = 0;       // the last number that a commit has had, or a failure
    std::uint64_t void_from = 0;  // from here to `used` nothing was committed; 0: no such number
    std::unordered_map<std::uint64_t, Entry> entries;  // by birth
    std::uint64_t base = 0;                            // bytes of header and base
    std::uint64_t bytes = 0;                           // of header and records
    // It has everything that was acknowledged.
    bool is_usable() const { return health == Health::kGood || health == Health::kTorn; }
  };
  // Never fails: a file that cannot be read counts as damaged.
  static Found read(const std::string& path);

  Anchor() = default;
  // Makes a new one that replaces the old file. `contents` is what is stored now.
  static os::Result<Anchor> make(const std::string& path, std::uint64_t store,
                                 std::uint64_t committed, const AnchorChanges& contents);
  // Continues the one that was read and is usable.
  static os::Result<Anchor> resume(const std::string& path, const Found& found);

  bool is_open() const { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }
  // Takes the blocks that a record needs. Afterwards commit() cannot fail because the disk is full.
  os::Result<void> reserve(const AnchorChanges& changes);
  // `number` is committed.
  os::Result<void> commit(std::uint64_t number, const AnchorChanges& changes);
  // No commit was made under the numbers after the last commit, up to `number`. Rows with these
  // numbers are void. Uses the reserve.
  os::Result<void> give_up(std::uint64_t number, const AnchorChanges& marks);
  // True: most of its records are out of date, and it is worth making a new one.
  bool wants_rewrite() const;

 private:
  os::Result<void> append(std::string_view record);

  os::Fd fd_;
  std::uint64_t store_ = 0;
  std::uint64_t committed_ = 0;
  std::uint64_t base_ = 0;   // bytes of header and base
  std::uint64_t end_ = 0;    // bytes of header and records
  std::uint64_t taken_ = 0;  // bytes of the file
  // The last record says only which numbers are void, and begins here: the next such one replaces
  // it. 0: it is another one.
  std::uint64_t replaceable_ = 0;
};

}  // namespace keelback::store
