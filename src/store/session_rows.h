// The rows of a store's file: its tables, the statements on them, and their checksums. No
// transactions: who calls begins and ends them. Errors are SQLite's own codes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "store/sqlite.h"
#include "store/store.h"

namespace keelback::store {

class SessionRows {
 public:
  explicit SessionRows(Connection& db) : db_(db) {}

  int make_tables();
  bool prepare();  // false: the tables are not what they should be
  void reset();    // before the connection is closed

  int put(const Record& record);
  int remove(std::string_view session);
  int remove_birth(std::uint64_t birth);
  int remove_all();
  // Into the table set_aside, which keeps the latest hundred.
  int set_aside(std::string_view session, std::string_view why);
  // The state of exactly this number, if it is whole. SQLITE_OK also if it is not there, or
  // damaged.
  struct State {
    bool damaged = false;
    std::optional<Snapshot> snapshot;
  };
  int read(std::string_view session, std::uint64_t birth, std::uint64_t number, State& state);

  struct Loaded {
    Record record;  // without its state
    std::uint64_t state_bytes = 0;
    bool whole = false;  // its checksum is right, and its values are possible
  };
  // Every row, in the order of use.
  int load(const std::function<void(Loaded loaded)>& each);
  // Of a damaged file: by way of the index and of the table itself, as far as each can be followed.
  std::vector<std::string> names();

 private:
  Connection& db_;
  Statement insert_, delete_, delete_birth_, select_, aside_, trim_aside_;
};

bool is_damage(int code);
bool is_busy(int code);
// The disk does not take what is written; it may some time.
bool is_trouble(int code);

std::int64_t unix_ms();

}  // namespace keelback::store
