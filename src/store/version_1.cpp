#include "store/version_1.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <memory>
#include <set>
#include <utility>

namespace keelback::store {
namespace {

constexpr std::string_view kSelect =
    "SELECT rowid, session, birth, epoch, number, mode, opened_ms, used_ms, format, state_bytes, "
    "state_sum, key, fingerprint, kind, payload, error_type, error_message, error_traceback, "
    "row_sum, state FROM sessions NOT INDEXED";

std::uint32_t crc(std::string_view bytes) {
  boost::crc_32_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

// Of everything in the row but the state itself, which has a sum of its own.
std::uint32_t crc(const Record& record, std::uint64_t state_bytes, std::uint32_t state_sum) {
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

bool Version1::has_tables(Connection& db) {
  return db.number("SELECT count(*) FROM sqlite_master WHERE type = 'table'", 0) == 2 &&
         db.number("SELECT count(*) FROM sqlite_master WHERE name IN ('sessions', 'set_aside')",
                   0) == 2;
}

Version1::Version1(Connection db) : db_(std::move(db)) {
  db_.run("PRAGMA writable_schema = ON");  // else a file that is too short is not read at all
  take(" ORDER BY rowid");
  take(" ORDER BY rowid DESC");  // what is behind a page that cannot be read
  name_lost();
  std::ranges::stable_sort(rows_, std::less<>(), [](const Row& row) { return row.record.used_ms; });
}

// nullopt: it is damaged.
std::optional<Record> Version1::row(Statement& all) const {
  Record record;
  record.session = all.blob(1);
  record.birth = all.word(2);
  record.epoch = static_cast<std::uint32_t>(all.integer(3));
  record.number = all.word(4);
  record.mode = static_cast<Affinity>(all.integer(5));
  record.opened_ms = all.integer(6);
  record.used_ms = all.integer(7);
  record.snapshot.format = static_cast<Format>(all.integer(8));
  const std::uint64_t state_bytes = all.word(9);
  const auto state_sum = static_cast<std::uint32_t>(all.integer(10));
  record.answer.key = all.blob(11);
  record.answer.fingerprint = all.word(12);
  record.answer.kind = static_cast<OutcomeKind>(all.integer(13));
  record.answer.payload = all.blob(14);
  record.answer.type = all.blob(15);
  record.answer.message = all.blob(16);
  record.answer.traceback = all.blob(17);
  std::string state = all.blob(19);
  const bool sane =
      all.integer(5) >= 0 && all.integer(5) <= static_cast<int>(Affinity::kHint) &&
      (all.integer(8) == static_cast<int>(Format::kJson) ||
       all.integer(8) == static_cast<int>(Format::kBytes)) &&
      (record.answer.kind == OutcomeKind::kOk || record.answer.kind == OutcomeKind::kError) &&
      !record.session.empty() && record.session.size() <= 256 && record.birth != 0 &&
      record.number != 0;
  const bool whole =
      crc(record, state_bytes, state_sum) == static_cast<std::uint32_t>(all.integer(18)) &&
      state.size() == state_bytes && crc(state) == state_sum;
  if (!sane || !whole) return std::nullopt;
  record.snapshot.state = std::make_shared<const std::string>(std::move(state));
  return record;
}

void Version1::take(std::string_view order) {
  Statement all = db_.prepare(fmt::format("{}{}", kSelect, order));
  while (all.step() == SQLITE_ROW) {
    std::optional<Record> found = row(all);
    if (!found || !ids_.emplace(found->session, all.integer(0)).second) continue;
    Row taken{std::move(*found), 0};
    taken.bytes = bytes_of(taken.record);
    taken.record.snapshot.state = nullptr;
    rows_.push_back(std::move(taken));
  }
}

// Reads by the index and by the table itself, as far as each of them can be read.
void Version1::name_lost() {
  std::set<std::string> names;
  for (const std::string_view from : {"sessions", "sessions NOT INDEXED"}) {
    Statement all = db_.prepare(fmt::format("SELECT session FROM {}", from));
    while (all.step() == SQLITE_ROW) names.insert(all.blob(0));
  }
  for (const std::string& name : names) {
    if (!name.empty() && name.size() <= 256 && !ids_.contains(name)) lost_.push_back(name);
  }
}

std::optional<Record> Version1::read(const std::string& session) {
  const auto id = ids_.find(session);
  if (id == ids_.end()) return std::nullopt;
  Statement one = db_.prepare(fmt::format("{} WHERE rowid = ?", kSelect));
  if (one.bind(id->second).step() != SQLITE_ROW) return std::nullopt;
  return row(one);
}

}  // namespace keelback::store
