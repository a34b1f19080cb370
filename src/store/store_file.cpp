#include "store/store_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "store/salvage.h"

namespace keelback::store {
namespace {

// If the disk has even less room, writing shows it.
constexpr std::uint64_t kWorthAsking = 1 << 20;

int code_of(const std::error_code& error) {
  switch (error.value()) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return SQLITE_FULL;
    case EROFS:
      return SQLITE_READONLY;
    case EWOULDBLOCK:
      return SQLITE_BUSY;
    case EACCES:
    case EPERM:
      return SQLITE_PERM;
    default:
      return SQLITE_IOERR;
  }
}

bool has_room(const std::string& path, std::uint64_t bytes) {
  struct statvfs system{};
  const std::string directory = std::filesystem::path(path).parent_path().string();
  if (::statvfs(directory.c_str(), &system) != 0) return true;
  return system.f_bavail * system.f_frsize >= bytes;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) {
    text += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", names[i]);
  }
  return names.size() > kMost ? text + ", …" : text;
}

}  // namespace

void StoreFile::say(bool warn, const std::string& text) const {
  if (notice_) notice_(warn, fmt::format("{}: {}", shown_, text));
}

int StoreFile::failed(int code, std::string error) {
  error_ = std::move(error);
  return code;
}

int StoreFile::failed(const std::error_code& error, std::string_view what) {
  return failed(code_of(error), fmt::format("{}: {}", what, error.message()));
}

// ---- what must be there before something can be stored

int StoreFile::make_ready() {
  if (const int code = open_list(); code != SQLITE_OK) return code;
  if (state_ == State::kToMake) {
    if (const int code = make_database(); code != SQLITE_OK) return code;
  }
  if (state_ == State::kToOpen) {
    if (const int code = open_database(); code != SQLITE_OK) return code;
  }
  if (!writable_) {
    if (const int code = prepare(); code != SQLITE_OK) return code;
  }
  return anchor_.is_open() ? SQLITE_OK : make_anchor();
}

int StoreFile::open_list() {
  if (stale_list_.is_open()) return SQLITE_OK;
  auto list = StaleList::open(paths_.list);
  if (!list && list.error() == std::errc::is_a_directory) {
    const std::string suffix = StorePaths::aside_suffix();
    if (const auto error = paths_.set_aside(paths_.list, suffix); !error) {
      ++set_aside_;
      say(true, "its list of rows that are out of date is no file; it is set aside.");
      list = StaleList::open(paths_.list);
    }
  }
  if (!list) return failed(list.error(), "its list of rows that are out of date");
  stale_list_ = std::move(*list);
  return SQLITE_OK;
}

// A new one with the rows of the source, in place of what is there.
int StoreFile::make_database() {
  close_database();
  const std::uint64_t bytes = rows_.sums().bytes;
  if (bytes > kWorthAsking && !has_room(paths_.database, bytes)) {
    return failed(std::make_error_code(std::errc::no_space_on_device), "a new database");
  }
  paths_.remove_fresh();
  Connection fresh;
  if (const int code = fill(fresh); code != SQLITE_OK) {
    error_ = fresh.error();
    fresh.close();
    paths_.remove_fresh();
    return code;
  }
  fresh.finish();
  const bool keeps = paths_.database_bytes() + paths_.log_bytes() > 0;
  if (const auto error = paths_.swap(aside_)) return failed(error, "a new database");
  if (keeps) say(true, fmt::format("what was there is set aside as {}{}.", shown_, aside_));
  source_.reset();
  anchor_.close();  // it is of the one that was there
  commit_ = ++used_;
  state_ = State::kToOpen;
  return SQLITE_OK;
}

int StoreFile::open_database() {
  if (const int code = db_.connect(paths_.database, error_); code != SQLITE_OK) return code;
  const auto totals = in_file_.totals();
  const auto rows = totals ? in_file_.load(*totals) : std::nullopt;
  rows_ = {};
  if (!rows || !in_file_.prepare()) {
    state_ = State::kToMake;
    return failed(SQLITE_CORRUPT, "the database that was made is damaged");
  }
  for (const StoredRow& row : *rows) {
    rows_.put(row.record.session, {row.id, row.record.birth, row.record.number, row.proof,
                                   bytes_of(row.record) + row.state_bytes});
  }
  rows_.commit();
  state_ = State::kOpen;
  return SQLITE_OK;
}

int StoreFile::fill(Connection& db) {
  {
    const os::Fd private_file(::open(paths_.fresh.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  SessionRows to(db);
  int code = db.open(paths_.fresh);
  const auto run = [&](const char* sql) { return code == SQLITE_OK ? code = db.run(sql) : code; };
  run("PRAGMA locking_mode = EXCLUSIVE");
  run("PRAGMA page_size = 4096");    // RawPages::kPageBytes
  run("PRAGMA journal_mode = OFF");  // half of it is deleted
  run("PRAGMA synchronous = FULL");
  run("BEGIN");
  if (code == SQLITE_OK) code = to.make_tables();
  if (code == SQLITE_OK && !to.prepare()) code = SQLITE_ERROR;
  Totals totals{.store = store_, .commit = used_ + 1};
  for (const auto& [session, row] : rows_.committed()) {
    if (code != SQLITE_OK) break;
    const auto record = source_ ? source_->read(session) : std::nullopt;
    if (!record || record->birth != row.birth || record->number != row.number) continue;
    std::uint64_t proof = 0;
    code = to.put(static_cast<std::int64_t>(++totals.rows), store_, totals.commit, *record, proof);
    totals.digest += proof;
  }
  if (code == SQLITE_OK) code = to.put_totals(totals);
  run("COMMIT");
  to.reset();
  run("PRAGMA journal_mode = WAL");
  return code;
}

int StoreFile::prepare() {
  const int code = db_.run("PRAGMA journal_mode = WAL");
  if (code != SQLITE_OK) return failed(code, db_.error());
  db_.run("PRAGMA synchronous = FULL");
  db_.run("PRAGMA journal_size_limit = 16777216");
  if (pages_max_ > 0) db_.run(fmt::format("PRAGMA max_page_count = {}", pages_max_).c_str());
  writable_ = true;
  return code;
}

// Only while the database is complete. Until then the old anchor is the only proof.
int StoreFile::make_anchor() {
  if (anchor_aside_) {
    const std::string suffix = StorePaths::aside_suffix();
    if (const auto error = paths_.set_aside(paths_.anchor, suffix))
      return failed(error, "its anchor");
    anchor_aside_ = false;
    ++set_aside_;
    say(true, fmt::format("its anchor is damaged; it is made anew from the database, which is "
                          "whole, and set aside as {}{}-anchor.",
                          shown_, suffix));
  }
  auto anchor = Anchor::make(paths_.anchor, store_, commit_, rows_.contents());
  if (!anchor) return failed(anchor.error(), "its anchor");
  anchor_ = std::move(*anchor);
  if (const auto noted = anchor_.give_up(used_, {}); !noted) {
    return failed(noted.error(), "its anchor");
  }
  invalidated_.clear();
  return SQLITE_OK;
}

void StoreFile::close_database() {
  writable_ = false;
  if (state_ == State::kOpen) state_ = State::kToOpen;
  in_file_.reset();
  db_.close();
}

void StoreFile::close() {
  if (state_ == State::kOpen) {
    db_.run("PRAGMA wal_checkpoint(TRUNCATE)");
    in_file_.reset();
    db_.finish();
  }
  close_database();
}

// ---- a transaction

int StoreFile::begin() {
  if (const int code = make_ready(); code != SQLITE_OK) return code;
  int code = db_.run("BEGIN IMMEDIATE");
  begun_ = code == SQLITE_OK;
  for (const RowIndex::Stale& stale : rows_.stale()) {
    if (code == SQLITE_OK) code = in_file_.remove(stale.row.id);
  }
  if (code != SQLITE_OK) return failed(code, db_.error());
  rows_.drop_stale();
  return code;
}

int StoreFile::put(const Record& record) {
  const RowIndex::Row* before = rows_.find(record.session);
  RowIndex::Row row{before != nullptr ? before->id : rows_.last_id() + 1, record.birth,
                    record.number, 0, bytes_of(record)};
  const int code = in_file_.put(row.id, store_, used_ + 1, record, row.proof);
  if (code != SQLITE_OK) return failed(code, db_.error());
  rows_.put(record.session, row);
  return code;
}

int StoreFile::remove(const std::string& session) {
  const RowIndex::Row* row = rows_.find(session);
  if (row == nullptr) return SQLITE_OK;
  const int code = in_file_.remove(row->id);
  if (code != SQLITE_OK) return failed(code, db_.error());
  rows_.erase(session);
  return code;
}

int StoreFile::remove_birth(const std::string& session, std::uint64_t birth) {
  const RowIndex::Row* row = rows_.find(session);
  return row != nullptr && row->birth == birth ? remove(session) : SQLITE_OK;
}

int StoreFile::set_row_aside(const std::string& session) {
  const RowIndex::Row* row = rows_.find(session);
  if (row == nullptr) return SQLITE_OK;
  constexpr std::string_view kWhy = "its state is damaged";
  const int code = in_file_.set_aside(row->id, kWhy);
  if (code != SQLITE_OK) return failed(code, db_.error());
  rows_.erase(session);
  ++set_aside_;
  say(true, fmt::format("the snapshot of session \"{}\" is set aside: {}.", session, kWhy));
  return code;
}

int StoreFile::commit() {
  int code = SQLITE_OK;
  const AnchorChanges changes = rows_.changes();
  const bool changed = rows_.is_changed();
  if (changed) {
    if (const auto taken = anchor_.reserve(changes); !taken) {
      return failed(taken.error(), "its anchor");
    }
    const RowIndex::Sums& sums = rows_.staged();
    code = in_file_.put_totals({store_, used_ + 1, sums.rows, sums.digest});
  }
  if (code == SQLITE_OK) code = db_.run("COMMIT");
  if (code != SQLITE_OK) return failed(code, db_.error());
  begun_ = false;
  rows_.commit();
  if (changed) {
    // Even if something fails from here on, the rows are in the file. If a caller is told that they
    // are not stored, they must be invalidated.
    commit_ = ++used_;
    if (const auto noted = anchor_.commit(commit_, changes); !noted) {
      return failed(noted.error(), "its anchor");
    }
  }
  // If this fails the next run looks for rows that are gone, and this one tries again.
  if (!stale_list_.empty()) static_cast<void>(stale_list_.clear());
  if (anchor_.wants_rewrite()) static_cast<void>(make_anchor());
  return code;
}

// The rows may be in the log all the same, and come back if the log is damaged. So their number is
// void.
void StoreFile::rollback() {
  if (std::exchange(begun_, false)) {
    db_.run("ROLLBACK");
    static_cast<void>(anchor_.give_up(++used_, {}));
  }
  rows_.rollback();
}

// ---- outside of one

int StoreFile::read(const std::string& session, std::uint64_t birth, std::uint64_t number,
                    Fetched& found, bool& damaged) {
  found = {.gone = true, .snapshot = {}};
  damaged = false;
  const RowIndex::Row* row = rows_.find(session);
  if (row == nullptr || row->birth != birth || row->number != number) return SQLITE_OK;
  int code = SQLITE_OK;
  if (state_ == State::kOpen) {
    code = in_file_.read(row->id, row->proof, found.snapshot);
  } else if (source_ != nullptr) {
    auto record = source_->read(session);
    if (record && record->birth == birth && record->number == number) {
      found.snapshot = std::move(record->snapshot);
    }
  }
  found.gone = !found.snapshot;
  damaged = found.gone && code == SQLITE_OK;
  return code == SQLITE_OK ? code : failed(code, db_.error());
}

int StoreFile::mend() {
  const std::string why = error_;
  close_database();
  state_ = State::kToMake;
  Witness witness{.store = store_, .rows = {}, .last_commit = used_};
  for (const auto& [session, row] : rows_.committed()) {
    witness.rows.emplace(row.birth, Witness::Row{session, row.proof});
  }
  auto salvage = std::make_unique<Salvage>(paths_.database, paths_.log, witness);
  const auto before = std::exchange(rows_, {});
  for (const Salvage::Saved& saved : salvage->take_saved()) {
    rows_.put(saved.record.session,
              {0, saved.record.birth, saved.record.number, saved.proof, saved.bytes});
  }
  rows_.commit();
  std::vector<std::string> lost;
  for (const auto& each : before.committed()) {
    if (rows_.find(each.first) == nullptr) lost.push_back(each.first);
  }
  source_ = std::move(salvage);
  aside_ = StorePaths::aside_suffix();
  ++set_aside_;
  say(true, fmt::format("the database is damaged: {}.", why));
  tell_loss(rows_.committed().size(), lost);
  return make_ready();
}

void StoreFile::tell_loss(std::size_t saved, const std::vector<std::string>& lost) {
  if (lost.empty()) {
    say(true, fmt::format("all snapshots are saved ({}).", saved));
  } else {
    say(true,
        fmt::format("{} snapshots are saved, {} are lost: {}.", saved, lost.size(), listed(lost)));
  }
}

bool StoreFile::invalidate(const std::string& session, std::uint64_t birth) {
  const RowIndex::Row* row = rows_.find(session);
  if (row == nullptr || row->birth != birth) return true;
  if (state_ == State::kOpen) {
    rows_.outdate(session);
  } else {
    rows_.erase(session);
    rows_.commit();
  }
  invalidated_.push_back(birth);
  return stale_list_.is_open() && stale_list_.add(birth);
}

void StoreFile::note_invalidated() {
  if (invalidated_.empty() || !anchor_.is_open()) return;
  AnchorChanges marks;
  for (const std::uint64_t birth : invalidated_) marks.mark_stale(birth);
  if (anchor_.give_up(used_, marks)) invalidated_.clear();
}

}  // namespace keelback::store
