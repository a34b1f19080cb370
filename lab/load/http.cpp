#include "load/http.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>

namespace keelback::load {
namespace {

std::size_t content_length(std::string head) {
  for (char& c : head) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const auto at = head.find("content-length:");
  return at == std::string::npos ? 0 : std::strtoull(head.c_str() + at + 15, nullptr, 10);
}

// False: nobody listens there.
template <class Address>
bool connects(const os::Fd& socket, const Address& address) {
  return socket &&
         ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

std::string http_request(std::string_view method, std::string_view path, std::string_view body,
                         std::string_view session) {
  return fmt::format(
      "{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}{}{}"
      "Content-Length: {}\r\n\r\n{}",
      method, path, session.empty() ? "" : "Keelback-Session: ", session,
      session.empty() ? "" : "\r\n", body.size(), body);
}

std::expected<HttpConnection, std::string> HttpConnection::open(std::uint16_t port) {
  os::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!connects(socket, address))
    return std::unexpected(fmt::format("nobody listens on 127.0.0.1:{}", port));
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return HttpConnection(std::move(socket));
}

std::expected<HttpConnection, std::string> HttpConnection::open(const std::string& path) {
  os::Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (!connects(socket, address)) return std::unexpected("nobody listens on " + path);
  const timeval limit{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return HttpConnection(std::move(socket));
}

bool HttpConnection::send(std::string_view bytes) {
  return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

HttpConnection::Reply HttpConnection::receive() {
  std::size_t head = std::string::npos, need = std::string::npos;
  while (need == std::string::npos || buffer_.size() < need) {
    char chunk[16384];
    const ssize_t n = ::recv(socket_.get(), chunk, sizeof chunk, 0);
    if (n <= 0) return {};
    buffer_.append(chunk, static_cast<std::size_t>(n));
    if (need != std::string::npos) continue;
    head = buffer_.find("\r\n\r\n");
    if (head != std::string::npos) need = head + 4 + content_length(buffer_.substr(0, head));
  }
  Reply reply{.status = buffer_.size() > 12 ? std::atoi(buffer_.c_str() + 9) : 0,
              .body = buffer_.substr(head + 4, need - head - 4)};
  buffer_.erase(0, need);
  return reply;
}

}  // namespace keelback::load
