// The life of a store's file: who owns it, what an earlier run has left in it, what happens when it
// is damaged, and the one transaction that is under way. One thread at a time.
//
// Two witnesses say what is stored. The database proves by its totals that it is complete at one
// moment. The anchor says which moment was acknowledged last. A database that is complete and not
// older than the anchor is used as it is. From any other database only those rows are saved that
// the anchor names (salvage.h); they go into a new database, and the damaged one is kept beside it.
// A damaged or missing anchor is made anew from a complete database. So each witness is enough to
// find damage of the other. If both are damaged, nothing is proven, and all sessions are lost.
//
//   open() ── whole ──────────────────────────────▶ ready ◀───────────┐
//          ├─ new, or of an earlier version ──┐       │ damage        │ made
//          └─ damaged ────────────────────────┴──▶ make_database() ───┘
//                                                     ▲ │ the disk does not take it
//                                                     └─┘ tried again; rows are read from the
//                                                     source
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "store/anchor.h"
#include "store/examination.h"
#include "store/row_index.h"
#include "store/row_source.h"
#include "store/session_rows.h"
#include "store/sqlite.h"
#include "store/stale_list.h"
#include "store/store.h"
#include "store/store_paths.h"

namespace keelback::store {

class StoreFile {
 public:
  StoreFile(const std::string& path, std::int64_t pages_max, Store::Notice notice)
      : shown_(path), paths_(path), pages_max_(pages_max), notice_(std::move(notice)) {}

  // Reads the file. The error is one sentence: another process uses the file, it is not ours, or it
  // may not be opened. Damage is no error. is_down(): nothing can be written.
  std::expected<void, std::string> open();
  // Everything that was committed is in the database itself.
  void close();

  bool is_down() const { return down_; }
  const std::string& error() const { return error_; }     // of the last thing that failed
  std::uint64_t set_aside() const { return set_aside_; }  // rows and files
  std::vector<Record> take_found() { return std::exchange(found_, {}); }
  std::vector<std::string> take_lost() { return std::exchange(lost_, {}); }
  const RowIndex& rows() const { return rows_; }

  // ---- a transaction: SQLITE_OK, or an error that rollback() must follow
  int begin();
  int put(const Record& record);
  int remove(const std::string& session);  // whatever its birth
  int remove_birth(const std::string& session, std::uint64_t birth);
  int set_row_aside(const std::string& session);
  int commit();
  void rollback();

  // Also outside of a transaction. `damaged`: the row is there, and cannot be used.
  int read(const std::string& session, std::uint64_t birth, std::uint64_t number, Fetched& found,
           bool& damaged);
  // After an error that means damage: saves into a new database what memory knows to be stored.
  // Rows that cannot be saved are no longer stored.
  int mend();

  // The session's row is out of date and cannot be replaced now. True: no later run will use it.
  bool invalidate(const std::string& session, std::uint64_t birth);
  // The anchor says it too, for all that were invalidated since.
  void note_invalidated();

 private:
  // What becomes of the database next; kOpen: it is whole, and is read and written.
  enum class State : std::uint8_t { kToMake, kToOpen, kOpen };

  // ---- the start (store_file_start.cpp)
  void settle(const Anchor::Found& anchor);
  void adopt(Examined&& whole, const Anchor::Found& anchor);
  void go_on_with(const Anchor::Found& anchor);
  void take_version_1();
  void save_rows(const std::string& why, const Anchor::Found& anchor);
  void lose_unread(const Anchor::Found& anchor);
  void lose(std::vector<std::string> names);
  void lose_all();

  // ---- what must be there before something can be stored
  int make_ready();
  int open_list();
  int make_database();
  int fill(Connection& db);
  int open_database();
  int prepare();
  int make_anchor();
  void close_database();  // its log stays as it is
  void tell_loss(std::size_t saved, const std::vector<std::string>& lost);

  int failed(int code, std::string error);
  int failed(const std::error_code& error, std::string_view what);
  void say(bool warn, const std::string& text) const;

  const std::string shown_;  // the path as configured
  const StorePaths paths_;
  const std::int64_t pages_max_;
  const Store::Notice notice_;
  PathClaim claim_;

  Connection db_;
  SessionRows in_file_{db_};
  State state_ = State::kToMake;
  bool writable_ = false;  // db_ is prepared to be written to
  StaleList stale_list_;
  Anchor anchor_;
  bool anchor_aside_ = false;  // the anchor that is there is damaged
  // Where the rows are while the database is not whole; null: there are none.
  std::unique_ptr<RowSource> source_;
  std::string aside_;  // the suffix of the file that make_database() sets aside

  std::uint64_t store_ = 0;   // which store this is
  std::uint64_t commit_ = 0;  // the number of the last commit
  std::uint64_t used_ = 0;    // the last number that a commit has had, or a failure
  bool begun_ = false;        // a transaction
  RowIndex rows_;
  std::vector<std::uint64_t> invalidated_;  // births that the anchor does not know of yet
  std::vector<Record> found_;
  std::vector<std::string> lost_;
  bool down_ = false;
  std::string error_;
  std::uint64_t set_aside_ = 0;
};

}  // namespace keelback::store
