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

constexpr std::size_t kNotYet = std::string::npos;

std::string in_lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return text;
}

std::size_t content_length(const std::string& head) {
  const auto at = head.find("content-length:");
  return at == std::string::npos ? 0 : std::strtoull(head.c_str() + at + 15, nullptr, 10);
}

// Where the chunks that begin at `at` end; their bytes go to `body`. kNotYet: not all are there.
std::size_t end_of_chunks(const std::string& text, std::size_t at, std::string& body) {
  body.clear();
  for (;;) {
    const std::size_t line = text.find("\r\n", at);
    if (line == std::string::npos) return kNotYet;
    const std::size_t size = std::strtoull(text.c_str() + at, nullptr, 16);
    const std::size_t next = line + 2 + size + 2;
    if (text.size() < next) return kNotYet;
    if (size == 0) return next;
    body.append(text, line + 2, size);
    at = next;
  }
}

// Where the reply's body ends, which begins at `at`.
std::size_t end_of_body(const std::string& head, const std::string& text, std::size_t at,
                        std::string& body) {
  if (head.find("transfer-encoding: chunked") != std::string::npos)
    return end_of_chunks(text, at, body);
  const std::size_t length = content_length(head);
  if (text.size() < at + length) return kNotYet;
  body = text.substr(at, length);
  return at + length;
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
  Reply reply;
  std::string head;
  std::size_t end = kNotYet;
  while (end == kNotYet) {
    char chunk[16384];
    const ssize_t n = ::recv(socket_.get(), chunk, sizeof chunk, 0);
    if (n <= 0) return {};
    buffer_.append(chunk, static_cast<std::size_t>(n));
    if (head.empty()) {
      const std::size_t at = buffer_.find("\r\n\r\n");
      if (at == std::string::npos) continue;
      head = in_lower_case(buffer_.substr(0, at + 4));
      reply.status = head.size() > 12 ? std::atoi(head.c_str() + 9) : 0;
    }
    end = end_of_body(head, buffer_, head.size(), reply.body);
  }
  buffer_.erase(0, end);
  return reply;
}

}  // namespace keelback::load
