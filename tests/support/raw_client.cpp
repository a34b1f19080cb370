#include "support/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace keelback::testing {
namespace {

void set_timeouts(int fd) {
  const timeval ten_seconds{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &ten_seconds, sizeof ten_seconds);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &ten_seconds, sizeof ten_seconds);
}

}  // namespace

std::string RawResponse::header(const std::string& lower_name) const {
  const auto found = headers.find(lower_name);
  return found == headers.end() ? std::string() : found->second;
}

RawClient RawClient::tcp(std::uint16_t port, int receive_buffer) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_timeouts(fd);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer > 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  RawClient client(fd);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    client.close();
  }
  return client;
}

RawClient RawClient::unix_socket(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_timeouts(fd);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  RawClient client(fd);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    client.close();
  }
  return client;
}

RawClient::RawClient(RawClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}
RawClient& RawClient::operator=(RawClient&& other) noexcept {
  close();
  fd_ = std::exchange(other.fd_, -1);
  buffer_ = std::move(other.buffer_);
  return *this;
}
RawClient::~RawClient() { close(); }

void RawClient::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void RawClient::half_close() { ::shutdown(fd_, SHUT_WR); }

void RawClient::reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool RawClient::fill() {
  char bytes[16384];
  const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(got));
  return true;
}

std::optional<std::string> RawClient::receive_until(std::string_view text) {
  for (;;) {
    if (const auto at = buffer_.find(text); at != std::string::npos) return take(at + text.size());
    if (!fill()) return std::nullopt;
  }
}

std::optional<std::string> RawClient::take(std::size_t size) {
  while (buffer_.size() < size) {
    if (!fill()) return std::nullopt;
  }
  std::string taken = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return taken;
}

std::optional<std::string> RawClient::take_line() {
  auto line = receive_until("\r\n");
  if (line) line->resize(line->size() - 2);
  return line;
}

bool RawClient::at_end() { return buffer_.empty() && !fill(); }

RawResponse RawClient::receive(bool head) {
  RawResponse response;
  const auto status_line = take_line();
  if (!status_line || !status_line->starts_with("HTTP/1.1 ")) return {};
  response.status = std::atoi(status_line->c_str() + 9);
  for (;;) {
    const auto line = take_line();
    if (!line) return {};
    if (line->empty()) break;
    const auto colon = line->find(": ");
    if (colon == std::string::npos) return {};
    std::string name = line->substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (!response.headers.emplace(std::move(name), line->substr(colon + 2)).second) return {};
  }
  if (response.status == 100) return receive(head);
  if (head || response.status == 204) return response;
  if (response.header("transfer-encoding") == "chunked") {
    for (;;) {
      const auto size_line = take_line();
      if (!size_line) return {};
      const auto size = std::strtoull(size_line->c_str(), nullptr, 16);
      const auto chunk = take(size);
      const auto end = take_line();
      if (!chunk || !end || !end->empty()) return {};
      if (size == 0) return response;
      response.body += *chunk;
    }
  }
  if (!response.headers.contains("content-length")) {
    while (fill()) {
    }
    response.body = std::move(buffer_);
    buffer_.clear();
    return response;
  }
  const auto body = take(std::strtoull(response.header("content-length").c_str(), nullptr, 10));
  if (!body) return {};
  response.body = *body;
  return response;
}

}  // namespace keelback::testing
