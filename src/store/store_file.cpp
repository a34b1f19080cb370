#include "store/store_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>
#include <filesystem>
#include <utility>

namespace keelback::store {
namespace {

constexpr std::int64_t kApplicationId = 0x4b45454c;  // "KEEL"
constexpr std::int64_t kVersion = 1;
constexpr std::string_view kBadSum = "its checksum is wrong";

}  // namespace

void StoreFile::say(bool warn, const std::string& text) const {
  if (notice_) notice_(warn, text);
}

// ---- opening

std::expected<void, std::string> StoreFile::open() {
  if (auto opened = open_file(); !opened) return opened;
  if (!laid_out_) return {};  // down, and nothing is there to be read
  int code = load();
  if (is_damage(code)) {
    found_.clear();
    rows_.clear();
    damaged_.clear();
    stale_.clear();
    all_stale_ = false;
    return set_file_aside(db_.error());
  }
  if (code != SQLITE_OK) return std::unexpected(fmt::format("{}: {}", path_, db_.error()));
  code = clean_up();
  if (is_trouble(code)) {
    go_down(error_);
  } else if (code != SQLITE_OK) {
    return std::unexpected(fmt::format("{}: {}", path_, error_));
  }
  return {};
}

std::expected<void, std::string> StoreFile::open_file() {
  if (auto owned = own_file(); !owned || laid_out_ || down_) return owned;
  const int code = lay_out();
  if (code == SQLITE_OK) return {};
  if (is_busy(code)) return std::unexpected(path_ + ": another process is using it");
  if (is_damage(code)) return set_file_aside(error_);
  if (!fresh_ || !is_trouble(code)) {
    return std::unexpected(fmt::format("{}: {}", path_, error_));
  }
  go_down(error_);
  return {};
}

// Opens it, and makes sure that it is ours and nobody else's. Writes nothing before that is known.
std::expected<void, std::string> StoreFile::own_file() {
  const auto wrong = [this](const std::string& why) {
    return std::unexpected(fmt::format("{}: {}", path_, why));
  };
  // Nobody else's business what is in it. An existing file is not touched: closing it would give up
  // locks that another store of this process may have on it.
  static_cast<void>(os::Fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
  int code = db_.open(path_);
  if (code != SQLITE_OK) return wrong(db_.error());
  // Exclusive before the first access: the lock is taken then, and kept; no file is shared.
  db_.run("PRAGMA locking_mode = EXCLUSIVE");
  code = db_.run("SELECT count(*) FROM sqlite_master");
  if (is_busy(code)) return wrong("another process is using it");
  if (is_damage(code)) return set_file_aside(db_.error());
  if (code != SQLITE_OK) return wrong(db_.error());
  const std::int64_t id = db_.number("PRAGMA application_id", -1);
  const std::int64_t version = db_.number("PRAGMA user_version", -1);
  fresh_ = id == 0 && db_.number("SELECT count(*) FROM sqlite_master", -1) == 0;
  if (!fresh_ && id != kApplicationId) return wrong("it is a database of another program");
  if (!fresh_ && version != kVersion) {
    return wrong(
        fmt::format("it has version {}, and this Keelback knows version {}", version, kVersion));
  }
  code = db_.run("BEGIN EXCLUSIVE; COMMIT");
  if (is_busy(code)) return wrong("another process is using it");
  if (is_damage(code)) return set_file_aside(db_.error());
  if (fresh_ && is_trouble(code)) {
    go_down(db_.error());
    db_.run("ROLLBACK");
    return {};
  }
  if (code != SQLITE_OK) return wrong(db_.error());
  return {};
}

// What must be there before a row is: the list of rows that are out of date, then the tables. Where
// it fails it goes on the next time.
int StoreFile::lay_out() {
  if (const int code = open_list(); code != SQLITE_OK) return code;
  int code = db_.run("PRAGMA journal_mode = WAL");
  if (code == SQLITE_OK && fresh_) {
    code = in_file_.make_tables();
    if (code == SQLITE_OK) fresh_ = false;
  }
  if (code != SQLITE_OK) {
    error_ = db_.error();
    db_.run("ROLLBACK");
    return code;
  }
  db_.run("PRAGMA synchronous = FULL");
  db_.run("PRAGMA journal_size_limit = 16777216");
  if (pages_max_ > 0) {
    db_.run(fmt::format("PRAGMA max_page_count = {}", pages_max_).c_str());
  }
  laid_out_ = in_file_.prepare();
  error_ = db_.error();
  return laid_out_ ? SQLITE_OK : SQLITE_CORRUPT;
}

int StoreFile::open_list() {
  if (stale_list_.is_open()) return SQLITE_OK;
  auto list = StaleList::open(path_ + "-stale");
  if (!list) {
    error_ = "its list of rows that are out of date: " + list.error().message();
    const int error = list.error().value();
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) return SQLITE_FULL;
    return error == EIO ? SQLITE_IOERR : SQLITE_CANTOPEN;
  }
  stale_list_ = std::move(*list);
  all_stale_ = stale_list_.found().all;
  stale_.insert(stale_list_.found().births.begin(), stale_list_.found().births.end());
  return SQLITE_OK;
}

// What an earlier run could not replace, and what is damaged, goes; its sessions are lost already.
int StoreFile::clean_up() {
  if (all_clean() && stale_list_.empty()) return SQLITE_OK;
  int code = db_.run("BEGIN IMMEDIATE");
  if (code == SQLITE_OK) code = drop_unusable();
  if (code == SQLITE_OK) code = db_.run("COMMIT");
  if (code == SQLITE_OK) {
    note_clean();
    return code;
  }
  error_ = db_.error();
  db_.run("ROLLBACK");
  return code;
}

bool StoreFile::all_clean() const { return !all_stale_ && stale_.empty() && damaged_.empty(); }

void StoreFile::note_clean() {
  damaged_.clear();
  stale_.clear();
  all_stale_ = false;
  // If this fails the next run looks for rows that are gone (a birth is never used again), and this
  // one tries again.
  if (!stale_list_.empty()) static_cast<void>(stale_list_.clear());
}

// At the start: nothing can be written. The first thing that is asked tries again.
void StoreFile::go_down(const std::string& error) {
  down_ = true;
  error_ = error;
  say(true,
      fmt::format("{}: snapshots cannot be stored: {}; sessions go on without.", path_, error));
}

// The whole file is damaged: it stays, under another name, and a new one begins.
std::expected<void, std::string> StoreFile::set_file_aside(const std::string& why) {
  ++set_aside_;
  if (set_aside_ > 2) return std::unexpected(fmt::format("{}: {}", path_, why));
  // Nothing of it is trusted; but what can be read of its names was there, and is lost.
  std::vector<std::string> names = in_file_.names();
  if (!names.empty()) lost_ = std::move(names);
  in_file_.reset();
  laid_out_ = false;
  db_.close();
  const std::string aside = fmt::format("{}.damaged-{}", path_, unix_ms());
  std::error_code error;
  std::filesystem::rename(path_, aside, error);
  if (error) {
    return std::unexpected(
        fmt::format("{}: {}, and it cannot be renamed: {}", path_, why, error.message()));
  }
  std::filesystem::rename(path_ + "-wal", aside + "-wal", error);  // if it is there
  say(true,
      fmt::format("{}: {}; it is set aside as {}, and its sessions are lost.", path_, why, aside));
  return open_file();
}

// Reads and writes nothing: a session whose row cannot be used is lost, whether or not the row can
// be taken away.
int StoreFile::load() {
  const int code = in_file_.load([this](SessionRows::Loaded loaded) {
    Record& record = loaded.record;
    if (!loaded.whole) {
      note_damaged(record.session, kBadSum);
      lost_.push_back(record.session);
      damaged_.push_back(std::move(record.session));
      return;
    }
    if (all_stale_ || stale_.contains(record.birth)) {
      lost_.push_back(std::move(record.session));
      return;
    }
    rows_.put(record.session, {record.birth, record.number, bytes_of(record) + loaded.state_bytes});
    found_.push_back(std::move(record));
  });
  rows_.commit();
  if (code != SQLITE_OK) return code;
  if (all_stale_ || !stale_.empty()) {
    say(true, fmt::format("{}: snapshots that an earlier run could not replace are dropped ({}); "
                          "their sessions are lost.",
                          path_, all_stale_ ? std::string("all") : std::to_string(stale_.size())));
  }
  return SQLITE_OK;
}

void StoreFile::note_damaged(std::string_view session, std::string_view why) {
  ++set_aside_;
  say(true,
      fmt::format("{}: the snapshot of session \"{}\" is set aside: {}.", path_, session, why));
}

int StoreFile::drop_unusable() {
  if (all_stale_) {
    if (const int code = in_file_.remove_all(); code != SQLITE_OK) return code;
  }
  for (const std::uint64_t birth : stale_) {
    if (const int code = in_file_.remove_birth(birth); code != SQLITE_OK) return code;
  }
  for (const std::string& session : damaged_) {
    if (const int code = in_file_.set_aside(session, kBadSum); code != SQLITE_OK) return code;
  }
  return SQLITE_OK;
}

void StoreFile::close() {
  if (laid_out_) db_.run("PRAGMA wal_checkpoint(TRUNCATE)");
  in_file_.reset();
  db_.close();
}

// ---- a transaction

int StoreFile::begin() {
  if (!laid_out_) {
    if (const int code = lay_out(); code != SQLITE_OK) return code;
  }
  int code = db_.run("BEGIN IMMEDIATE");
  if (code == SQLITE_OK && !all_clean()) code = drop_unusable();
  return code;
}

int StoreFile::put(const Record& record) {
  const int code = in_file_.put(record);
  if (code == SQLITE_OK) {
    rows_.put(record.session, {record.birth, record.number, bytes_of(record)});
  }
  return code;
}

int StoreFile::remove(const std::string& session) {
  rows_.erase(session);
  return in_file_.remove(session);
}

int StoreFile::remove_birth(const std::string& session, std::uint64_t birth) {
  const RowIndex::Row* row = rows_.find(session);
  if (row != nullptr && row->birth == birth) rows_.erase(session);
  return in_file_.remove_birth(birth);
}

int StoreFile::read(const std::string& session, std::uint64_t birth, std::uint64_t number,
                    Fetched& found, bool& damaged) {
  SessionRows::State state;
  const int code = in_file_.read(session, birth, number, state);
  found = {.gone = !state.snapshot, .snapshot = std::move(state.snapshot)};
  damaged = state.damaged;
  if (code != SQLITE_OK || !damaged) return code;
  constexpr std::string_view kWhy = "its state is damaged";
  note_damaged(session, kWhy);
  rows_.erase(session);
  return in_file_.set_aside(session, kWhy);
}

int StoreFile::commit() {
  const int code = db_.run("COMMIT");
  if (code != SQLITE_OK) return code;
  note_clean();
  rows_.commit();
  return code;
}

void StoreFile::rollback() {
  if (laid_out_) {
    error_ = db_.error();
    db_.run("ROLLBACK");
  }
  rows_.rollback();
}

bool StoreFile::invalidate(const std::string& session, std::uint64_t birth) {
  const RowIndex::Row* row = rows_.find(session);
  if (row == nullptr || row->birth != birth) return true;
  rows_.erase(session);
  rows_.commit();
  stale_.insert(birth);
  return stale_list_.add(birth);
}

}  // namespace keelback::store
