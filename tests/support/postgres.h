// A PostgreSQL of the test's own, with a pgbouncer in front: tests/support/postgres_server.py,
// which this starts and steers. It ends with this object, or with this process.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "os/fd.h"

namespace keelback::test {

class Postgres {
 public:
  // Blocks until it takes connections. nullptr: it is not installed; `missing` says what is not.
  // Other failures fail the test.
  static std::unique_ptr<Postgres> start(std::string& missing);
  ~Postgres();
  Postgres(const Postgres&) = delete;
  Postgres& operator=(const Postgres&) = delete;

  // Each blocks until it is done, and fails the test if it cannot be.
  void create(const std::string& database) { tell("create " + database); }
  void setting(const std::string& name, const std::string& value) {
    tell("setting " + name + " " + value);
  }
  void restart() { tell("restart"); }
  void kill() { tell("kill"); }  // SIGKILL for all its processes
  void start_again() { tell("start"); }
  void pause() { tell("pause"); }  // SIGSTOP for all its processes
  void resume() { tell("resume"); }
  // As the server's owner. One line a row, | between columns.
  std::string query(const std::string& database, const std::string& sql);
  // Begins a transaction with this statement, and leaves it open until let_go().
  void hold(const std::string& database, const std::string& sql) {
    tell("hold " + database + " " + sql);
  }
  void let_go() { tell("let_go"); }

  std::string url(const std::string& database);
  std::string pooled_url(const std::string& database);       // through pgbouncer
  const std::string& programs() const { return programs_; }  // the directory with pgbench
  int port() const { return port_; }

  static constexpr std::string_view kUser = "keelback";
  static constexpr std::string_view kPassword = "pass-word-of-tests";

 private:
  Postgres() = default;
  // The answer, a JSON object as text.
  std::string tell(const std::string& command);
  std::string read_line();

  pid_t pid_ = 0;
  os::Fd to_, from_;
  std::string buffer_, programs_;
  int port_ = 0;
};

}  // namespace keelback::test
