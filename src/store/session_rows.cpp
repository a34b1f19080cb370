#include "store/session_rows.h"

#include <sqlite3.h>

#include <chrono>
#include <memory>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "os/clock.h"
#include "store/proof.h"

namespace keelback::store {
namespace {

// A row of `sessions` has its numbers first, so that they and the session's name are in its page,
// however long the rest is (salvage.cpp counts on it).
struct Table {
  std::string_view name;
  const char* sql;
};
constexpr Table kTables[] = {
    {"sessions",
     "CREATE TABLE sessions (id INTEGER PRIMARY KEY, commit_no INTEGER NOT NULL, "
     "birth INTEGER NOT NULL, number INTEGER NOT NULL, proof INTEGER NOT NULL, "
     "epoch INTEGER NOT NULL, mode INTEGER NOT NULL, opened_ms INTEGER NOT NULL, "
     "used_ms INTEGER NOT NULL, format INTEGER NOT NULL, state_bytes INTEGER NOT NULL, "
     "state_proof INTEGER NOT NULL, fingerprint INTEGER NOT NULL, kind INTEGER NOT NULL, "
     "session BLOB NOT NULL, key BLOB NOT NULL, payload BLOB NOT NULL, "
     "error_type BLOB NOT NULL, error_message BLOB NOT NULL, error_traceback BLOB NOT NULL, "
     "state BLOB NOT NULL)"},
    {"store",
     "CREATE TABLE store (id INTEGER PRIMARY KEY, store INTEGER NOT NULL, "
     "commit_no INTEGER NOT NULL, rows INTEGER NOT NULL, digest INTEGER NOT NULL, "
     "proof INTEGER NOT NULL)"},
    {"set_aside",
     "CREATE TABLE set_aside (at_ms INTEGER NOT NULL, why TEXT NOT NULL, id, commit_no, birth, "
     "number, proof, epoch, mode, opened_ms, used_ms, format, state_bytes, state_proof, "
     "fingerprint, kind, session, key, payload, error_type, error_message, error_traceback, "
     "state)"},
};

constexpr std::string_view kPut =
    "INSERT OR REPLACE INTO sessions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
constexpr std::string_view kPutTotals = "INSERT OR REPLACE INTO store VALUES (1,?,?,?,?,?)";
constexpr std::string_view kTotals = "SELECT store, commit_no, rows, digest, proof FROM store";
constexpr std::string_view kLoad =
    "SELECT id, commit_no, birth, number, proof, epoch, mode, opened_ms, used_ms, format, "
    "state_bytes, state_proof, fingerprint, kind, session, key, payload, error_type, "
    "error_message, error_traceback FROM sessions ORDER BY id";
constexpr std::string_view kRead =
    "SELECT proof, format, state_bytes, state_proof, state FROM sessions WHERE id = ?";
constexpr std::string_view kAside =
    "INSERT INTO set_aside SELECT ?, ?, * FROM sessions WHERE id = ?";
// Rows that were set aside are for people to look at. The latest hundred are kept.
constexpr std::string_view kTrimAside =
    "DELETE FROM set_aside WHERE rowid <= (SELECT max(rowid) FROM set_aside) - 100";

// The same bytes are different states in the two formats.
std::uint64_t proof_of_state(Format format, std::string_view state) {
  return Proof(static_cast<std::uint64_t>(format)).bytes(state).value();
}

// Covers all values of a row, and of its state the proof.
std::uint64_t proof_of(const Record& record, std::uint64_t store, std::uint64_t commit,
                       std::uint64_t state_bytes, std::uint64_t state_proof) {
  const Answer& answer = record.answer;
  return Proof(store)
      .number(commit)
      .number(record.birth)
      .number(record.number)
      .number(record.epoch)
      .number(static_cast<std::uint64_t>(record.mode))
      .number(static_cast<std::uint64_t>(record.opened_ms))
      .number(static_cast<std::uint64_t>(record.used_ms))
      .number(static_cast<std::uint64_t>(record.snapshot.format))
      .number(state_bytes)
      .number(state_proof)
      .number(answer.fingerprint)
      .number(static_cast<std::uint64_t>(answer.kind))
      .bytes(record.session)
      .bytes(answer.key)
      .bytes(answer.payload)
      .bytes(answer.type)
      .bytes(answer.message)
      .bytes(answer.traceback)
      .value();
}

std::uint64_t proof_of(const Totals& totals) {
  return Proof(totals.store)
      .number(totals.commit)
      .number(totals.rows)
      .number(totals.digest)
      .value();
}

int done(int code) { return code == SQLITE_DONE ? SQLITE_OK : code; }

}  // namespace

bool is_damage(int code) {
  const int primary = code & 0xff;
  return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || code == SQLITE_IOERR_READ ||
         code == SQLITE_IOERR_SHORT_READ || code == SQLITE_IOERR_CORRUPTFS;
}
bool is_busy(int code) { return (code & 0xff) == SQLITE_BUSY; }

// ---- a row

std::optional<StoredRow> proven_row(RowFields fields, std::uint64_t store) {
  const auto& number = fields.numbers;
  const auto word = [&](std::size_t i) { return static_cast<std::uint64_t>(number[i]); };
  StoredRow row;
  row.commit = word(0);
  row.proof = word(3);
  row.state_bytes = word(9);
  row.state_proof = word(10);
  Record& record = row.record;
  record.birth = word(1);
  record.number = word(2);
  record.epoch = static_cast<std::uint32_t>(number[4]);
  record.mode = static_cast<Affinity>(number[5]);
  record.opened_ms = number[6];
  record.used_ms = number[7];
  record.snapshot.format = static_cast<Format>(number[8]);
  record.answer.fingerprint = word(11);
  record.answer.kind = static_cast<OutcomeKind>(number[12]);
  record.session = std::move(fields.texts[0]);
  record.answer.key = std::move(fields.texts[1]);
  record.answer.payload = std::move(fields.texts[2]);
  record.answer.type = std::move(fields.texts[3]);
  record.answer.message = std::move(fields.texts[4]);
  record.answer.traceback = std::move(fields.texts[5]);
  // The proof says that the bytes were written, not which program has written them.
  const bool sane =
      number[5] >= 0 && number[5] <= static_cast<int>(Affinity::kHint) &&
      (number[8] == static_cast<int>(Format::kJson) ||
       number[8] == static_cast<int>(Format::kBytes)) &&
      (record.answer.kind == OutcomeKind::kOk || record.answer.kind == OutcomeKind::kError) &&
      !record.session.empty() && record.session.size() <= 256 && record.birth != 0 &&
      record.number != 0;
  const std::uint64_t proof = proof_of(record, store, row.commit, row.state_bytes, row.state_proof);
  if (!sane || row.proof != proof) return std::nullopt;
  return row;
}

bool proves_state(const StoredRow& row, std::string_view state) {
  return state.size() == row.state_bytes &&
         proof_of_state(row.record.snapshot.format, state) == row.state_proof;
}

// ---- the tables

int SessionRows::make_tables() {
  for (const Table& table : kTables) {
    if (const int code = db_.run(table.sql); code != SQLITE_OK) return code;
  }
  const int code = db_.run("PRAGMA application_id = 0x4b45454c");
  return code == SQLITE_OK ? db_.run("PRAGMA user_version = 2") : code;
}

bool SessionRows::has_tables() {
  Statement all = db_.prepare("SELECT name, sql FROM sqlite_master ORDER BY rowid");
  for (const Table& table : kTables) {
    if (all.step() != SQLITE_ROW || all.blob(0) != table.name || all.blob(1) != table.sql) {
      return false;
    }
  }
  return all.step() == SQLITE_DONE;
}

std::string SessionRows::check() {
  Statement check = db_.prepare("PRAGMA quick_check(1)");
  if (check.step() != SQLITE_ROW) return db_.error();
  const std::string found = check.blob(0);
  if (found == "ok") return {};
  return found.substr(found.rfind('\n') + 1);  // of more than one line the last says what it is
}

bool SessionRows::prepare() {
  put_ = db_.prepare(kPut);
  remove_ = db_.prepare("DELETE FROM sessions WHERE id = ?");
  totals_ = db_.prepare(kPutTotals);
  read_ = db_.prepare(kRead);
  aside_ = db_.prepare(kAside);
  trim_aside_ = db_.prepare(kTrimAside);
  return put_.valid() && remove_.valid() && totals_.valid() && read_.valid() && aside_.valid() &&
         trim_aside_.valid();
}

void SessionRows::reset() {
  put_ = {};
  remove_ = {};
  totals_ = {};
  read_ = {};
  aside_ = {};
  trim_aside_ = {};
}

// ---- rows

int SessionRows::put(std::int64_t id, std::uint64_t store, std::uint64_t commit,
                     const Record& record, std::uint64_t& proof) {
  const Answer& answer = record.answer;
  const std::string& state = *record.snapshot.state;
  const std::uint64_t state_proof = proof_of_state(record.snapshot.format, state);
  proof = proof_of(record, store, commit, state.size(), state_proof);
  put_.bind(id)
      .bind(commit)
      .bind(record.birth)
      .bind(record.number)
      .bind(proof)
      .bind(std::int64_t{record.epoch})
      .bind(static_cast<std::int64_t>(record.mode))
      .bind(record.opened_ms)
      .bind(record.used_ms)
      .bind(static_cast<std::int64_t>(record.snapshot.format))
      .bind(std::uint64_t{state.size()})
      .bind(state_proof)
      .bind(answer.fingerprint)
      .bind(static_cast<std::int64_t>(answer.kind))
      .bind_blob(record.session)
      .bind_blob(answer.key)
      .bind_blob(answer.payload)
      .bind_blob(answer.type)
      .bind_blob(answer.message)
      .bind_blob(answer.traceback)
      .bind_blob(state);
  return done(put_.run());
}

int SessionRows::remove(std::int64_t id) { return done(remove_.bind(id).run()); }

int SessionRows::put_totals(const Totals& totals) {
  totals_.bind(totals.store)
      .bind(totals.commit)
      .bind(totals.rows)
      .bind(totals.digest)
      .bind(proof_of(totals));
  return done(totals_.run());
}

std::optional<Totals> SessionRows::totals() {
  Statement one = db_.prepare(kTotals);
  if (one.step() != SQLITE_ROW) return std::nullopt;
  const Totals totals{one.word(0), one.word(1), one.word(2), one.word(3)};
  if (one.word(4) != proof_of(totals)) return std::nullopt;
  return totals;
}

int SessionRows::set_aside(std::int64_t id, std::string_view why) {
  aside_.bind(os::unix_ms()).bind_blob(why).bind(id);
  int code = done(aside_.run());
  if (code == SQLITE_OK) code = done(trim_aside_.run());
  return code == SQLITE_OK ? remove(id) : code;
}

int SessionRows::read(std::int64_t id, std::uint64_t proof, std::optional<Snapshot>& found) {
  read_.bind(id);
  const int code = read_.step();
  if (code == SQLITE_ROW && read_.word(0) == proof) {
    std::string state = read_.blob(4);
    const auto format = static_cast<Format>(read_.integer(1));
    if (state.size() == read_.word(2) && proof_of_state(format, state) == read_.word(3)) {
      found = Snapshot{format, std::make_shared<const std::string>(std::move(state))};
    }
  }
  read_.reset();
  return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

std::optional<std::vector<StoredRow>> SessionRows::load(const Totals& totals) {
  Statement all = db_.prepare(kLoad);
  if (!all.valid()) return std::nullopt;
  std::vector<StoredRow> rows;
  std::uint64_t digest = 0;
  int code = all.step();
  for (; code == SQLITE_ROW; code = all.step()) {
    RowFields fields;
    int column = 1;
    for (std::int64_t& number : fields.numbers) number = all.integer(column++);
    for (std::string& text : fields.texts) text = all.blob(column++);
    auto row = proven_row(std::move(fields), totals.store);
    if (!row) return std::nullopt;
    row->id = all.integer(0);
    digest += row->proof;
    rows.push_back(std::move(*row));
  }
  std::unordered_set<std::string_view> sessions;
  for (const StoredRow& row : rows) {
    if (!sessions.insert(row.record.session).second) return std::nullopt;
  }
  if (done(code) != SQLITE_OK || rows.size() != totals.rows || digest != totals.digest) {
    return std::nullopt;
  }
  return rows;
}

}  // namespace keelback::store
