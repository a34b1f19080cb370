// A PostgreSQL of the run's own: in a directory of its own, on a free port of the loopback, with a
// password that is drawn. It keeps a journal of what happens to sessions, from which the
// laboratory reads who committed what. If the laboratory is root, it runs as the user `postgres`.
//
// Not thread-safe. What starts or stops it blocks.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "chaos/history.h"
#include "chaos/nodes/child.h"

namespace keelback::chaos {

// Empty: there is one. Else what is missing, in words.
std::string why_no_database();

class DatabaseServer {
 public:
  explicit DatabaseServer(Processes& processes) : processes_(processes) {}
  ~DatabaseServer();
  DatabaseServer(const DatabaseServer&) = delete;
  DatabaseServer& operator=(const DatabaseServer&) = delete;

  // Makes the cluster of files and starts the server.
  [[nodiscard]] std::expected<void, std::string> make();
  Evidence start();
  Evidence stop();  // a fast shutdown: connections break, what was committed stays
  // Once the tables are there: from now on each change of a session's row is written down.
  [[nodiscard]] std::expected<void, std::string> keep_journal();
  [[nodiscard]] std::expected<std::vector<CommitEvent>, std::string> journal();

  std::uint16_t port() const { return port_; }
  // Through that port of the loopback; `node` is written into the journal.
  std::string url(std::uint16_t port, const std::string& node) const;

 private:
  // To the user that it runs as.
  std::expected<void, std::string> give(const std::string& path) const;
  // A file of one line that only its user may read.
  std::expected<void, std::string> keep(const std::string& name, const std::string& line) const;
  // An argv of a program of PostgreSQL, as the user that it runs as.
  std::vector<std::string> as_owner(const std::string& program,
                                    const std::vector<std::string>& arguments) const;
  std::expected<std::string, std::string> query(const std::string& sql);

  Processes& processes_;
  std::string home_, programs_, password_;
  std::uint16_t port_ = 0;
  std::uint64_t asked_ = 0;
  Child server_;
};

std::uint16_t free_port();  // of the loopback; 0: there is none

}  // namespace keelback::chaos
