#include "bench/http_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>
#include <optional>
#include <utility>

namespace keelback::bench {
namespace {

std::size_t content_length(std::string head) {
  for (char& c : head) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const auto at = head.find("content-length:");
  return at == std::string::npos ? 0 : std::strtoull(head.c_str() + at + 15, nullptr, 10);
}

// The kind that the status stands for; several share one, and the first of them is named.
OutcomeKind kind_of(int status) {
  for (int kind = 0; kind < kOutcomeKinds; ++kind) {
    if (http_status(static_cast<OutcomeKind>(kind)) == status)
      return static_cast<OutcomeKind>(kind);
  }
  return OutcomeKind::kNotReady;
}

}  // namespace

std::expected<HttpConnection, std::string> HttpConnection::open(std::uint16_t port) {
  os::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!fd || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return std::unexpected(fmt::format("nobody listens on 127.0.0.1:{}", port));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return HttpConnection(std::move(fd));
}

int HttpConnection::exchange(std::string_view request) {
  if (::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return 0;
  std::size_t need = std::string::npos;
  for (;;) {
    if (need == std::string::npos) {
      const std::size_t head = buffer_.find("\r\n\r\n");
      if (head != std::string::npos) need = head + 4 + content_length(buffer_.substr(0, head));
    }
    if (need != std::string::npos && buffer_.size() >= need) break;
    char chunk[16384];
    const ssize_t n = ::recv(socket_.get(), chunk, sizeof chunk, 0);
    if (n <= 0) return 0;
    buffer_.append(chunk, static_cast<std::size_t>(n));
  }
  const int status = buffer_.size() > 12 ? std::atoi(buffer_.c_str() + 9) : 0;
  buffer_.erase(0, need);
  return status;
}

std::string http_request(std::uint16_t port, const std::string& path, const std::string& body,
                         const std::string& session) {
  std::string request = fmt::format(
      "POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n", path, port);
  if (!session.empty()) request += fmt::format("Keelback-Session: {}\r\n", session);
  return request + fmt::format("Content-Length: {}\r\n\r\n{}", body.size(), body);
}

HttpSender::HttpSender(std::uint16_t port, std::uint32_t connections) : port_(port) {
  for (std::uint32_t i = 0; i < connections; ++i) threads_.emplace_back([this] { serve(); });
}

HttpSender::~HttpSender() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  threads_.clear();  // joins
  for (Waiting& left : waiting_) {
    Outcome outcome;
    outcome.kind = OutcomeKind::kNotReady;
    left.done(std::move(outcome));
  }
}

void HttpSender::send(Call&& call, host::OnOutcome&& done) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(call), std::move(done)});
  }
  changed_.notify_one();
}

void HttpSender::serve() {
  std::optional<HttpConnection> connection;
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !waiting_.empty(); });
    if (closed_) return;
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    if (!connection) {
      if (auto opened = HttpConnection::open(port_)) connection = std::move(*opened);
    }
    const std::string request =
        http_request(port_, "/v1/call/" + next.call.function, next.call.payload, next.call.session);
    const int status = connection ? connection->exchange(request) : 0;
    if (status == 0) connection.reset();
    Outcome outcome;
    outcome.kind = kind_of(status);
    next.done(std::move(outcome));
  }
}

}  // namespace keelback::bench
