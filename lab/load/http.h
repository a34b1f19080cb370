// The laboratories' HTTP/1.1 client: blocking, one connection. It is small because its cost is in
// every number that is measured through it. It sends bytes as they are: a client may misbehave.
// It reads bodies with a length and bodies in chunks, one reply for each request.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "os/fd.h"

namespace keelback::load {

// A request with a JSON body. session: empty for none.
std::string http_request(std::string_view method, std::string_view path, std::string_view body,
                         std::string_view session = {});

// Keeps the connection alive. Not thread-safe.
class HttpConnection {
 public:
  // To 127.0.0.1. The error is a sentence.
  static std::expected<HttpConnection, std::string> open(std::uint16_t port);
  // To a Unix socket. A reply that does not come within 10 s counts as broken.
  static std::expected<HttpConnection, std::string> open(const std::string& path);

  bool send(std::string_view bytes);  // false: the connection broke
  struct Reply {
    int status = 0;  // 0: the connection broke
    std::string body;
  };
  Reply receive();
  int fd() const { return socket_.get(); }  // to wait for a reply
  Reply exchange(std::string_view request) { return send(request) ? receive() : Reply{}; }

 private:
  explicit HttpConnection(os::Fd socket) : socket_(std::move(socket)) {}
  os::Fd socket_;
  std::string buffer_;
};

}  // namespace keelback::load
