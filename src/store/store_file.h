// The life of a store's file: whose it is, what an earlier run has left in it, what becomes of it
// when it is damaged, and the one transaction that is under way. One thread at a time.
//
// The file is locked for as long as this lives. What cannot be replaced is remembered beside the
// file (stale_list.h), so that the next run does not find it.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "store/row_index.h"
#include "store/session_rows.h"
#include "store/sqlite.h"
#include "store/stale_list.h"
#include "store/store.h"

namespace keelback::store {

class StoreFile {
 public:
  StoreFile(std::string path, std::int64_t pages_max, Store::Notice notice)
      : path_(std::move(path)), pages_max_(pages_max), notice_(std::move(notice)) {}

  // Reads what is there. The error is one sentence. is_down(): nothing can be written.
  std::expected<void, std::string> open();
  // Everything that was committed is in the file itself.
  void close();

  bool is_down() const { return down_; }
  const std::string& error() const { return error_; }  // of the last thing that failed
  std::uint64_t set_aside() const { return set_aside_; }
  std::vector<Record> take_found() { return std::exchange(found_, {}); }
  std::vector<std::string> take_lost() { return std::exchange(lost_, {}); }
  const RowIndex& rows() const { return rows_; }

  // ---- a transaction: SQLITE_OK, or an error that rollback() must follow
  int begin();
  int put(const Record& record);
  int remove(const std::string& session);  // whatever its birth
  int remove_birth(const std::string& session, std::uint64_t birth);
  // `damaged`: the row is set aside.
  int read(const std::string& session, std::uint64_t birth, std::uint64_t number, Fetched& found,
           bool& damaged);
  int commit();
  void rollback();

  // What is stored of the session is out of date and cannot be replaced now. True: no later run
  // will find it.
  bool invalidate(const std::string& session, std::uint64_t birth);

 private:
  std::expected<void, std::string> open_file();
  std::expected<void, std::string> own_file();
  int lay_out();
  int open_list();
  std::expected<void, std::string> set_file_aside(const std::string& why);
  int load();
  int clean_up();
  bool all_clean() const;
  void note_clean();
  void note_damaged(std::string_view session, std::string_view why);
  int drop_unusable();
  void go_down(const std::string& error);
  void say(bool warn, const std::string& text) const;

  const std::string path_;
  const std::int64_t pages_max_;
  const Store::Notice notice_;

  Connection db_;
  SessionRows in_file_{db_};
  bool fresh_ = false;     // there are no tables yet
  bool laid_out_ = false;  // everything is there that storing needs
  bool down_ = false;
  std::string error_;
  std::uint64_t set_aside_ = 0;
  StaleList stale_list_;
  std::unordered_set<std::uint64_t> stale_;  // births whose rows, if they are there, must go
  bool all_stale_ = false;
  std::vector<std::string> damaged_;  // sessions whose rows are to be set aside
  RowIndex rows_;
  std::vector<Record> found_;
  std::vector<std::string> lost_;
};

}  // namespace keelback::store
