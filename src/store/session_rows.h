// The rows of a store's file: its tables, the statements on them, and how a row proves itself. No
// transactions: who calls begins and ends them. Errors are SQLite's own codes.
//
// A row carries the number of the commit that wrote it, and a proof over all its values and its
// state. The table `store` holds the number of rows and the sum of their proofs. So a file with a
// missing, changed or older row is not taken for a complete one. There is no index that could be
// damaged: the store knows each row's id.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/sqlite.h"
#include "store/store.h"

namespace keelback::store {

constexpr std::int64_t kApplicationId = 0x4b45454c;  // "KEEL"
constexpr std::int64_t kVersion = 2;

// What the columns of a row hold, behind its id: the integers, then the blobs without the state.
struct RowFields {
  std::array<std::int64_t, 13> numbers{};
  std::array<std::string, 6> texts;
};
constexpr std::size_t kRowColumns = 21;  // with id and state

struct StoredRow {
  std::int64_t id = 0;
  std::uint64_t commit = 0;
  std::uint64_t proof = 0;
  std::uint64_t state_bytes = 0;
  std::uint64_t state_proof = 0;
  Record record;  // without its state
};
// The row, if it is one that the store `store` has written, and its values are possible.
std::optional<StoredRow> proven_row(RowFields fields, std::uint64_t store);
// `state` is what was written with the row.
bool proves_state(const StoredRow& row, std::string_view state);

// What the table `store` says of all rows.
struct Totals {
  std::uint64_t store = 0;  // a random number: which store this is
  std::uint64_t commit = 0;
  std::uint64_t rows = 0;
  std::uint64_t digest = 0;  // the sum of their proofs
};

class SessionRows {
 public:
  explicit SessionRows(Connection& db) : db_(db) {}

  // Of an empty file.
  int make_tables();
  // The tables are exactly those that make_tables() makes.
  bool has_tables();
  // What is wrong with the pages of the file, all of which it reads; empty: nothing.
  std::string check();
  bool prepare();  // false: they are not what they should be
  void reset();    // before the connection is closed

  // In place of what has this id. Sets `proof`.
  int put(std::int64_t id, std::uint64_t store, std::uint64_t commit, const Record& record,
          std::uint64_t& proof);
  int remove(std::int64_t id);
  int put_totals(const Totals& totals);
  // nullopt: they are not there, or not what was written.
  std::optional<Totals> totals();
  // Into the table set_aside, which keeps the latest hundred.
  int set_aside(std::int64_t id, std::string_view why);
  // The state of the row that has this proof; nullopt and SQLITE_OK: it is not there, or damaged.
  int read(std::int64_t id, std::uint64_t proof, std::optional<Snapshot>& state);
  // Every row of a database that is whole; nullopt: they are not the rows that `totals` says, or an
  // error.
  std::optional<std::vector<StoredRow>> load(const Totals& totals);

 private:
  Connection& db_;
  Statement put_, remove_, totals_, read_, aside_, trim_aside_;
};

bool is_damage(int code);
bool is_busy(int code);

}  // namespace keelback::store
