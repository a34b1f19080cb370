#include "store/sqlite.h"

#include <sqlite3.h>

namespace keelback::store {

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
// At once, or when the last of its statements goes.
void Connection::Close::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }

Statement::Statement(sqlite3* connection, std::string_view sql) {
  sqlite3_stmt* made = nullptr;
  sqlite3_prepare_v3(connection, sql.data(), static_cast<int>(sql.size()),
                     SQLITE_PREPARE_PERSISTENT, &made, nullptr);
  statement_.reset(made);
}

Statement& Statement::bind(std::int64_t value) {
  sqlite3_bind_int64(statement_.get(), ++bound_, value);
  return *this;
}

Statement& Statement::bind_blob(std::string_view value) {
  // A null pointer would bind NULL.
  const char* data = value.empty() ? "" : value.data();
  sqlite3_bind_blob64(statement_.get(), ++bound_, data, value.size(), SQLITE_STATIC);
  return *this;
}

int Statement::step() { return valid() ? sqlite3_step(statement_.get()) : SQLITE_ERROR; }

int Statement::run() {
  int code = step();
  while (code == SQLITE_ROW) code = step();
  reset();
  return code;
}

void Statement::reset() {
  if (!valid()) return;
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bound_ = 0;
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string Statement::blob(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int bytes = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr
             ? std::string()
             : std::string(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
}

int Connection::open(const std::string& path) {
  sqlite3* made = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &made,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  connection_.reset(made);
  if (code == SQLITE_OK) sqlite3_db_config(made, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  return code;
}

int Connection::connect(const std::string& path, std::string& error) {
  int code = open(path);
  for (const char* sql : {"PRAGMA locking_mode = EXCLUSIVE", "SELECT count(*) FROM sqlite_master",
                          "BEGIN EXCLUSIVE", "COMMIT"}) {
    if (code == SQLITE_OK) code = run(sql);
  }
  if (code == SQLITE_OK) return code;
  error = this->error();
  close();
  return code;
}

void Connection::close() { connection_.reset(); }

void Connection::finish() {
  if (!connection_) return;
  sqlite3_db_config(connection_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
  connection_.reset();
}

int Connection::run(const char* sql) {
  return sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
}

std::int64_t Connection::number(std::string_view sql, std::int64_t otherwise) {
  Statement statement = prepare(sql);
  return statement.step() == SQLITE_ROW ? statement.integer(0) : otherwise;
}

std::string Connection::error() const {
  return connection_ ? sqlite3_errmsg(connection_.get()) : "it cannot be opened";
}

}  // namespace keelback::store
