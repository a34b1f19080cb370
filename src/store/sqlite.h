// SQLite in RAII: a connection, its statements. One thread at a time. Errors are SQLite's own
// codes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace keelback::store {

class Statement {
 public:
  Statement() = default;
  Statement(sqlite3* connection, std::string_view sql);  // valid() says whether it compiled
  bool valid() const { return statement_ != nullptr; }

  Statement& bind(std::int64_t value);  // the next parameter
  Statement& bind(std::uint64_t value) { return bind(static_cast<std::int64_t>(value)); }
  Statement& bind_blob(std::string_view value);  // borrowed until reset()
  // SQLITE_ROW, SQLITE_DONE or an error.
  int step();
  // Steps to the end, then resets. SQLITE_DONE or an error.
  int run();
  void reset();

  std::int64_t integer(int column) const;
  std::uint64_t word(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  std::string blob(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
};

class Connection {
 public:
  Connection() = default;
  // Opens or makes the file. SQLITE_OK or an error.
  int open(const std::string& path);
  // The same, alone: takes the exclusive lock before the first access and keeps it, and shares no
  // file. After an error, of which `error` has SQLite's words, it is closed.
  int connect(const std::string& path, std::string& error);
  bool is_open() const { return connection_ != nullptr; }
  void close();  // the log stays as it is
  // The log is brought into the file, and goes.
  void finish();
  // Statements without a result, or whose result does not matter.
  int run(const char* sql);
  Statement prepare(std::string_view sql) { return {connection_.get(), sql}; }
  std::int64_t number(std::string_view sql, std::int64_t otherwise);  // the first column of a row
  std::string error() const;                                          // of what failed last

 private:
  struct Close {
    void operator()(sqlite3* connection) const;
  };
  std::unique_ptr<sqlite3, Close> connection_;
};

}  // namespace keelback::store
