// Where the database is: what cluster.store says, taken apart. It has a password: nothing of it may
// reach a log or a message but by without_secrets().
#pragma once

#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "postgres/libpq.h"

namespace keelback::postgres {

class Target {
 public:
  // A server to try. `address` is empty if `host` is none to resolve: a directory of Unix sockets,
  // an address, or nothing.
  struct Host {
    std::string name;
    std::string address;
    std::string port;
    bool to_resolve() const;
  };

  // The error never quotes the URL.
  static std::expected<Target, std::string> parse(const Libpq& libpq, const std::string& url);

  const std::vector<Host>& hosts() const { return hosts_; }
  // Begins to connect to that host, under that name; nullptr: no memory. Does not block.
  PGconn* start(const Libpq& libpq, const Host& host, const std::string& application) const;
  // The text on one line, with … where it has the password or the URL.
  std::string without_secrets(std::string text) const;

 private:
  std::vector<std::pair<std::string, std::string>> options_;  // without host, hostaddr and port
  std::vector<Host> hosts_;                                   // at least one
  std::vector<std::string> secrets_;
};

}  // namespace keelback::postgres
