// The sockets of server.listen: made, taken over, inherited, removed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "server/access.h"

namespace keelback::server {

struct Endpoint {
  std::string text;        // "127.0.0.1:8080", "[::1]:8080", "unix:/run/k.sock": as bound
  std::string host;        // without port and brackets; empty for a Unix socket
  std::uint16_t port = 0;  // as bound, also for ":0"
  std::string path;        // of a Unix socket
};

// Owns a listening socket; a Unix socket's file goes with it, if it is still that file.
class Listener {
 public:
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  // "host:port", "[v6]:port" or "unix:/path". The error is one sentence with the name of the spec.
  // unix_mode: the permissions of a socket's file. It never has others that allow more.
  static std::expected<Listener, std::string> open(std::string_view spec, mode_t unix_mode = 0600);
  // A listening socket that a service manager made; its file, if any, is not ours to remove.
  static std::expected<Listener, std::string> adopt(int fd);

  int fd() const { return fd_; }
  const Endpoint& endpoint() const { return endpoint_; }
  const Door& door() const { return door_; }
  void offer_operating_routes(bool on) { door_.operating = on; }

 private:
  Listener() = default;
  static std::expected<Listener, std::string> open_unix(std::string_view spec, std::string path,
                                                        mode_t mode);
  static std::expected<Listener, std::string> open_tcp(std::string_view spec);
  bool describe();  // fills endpoint_ and door_ from the socket itself

  int fd_ = -1;
  Endpoint endpoint_;
  Door door_;
  bool owns_file_ = false;
  dev_t device_ = 0;  // of the socket file that we made
  ino_t inode_ = 0;
};

}  // namespace keelback::server
