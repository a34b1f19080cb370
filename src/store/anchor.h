// The store's second witness: a short file beside the database that says which commits were
// acknowledged and which row each session has. SQLite's log ends at its first damaged byte, and a
// log that is damaged looks like one that a crash has cut. The anchor tells them apart: a database
// that is older than the anchor has lost something.
//
// A log of records, one for each commit, written after the commit and before its acknowledgement.
// So an undamaged database is never older than its anchor, and is newer by the one commit that was
// under way when the process died. A record counts whole or not at all. The page cache keeps what
// was written when the process dies; after a power failure the anchor may be older than the
// database, which is harmless: it then proves less.
//
// It is written with pwrite and not mapped: the page cache is the same, and a file that is cut
// while it is mapped would be a SIGBUS. Blocks are taken before they are needed, some of them as a
// reserve: what is out of date can be written down on a full disk too.
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
  // Its row in the database is out of date, and could not be replaced.
  void mark_stale(std::uint64_t birth);
  // Its session was reported as lost; its row, if it is there, could not be taken away.
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
    kDamaged,  // what it says is true, but it does not say all
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
    // It says all that was acknowledged.
    bool is_usable() const { return health == Health::kGood || health == Health::kTorn; }
  };
  // Never fails: what cannot be read is damaged.
  static Found read(const std::string& path);

  Anchor() = default;
  // A new one, in place of what is there. `contents` is what is stored now.
  static os::Result<Anchor> make(const std::string& path, std::uint64_t store,
                                 std::uint64_t committed, const AnchorChanges& contents);
  // Goes on with the one that was read and found usable.
  static os::Result<Anchor> resume(const std::string& path, const Found& found);

  bool is_open() const { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }
  // Takes the blocks that a record needs. After it, commit() fails for no want of room.
  os::Result<void> reserve(const AnchorChanges& changes);
  // `number` is committed.
  os::Result<void> commit(std::uint64_t number, const AnchorChanges& changes);
  // Nothing was committed under the numbers since the last commit, up to `number`: rows that carry
  // them are void. Uses the reserve.
  os::Result<void> give_up(std::uint64_t number, const AnchorChanges& marks);
  // Most of it is history.
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
