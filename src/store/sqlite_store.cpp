#include "store/sqlite_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sqlite3.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>
#include <utility>

namespace keelback::store {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kApplicationId = 0x4b45454c;  // "KEEL"
constexpr std::int64_t kVersion = 1;
constexpr std::size_t kBatchMax = 512;                  // in one transaction
constexpr std::uint64_t kQueuedBytesMax = 64ULL << 20;  // not yet written; more is refused
constexpr auto kPauseFirst = 100ms;                     // after a failure
constexpr auto kPauseMax = 5s;
constexpr std::string_view kBadSum = "its checksum is wrong";

constexpr const char* kSchema = R"sql(
BEGIN;
CREATE TABLE sessions (
  session BLOB PRIMARY KEY NOT NULL, birth INTEGER NOT NULL, epoch INTEGER NOT NULL,
  number INTEGER NOT NULL, mode INTEGER NOT NULL, opened_ms INTEGER NOT NULL,
  used_ms INTEGER NOT NULL, format INTEGER NOT NULL, state_bytes INTEGER NOT NULL,
  state_sum INTEGER NOT NULL, key BLOB NOT NULL, fingerprint INTEGER NOT NULL,
  kind INTEGER NOT NULL, payload BLOB NOT NULL, error_type BLOB NOT NULL,
  error_message BLOB NOT NULL, error_traceback BLOB NOT NULL, row_sum INTEGER NOT NULL,
  state BLOB NOT NULL);
CREATE INDEX sessions_birth ON sessions (birth);
CREATE TABLE set_aside (at_ms INTEGER NOT NULL, why TEXT NOT NULL, session BLOB, birth, epoch,
  number, mode, opened_ms, used_ms, format, state_bytes, state_sum, key, fingerprint, kind, payload,
  error_type, error_message, error_traceback, row_sum, state);
PRAGMA application_id = 0x4b45454c;
PRAGMA user_version = 1;
COMMIT;
)sql";

// The columns of a row but its state, in the order of the table.
constexpr std::string_view kInsert =
    "INSERT OR REPLACE INTO sessions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
constexpr std::string_view kSelectAll =
    "SELECT session, birth, epoch, number, mode, opened_ms, used_ms, format, state_bytes, "
    "state_sum, key, fingerprint, kind, payload, error_type, error_message, error_traceback, "
    "row_sum FROM sessions ORDER BY used_ms";
constexpr std::string_view kSelect =
    "SELECT birth, number, format, state_bytes, state_sum, state FROM sessions WHERE session = ?";
constexpr std::string_view kAside =
    "INSERT INTO set_aside SELECT ?, ?, * FROM sessions WHERE session = ?";
// What is set aside is for people to look at: the latest hundred.
constexpr std::string_view kTrimAside =
    "DELETE FROM set_aside WHERE rowid <= (SELECT max(rowid) FROM set_aside) - 100";

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::uint32_t sum(std::string_view bytes) {
  boost::crc_32_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

// Of everything in the row but the state itself, which has a sum of its own.
std::uint32_t row_sum(const Record& record, std::uint64_t state_bytes, std::uint32_t state_sum) {
  boost::crc_32_type crc;
  const auto number = [&crc](std::uint64_t value) {
    for (int i = 0; i < 8; ++i) crc.process_byte(static_cast<unsigned char>(value >> (8 * i)));
  };
  const auto text = [&](std::string_view value) {
    number(value.size());
    crc.process_bytes(value.data(), value.size());
  };
  const Answer& answer = record.answer;
  text(record.session);
  for (const std::uint64_t value :
       {record.birth, std::uint64_t{record.epoch}, record.number,
        static_cast<std::uint64_t>(record.mode), static_cast<std::uint64_t>(record.opened_ms),
        static_cast<std::uint64_t>(record.used_ms),
        static_cast<std::uint64_t>(record.snapshot.format), state_bytes, std::uint64_t{state_sum},
        answer.fingerprint, static_cast<std::uint64_t>(answer.kind)}) {
    number(value);
  }
  for (const std::string* value :
       {&answer.key, &answer.payload, &answer.type, &answer.message, &answer.traceback}) {
    text(*value);
  }
  return crc.checksum();
}

bool is_damage(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
}
bool is_busy(int code) { return (code & 0xff) == SQLITE_BUSY; }
// The disk does not take what is written; it may some time.
bool is_trouble(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_FULL || primary == SQLITE_IOERR || primary == SQLITE_READONLY;
}

}  // namespace

SqliteStore::SqliteStore(Options options)
    : options_(std::move(options)), bytes_max_(options_.bytes_max) {
  status_.name = "sqlite:" + options_.path;
}

SqliteStore::~SqliteStore() { close(); }

void SqliteStore::say(bool warn, const std::string& text) const {
  if (options_.notice) options_.notice(warn, text);
}

// ---- opening

std::expected<std::unique_ptr<SqliteStore>, std::string> SqliteStore::open(Options options) {
  std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(options)));
  if (auto begun = store->begin(); !begun) return std::unexpected(begun.error());
  store->thread_ = std::thread([raw = store.get()] {
    ::pthread_setname_np(::pthread_self(), "keelback-store");
    raw->run();
  });
  return store;
}

std::expected<void, std::string> SqliteStore::begin() {
  if (auto opened = open_file(); !opened) return opened;
  if (!laid_out_) return {};  // down, and nothing is there to be read
  int code = load();
  if (is_damage(code)) {
    found_.clear();
    rows_.clear();
    damaged_.clear();
    bytes_ = 0;
    stale_.clear();
    all_stale_ = false;
    return set_file_aside(db_.error());
  }
  if (code != SQLITE_OK) return std::unexpected(fmt::format("{}: {}", options_.path, db_.error()));
  status_.sessions = rows_.size();
  status_.bytes = bytes_;
  code = clean_up();
  if (is_trouble(code)) {
    go_down(error_);
  } else if (code != SQLITE_OK) {
    return std::unexpected(fmt::format("{}: {}", options_.path, error_));
  }
  return {};
}

std::expected<void, std::string> SqliteStore::open_file() {
  if (auto owned = own_file(); !owned || laid_out_ || down_) return owned;
  const int code = lay_out();
  if (code == SQLITE_OK) return {};
  if (is_busy(code)) return std::unexpected(options_.path + ": another process is using it");
  if (is_damage(code)) return set_file_aside(error_);
  if (!fresh_ || !is_trouble(code)) {
    return std::unexpected(fmt::format("{}: {}", options_.path, error_));
  }
  go_down(error_);
  return {};
}

// Opens it, and makes sure that it is ours and nobody else's. Writes nothing before that is known.
std::expected<void, std::string> SqliteStore::own_file() {
  const auto wrong = [this](const std::string& why) {
    return std::unexpected(fmt::format("{}: {}", options_.path, why));
  };
  // Nobody else's business what is in it. An existing file is not touched: closing it would give up
  // locks that another store of this process may have on it.
  static_cast<void>(
      os::Fd(::open(options_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
  int code = db_.open(options_.path);
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
int SqliteStore::lay_out() {
  if (const int code = open_list(); code != SQLITE_OK) return code;
  int code = db_.run("PRAGMA journal_mode = WAL");
  if (code == SQLITE_OK && fresh_) {
    code = db_.run(kSchema);
    if (code == SQLITE_OK) fresh_ = false;
  }
  if (code != SQLITE_OK) {
    error_ = db_.error();
    db_.run("ROLLBACK");
    return code;
  }
  db_.run("PRAGMA synchronous = FULL");
  db_.run("PRAGMA journal_size_limit = 16777216");
  if (options_.pages_max > 0) {
    db_.run(fmt::format("PRAGMA max_page_count = {}", options_.pages_max).c_str());
  }
  insert_ = db_.prepare(kInsert);
  delete_ = db_.prepare("DELETE FROM sessions WHERE session = ?");
  delete_birth_ = db_.prepare("DELETE FROM sessions WHERE birth = ?");
  select_ = db_.prepare(kSelect);
  aside_ = db_.prepare(kAside);
  trim_aside_ = db_.prepare(kTrimAside);
  laid_out_ = insert_.valid() && delete_.valid() && delete_birth_.valid() && select_.valid() &&
              aside_.valid() && trim_aside_.valid();
  error_ = db_.error();
  return laid_out_ ? SQLITE_OK : SQLITE_CORRUPT;
}

int SqliteStore::open_list() {
  if (stale_list_.is_open()) return SQLITE_OK;
  auto list = StaleList::open(options_.path + "-stale");
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

// Of a damaged file: by way of the index and of the table itself, as far as each can be followed.
std::vector<std::string> SqliteStore::names() {
  std::set<std::string> names;
  db_.run("PRAGMA writable_schema = ON");  // else a file that is too short is not read at all
  for (const std::string_view from : {"sessions", "sessions NOT INDEXED"}) {
    Statement all = db_.prepare(fmt::format("SELECT session FROM {}", from));
    while (all.step() == SQLITE_ROW) names.insert(all.blob(0));
  }
  std::erase_if(names, [](const std::string& name) { return name.empty() || name.size() > 256; });
  return {names.begin(), names.end()};
}

// What an earlier run could not replace, and what is damaged, goes; its sessions are lost already.
int SqliteStore::clean_up() {
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

bool SqliteStore::all_clean() const { return !all_stale_ && stale_.empty() && damaged_.empty(); }

void SqliteStore::note_clean() {
  damaged_.clear();
  stale_.clear();
  all_stale_ = false;
  // If this fails the next run looks for rows that are gone (a birth is never used again), and this
  // one tries again.
  if (!stale_list_.empty()) static_cast<void>(stale_list_.clear());
}

// At the start: nothing can be written. The first thing that is asked tries again.
void SqliteStore::go_down(const std::string& error) {
  down_ = true;
  status_.up = false;
  status_.error = error;
  say(true, fmt::format("{}: snapshots cannot be stored: {}; sessions go on without.",
                        options_.path, error));
}

// The whole file is damaged: it stays, under another name, and a new one begins.
std::expected<void, std::string> SqliteStore::set_file_aside(const std::string& why) {
  ++status_.set_aside;
  if (status_.set_aside > 2) return std::unexpected(fmt::format("{}: {}", options_.path, why));
  // Nothing of it is trusted; but what can be read of its names was there, and is lost.
  std::vector<std::string> names = this->names();
  if (!names.empty()) lost_ = std::move(names);
  insert_ = {};
  delete_ = {};
  delete_birth_ = {};
  select_ = {};
  aside_ = {};
  trim_aside_ = {};
  laid_out_ = false;
  db_.close();
  const std::string aside = fmt::format("{}.damaged-{}", options_.path, unix_ms());
  std::error_code error;
  std::filesystem::rename(options_.path, aside, error);
  if (error) {
    return std::unexpected(
        fmt::format("{}: {}, and it cannot be renamed: {}", options_.path, why, error.message()));
  }
  std::filesystem::rename(options_.path + "-wal", aside + "-wal", error);  // if it is there
  say(true, fmt::format("{}: {}; it is set aside as {}, and its sessions are lost.", options_.path,
                        why, aside));
  return open_file();
}

// Reads and writes nothing: a session whose row cannot be used is lost, whether or not the row can
// be taken away.
int SqliteStore::load() {
  Statement all = db_.prepare(kSelectAll);
  if (!all.valid()) return SQLITE_CORRUPT;
  int code = all.step();
  for (; code == SQLITE_ROW; code = all.step()) {
    Record record;
    record.session = all.blob(0);
    record.birth = all.word(1);
    record.epoch = static_cast<std::uint32_t>(all.integer(2));
    record.number = all.word(3);
    record.mode = static_cast<Affinity>(all.integer(4));
    record.opened_ms = all.integer(5);
    record.used_ms = all.integer(6);
    record.snapshot.format = static_cast<Format>(all.integer(7));
    const std::uint64_t state_bytes = all.word(8);
    const auto state_sum = static_cast<std::uint32_t>(all.integer(9));
    record.answer.key = all.blob(10);
    record.answer.fingerprint = all.word(11);
    record.answer.kind = static_cast<OutcomeKind>(all.integer(12));
    record.answer.payload = all.blob(13);
    record.answer.type = all.blob(14);
    record.answer.message = all.blob(15);
    record.answer.traceback = all.blob(16);
    const bool whole =
        row_sum(record, state_bytes, state_sum) == static_cast<std::uint32_t>(all.integer(17));
    // The sum vouches for what was written, not for who wrote it.
    const bool sane =
        all.integer(4) >= 0 && all.integer(4) <= static_cast<int>(Affinity::kHint) &&
        (all.integer(7) == static_cast<int>(Format::kJson) ||
         all.integer(7) == static_cast<int>(Format::kBytes)) &&
        (record.answer.kind == OutcomeKind::kOk || record.answer.kind == OutcomeKind::kError) &&
        !record.session.empty() && record.session.size() <= 256 && record.birth != 0 &&
        record.number != 0;
    if (!whole || !sane) {
      note_damaged(record.session, kBadSum);
      lost_.push_back(record.session);
      damaged_.push_back(std::move(record.session));
      continue;
    }
    if (all_stale_ || stale_.contains(record.birth)) {
      lost_.push_back(std::move(record.session));
      continue;
    }
    const Row row{record.birth, record.number, bytes_of(record) + state_bytes};
    bytes_ += row.bytes;
    rows_.emplace(record.session, row);
    found_.push_back(std::move(record));
  }
  if (code != SQLITE_DONE) return code;
  if (all_stale_ || !stale_.empty()) {
    say(true, fmt::format("{}: snapshots that an earlier run could not replace are dropped ({}); "
                          "their sessions are lost.",
                          options_.path,
                          all_stale_ ? std::string("all") : std::to_string(stale_.size())));
  }
  return SQLITE_OK;
}

int SqliteStore::set_row_aside(std::string_view session, std::string_view why) {
  aside_.bind(unix_ms()).bind_blob(why).bind_blob(session);
  int code = aside_.run();
  if (code == SQLITE_DONE) code = trim_aside_.run();
  return code == SQLITE_DONE ? remove(session) : code;
}

void SqliteStore::note_damaged(std::string_view session, std::string_view why) {
  {
    const std::lock_guard lock(mutex_);
    ++status_.set_aside;
  }
  say(true, fmt::format("{}: the snapshot of session \"{}\" is set aside: {}.", options_.path,
                        session, why));
}

int SqliteStore::drop_unusable() {
  if (all_stale_) {
    if (const int code = db_.run("DELETE FROM sessions"); code != SQLITE_OK) return code;
  }
  for (const std::uint64_t birth : stale_) {
    if (const int code = delete_birth_.bind(birth).run(); code != SQLITE_DONE) return code;
  }
  for (const std::string& session : damaged_) {
    if (const int code = set_row_aside(session, kBadSum); code != SQLITE_OK) return code;
  }
  return SQLITE_OK;
}

// ---- any thread

std::vector<Record> SqliteStore::take_found() { return std::exchange(found_, {}); }

std::vector<std::string> SqliteStore::take_lost() { return std::exchange(lost_, {}); }

void SqliteStore::enqueue(Work work, std::uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    queued_bytes_ += bytes;
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

std::optional<bool> SqliteStore::keep(Record record, Done done) {
  Work work{.record = std::move(record), .done = std::move(done)};
  const std::uint64_t bytes = bytes_of(work.record);
  bool refused = false;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
    refused = queued_bytes_ + bytes > kQueuedBytesMax && !queue_.empty();
  }
  if (!refused) {
    enqueue(std::move(work), bytes);
    return std::nullopt;
  }
  // The disk does not keep up. What is stored of the session is out of date all the same.
  work.refused = true;
  work.record.snapshot.state = nullptr;
  work.record.answer = {};
  enqueue(std::move(work), 0);
  return std::nullopt;
}

std::optional<bool> SqliteStore::drop(std::string session, std::uint64_t birth, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
  }
  Work work{.kind = Work::Kind::kDrop, .done = std::move(done)};
  work.record.session = std::move(session);
  work.record.birth = birth;
  enqueue(std::move(work), 0);
  return std::nullopt;
}

std::optional<Fetched> SqliteStore::fetch(const std::string& session, std::uint64_t birth,
                                          std::uint64_t number, OnFetched done) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return Fetched{.gone = false, .snapshot = {}};
  }
  Work work{.kind = Work::Kind::kFetch, .fetched = std::move(done)};
  work.record.session = session;
  work.record.birth = birth;
  work.record.number = number;
  enqueue(std::move(work), 0);
  return std::nullopt;
}

void SqliteStore::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  if (!thread_.joinable()) return;
  thread_.join();
  db_.run("PRAGMA wal_checkpoint(TRUNCATE)");
}

Status SqliteStore::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

// ---- the thread

void SqliteStore::run() {
  std::vector<Work> batch;
  for (;;) {
    batch.clear();
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      while (!queue_.empty() && batch.size() < kBatchMax) {
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
        if (batch.back().kind == Work::Kind::kKeep) {
          queued_bytes_ -= std::min(queued_bytes_, bytes_of(batch.back().record));
        }
      }
    }
    perform(batch);
    for (Work& work : batch) {
      if (work.done) work.done(work.ok);
      if (work.fetched) work.fetched(std::move(work.found));
    }
  }
}

void SqliteStore::perform(std::vector<Work>& batch) {
  if (down_ && std::chrono::steady_clock::now() < retry_at_) return fail(batch, SQLITE_OK);
  const int code = transact(batch);
  code == SQLITE_OK ? commit_done(batch) : fail(batch, code);
}

int SqliteStore::transact(std::vector<Work>& batch) {
  if (!laid_out_) {
    if (const int code = lay_out(); code != SQLITE_OK) {
      const std::lock_guard lock(mutex_);
      status_.error = error_;
      return code;
    }
  }
  int code = db_.run("BEGIN IMMEDIATE");
  if (code != SQLITE_OK) return code;
  if (!all_clean()) code = drop_unusable();
  std::uint64_t bytes = bytes_;
  std::unordered_map<std::string_view, std::uint64_t> changed;  // sizes within this transaction
  const auto size_of = [&](const std::string& session) {
    if (const auto now = changed.find(session); now != changed.end()) return now->second;
    const auto row = rows_.find(session);
    return row == rows_.end() ? std::uint64_t{0} : row->second.bytes;
  };
  for (Work& work : batch) {
    if (code != SQLITE_OK) break;
    if (work.kind == Work::Kind::kFetch) {
      code = read(work);
      continue;
    }
    const std::string& session = work.record.session;
    const std::uint64_t before = size_of(session);
    std::uint64_t after = 0;
    if (work.kind == Work::Kind::kKeep) {
      after = bytes_of(work.record);
      work.refused = work.refused || bytes - before + after > bytes_max_;
      if (work.refused) after = 0;
    }
    if (work.kind == Work::Kind::kDrop) {
      code = delete_birth_.bind(work.record.birth).run();
      code = code == SQLITE_DONE ? SQLITE_OK : code;
      const auto row = rows_.find(session);
      // A row of a later birth stays; one of this transaction is of this birth or a later one too.
      const bool gone =
          changed.contains(session) || row == rows_.end() || row->second.birth == work.record.birth;
      if (!gone) after = before;
    } else {
      code = work.refused ? remove(session) : write(work);
    }
    bytes += after - before;
    changed[session] = after;
  }
  if (code == SQLITE_OK) code = db_.run("COMMIT");
  if (code != SQLITE_OK) {
    const std::string error = db_.error();
    db_.run("ROLLBACK");
    const std::lock_guard lock(mutex_);
    status_.error = error;
  }
  return code;
}

int SqliteStore::write(Work& work) {
  const Record& record = work.record;
  const Answer& answer = record.answer;
  const std::string& state = *record.snapshot.state;
  const std::uint32_t state_sum = sum(state);
  insert_.bind_blob(record.session)
      .bind(record.birth)
      .bind(std::int64_t{record.epoch})
      .bind(record.number)
      .bind(static_cast<std::int64_t>(record.mode))
      .bind(record.opened_ms)
      .bind(record.used_ms)
      .bind(static_cast<std::int64_t>(record.snapshot.format))
      .bind(std::uint64_t{state.size()})
      .bind(std::int64_t{state_sum})
      .bind_blob(answer.key)
      .bind(answer.fingerprint)
      .bind(static_cast<std::int64_t>(answer.kind))
      .bind_blob(answer.payload)
      .bind_blob(answer.type)
      .bind_blob(answer.message)
      .bind_blob(answer.traceback)
      .bind(std::int64_t{row_sum(record, state.size(), state_sum)})
      .bind_blob(state);
  const int code = insert_.run();
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

int SqliteStore::remove(std::string_view session) {
  const int code = delete_.bind_blob(session).run();
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

int SqliteStore::read(Work& work) {
  work.found.gone = true;
  select_.bind_blob(work.record.session);
  const int code = select_.step();
  const bool there = code == SQLITE_ROW && select_.word(0) == work.record.birth &&
                     select_.word(1) == work.record.number;
  bool damaged = is_damage(code);
  if (there) {
    std::string state = select_.blob(5);
    damaged = state.size() != select_.word(3) ||
              sum(state) != static_cast<std::uint32_t>(select_.integer(4));
    if (!damaged) {
      work.found.gone = false;
      work.found.snapshot = Snapshot{static_cast<Format>(select_.integer(2)),
                                     std::make_shared<const std::string>(std::move(state))};
    }
  }
  select_.reset();
  if (!damaged) return SQLITE_OK;
  work.refused = true;  // its row goes from the index
  constexpr std::string_view kWhy = "its state is damaged";
  note_damaged(work.record.session, kWhy);
  return set_row_aside(work.record.session, kWhy);
}

// ---- after a transaction

void SqliteStore::commit_done(std::vector<Work>& batch) {
  note_clean();
  std::uint64_t failed = 0;
  bool refused = false;
  for (Work& work : batch) {
    const auto row = rows_.find(work.record.session);
    work.ok = !work.refused;
    if (work.kind == Work::Kind::kFetch && !work.refused) continue;
    const bool goes = row != rows_.end() &&
                      (work.kind != Work::Kind::kDrop || row->second.birth == work.record.birth);
    if (goes) {
      bytes_ -= row->second.bytes;
      rows_.erase(row);
    }
    if (work.kind != Work::Kind::kKeep) continue;
    if (work.refused) {
      refused = true;
      ++failed;
      continue;
    }
    const Row kept{work.record.birth, work.record.number, bytes_of(work.record)};
    bytes_ += kept.bytes;
    rows_.insert_or_assign(work.record.session, kept);
  }
  if (std::exchange(down_, false)) say(false, options_.path + ": snapshots are stored again.");
  if (refused && !full_) {
    say(true, fmt::format("{}: there is no room for a snapshot (sessions.store_max); sessions go "
                          "on without.",
                          options_.path));
  }
  full_ = refused;
  pause_ = 0ms;
  const std::lock_guard lock(mutex_);
  status_.up = true;
  status_.error = refused ? "full (sessions.store_max)" : "";
  status_.failed += failed;
  status_.sessions = rows_.size();
  status_.bytes = bytes_;
}

// Nothing of the batch was done. code SQLITE_OK: nothing was tried either.
void SqliteStore::fail(std::vector<Work>& batch, int code) {
  if (code != SQLITE_OK) {
    pause_ = std::clamp<std::chrono::milliseconds>(pause_ * 2, kPauseFirst, kPauseMax);
    retry_at_ = std::chrono::steady_clock::now() + pause_;
  }
  std::uint64_t failed = 0;
  bool sure = true;
  for (Work& work : batch) {
    work.ok = false;
    if (work.kind == Work::Kind::kFetch) {  // what cannot be written to can often be read
      work.found = {.gone = true, .snapshot = {}};
      const auto row = rows_.find(work.record.session);
      if (row != rows_.end() && row->second.birth == work.record.birth) {
        static_cast<void>(read(work));
      }
      continue;
    }
    ++failed;
    const bool safe = invalidate(work.record.session, work.record.birth);
    if (work.kind == Work::Kind::kDrop) work.ok = safe;
    sure = sure && safe;
  }
  std::string error;
  {
    const std::lock_guard lock(mutex_);
    status_.up = false;
    status_.failed += failed;
    status_.sessions = rows_.size();
    status_.bytes = bytes_;
    error = status_.error;
  }
  if (!sure) {
    say(true, fmt::format("{}: it cannot even be written down which snapshots are out of date; a "
                          "crash now may bring one of them back.",
                          options_.path));
  }
  if (std::exchange(down_, true)) return;
  say(true, fmt::format("{}: snapshots cannot be stored: {}; sessions go on without.",
                        options_.path, error));
}

// What is stored of the session is out of date and cannot be replaced now. True: no later run will
// find it.
bool SqliteStore::invalidate(const std::string& session, std::uint64_t birth) {
  const auto row = rows_.find(session);
  if (row == rows_.end() || row->second.birth != birth) return true;
  bytes_ -= row->second.bytes;
  rows_.erase(row);
  stale_.insert(birth);
  return stale_list_.add(birth);
}

}  // namespace keelback::store
