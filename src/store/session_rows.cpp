#include "store/session_rows.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <boost/crc.hpp>
#include <chrono>
#include <memory>
#include <set>
#include <utility>

namespace keelback::store {
namespace {

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

}  // namespace

bool is_damage(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
}
bool is_busy(int code) { return (code & 0xff) == SQLITE_BUSY; }
bool is_trouble(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_FULL || primary == SQLITE_IOERR || primary == SQLITE_READONLY;
}

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

int SessionRows::make_tables() { return db_.run(kSchema); }

bool SessionRows::prepare() {
  insert_ = db_.prepare(kInsert);
  delete_ = db_.prepare("DELETE FROM sessions WHERE session = ?");
  delete_birth_ = db_.prepare("DELETE FROM sessions WHERE birth = ?");
  select_ = db_.prepare(kSelect);
  aside_ = db_.prepare(kAside);
  trim_aside_ = db_.prepare(kTrimAside);
  return insert_.valid() && delete_.valid() && delete_birth_.valid() && select_.valid() &&
         aside_.valid() && trim_aside_.valid();
}

void SessionRows::reset() {
  insert_ = {};
  delete_ = {};
  delete_birth_ = {};
  select_ = {};
  aside_ = {};
  trim_aside_ = {};
}

int SessionRows::put(const Record& record) {
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

int SessionRows::remove(std::string_view session) {
  const int code = delete_.bind_blob(session).run();
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

int SessionRows::remove_birth(std::uint64_t birth) {
  const int code = delete_birth_.bind(birth).run();
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

int SessionRows::remove_all() { return db_.run("DELETE FROM sessions"); }

int SessionRows::set_aside(std::string_view session, std::string_view why) {
  aside_.bind(unix_ms()).bind_blob(why).bind_blob(session);
  int code = aside_.run();
  if (code == SQLITE_DONE) code = trim_aside_.run();
  return code == SQLITE_DONE ? remove(session) : code;
}

int SessionRows::read(std::string_view session, std::uint64_t birth, std::uint64_t number,
                      State& found) {
  select_.bind_blob(session);
  const int code = select_.step();
  found.damaged = is_damage(code);
  if (code == SQLITE_ROW && select_.word(0) == birth && select_.word(1) == number) {
    std::string state = select_.blob(5);
    found.damaged = state.size() != select_.word(3) ||
                    sum(state) != static_cast<std::uint32_t>(select_.integer(4));
    if (!found.damaged) {
      found.snapshot = Snapshot{static_cast<Format>(select_.integer(2)),
                                std::make_shared<const std::string>(std::move(state))};
    }
  }
  select_.reset();
  return SQLITE_OK;
}

int SessionRows::load(const std::function<void(Loaded loaded)>& each) {
  Statement all = db_.prepare(kSelectAll);
  if (!all.valid()) return SQLITE_CORRUPT;
  int code = all.step();
  for (; code == SQLITE_ROW; code = all.step()) {
    Loaded loaded;
    Record& record = loaded.record;
    record.session = all.blob(0);
    record.birth = all.word(1);
    record.epoch = static_cast<std::uint32_t>(all.integer(2));
    record.number = all.word(3);
    record.mode = static_cast<Affinity>(all.integer(4));
    record.opened_ms = all.integer(5);
    record.used_ms = all.integer(6);
    record.snapshot.format = static_cast<Format>(all.integer(7));
    loaded.state_bytes = all.word(8);
    const auto state_sum = static_cast<std::uint32_t>(all.integer(9));
    record.answer.key = all.blob(10);
    record.answer.fingerprint = all.word(11);
    record.answer.kind = static_cast<OutcomeKind>(all.integer(12));
    record.answer.payload = all.blob(13);
    record.answer.type = all.blob(14);
    record.answer.message = all.blob(15);
    record.answer.traceback = all.blob(16);
    // The sum vouches for what was written, not for who wrote it.
    const bool sane =
        all.integer(4) >= 0 && all.integer(4) <= static_cast<int>(Affinity::kHint) &&
        (all.integer(7) == static_cast<int>(Format::kJson) ||
         all.integer(7) == static_cast<int>(Format::kBytes)) &&
        (record.answer.kind == OutcomeKind::kOk || record.answer.kind == OutcomeKind::kError) &&
        !record.session.empty() && record.session.size() <= 256 && record.birth != 0 &&
        record.number != 0;
    loaded.whole = sane && row_sum(record, loaded.state_bytes, state_sum) ==
                               static_cast<std::uint32_t>(all.integer(17));
    each(std::move(loaded));
  }
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

std::vector<std::string> SessionRows::names() {
  std::set<std::string> names;
  db_.run("PRAGMA writable_schema = ON");  // else a file that is too short is not read at all
  for (const std::string_view from : {"sessions", "sessions NOT INDEXED"}) {
    Statement all = db_.prepare(fmt::format("SELECT session FROM {}", from));
    while (all.step() == SQLITE_ROW) names.insert(all.blob(0));
  }
  std::erase_if(names, [](const std::string& name) { return name.empty() || name.size() > 256; });
  return {names.begin(), names.end()};
}

}  // namespace keelback::store
