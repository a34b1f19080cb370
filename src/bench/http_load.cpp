#include "bench/http_load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "os/fd.h"

namespace keelback::bench {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<os::Fd> connect_to(std::uint16_t port) {
  os::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::nullopt;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return std::nullopt;
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

// Reads one response with a Content-Length; returns its status, 0 if the connection broke.
int read_response(int fd, std::string& buffer) {
  std::size_t need = std::string::npos, head = std::string::npos;
  for (;;) {
    if (head == std::string::npos && (head = buffer.find("\r\n\r\n")) != std::string::npos) {
      std::size_t length = 0;
      std::string lower = buffer.substr(0, head);
      for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
      if (const auto at = lower.find("content-length:"); at != std::string::npos) {
        length = std::strtoull(lower.c_str() + at + 15, nullptr, 10);
      }
      need = head + 4 + length;
    }
    if (buffer.size() >= need) break;
    char chunk[16384];
    const ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
    if (n <= 0) return 0;
    buffer.append(chunk, static_cast<std::size_t>(n));
  }
  const int status = buffer.size() > 12 ? std::atoi(buffer.c_str() + 9) : 0;
  buffer.erase(0, need);
  return status;
}

}  // namespace

std::expected<HttpFigures, std::string> run_http(const HttpLoad& load) {
  std::string request =
      fmt::format("POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n",
                  load.path, load.port);
  if (!load.session.empty()) request += fmt::format("Keelback-Session: {}\r\n", load.session);
  request += fmt::format("Content-Length: {}\r\n\r\n{}", load.body.size(), load.body);

  std::mutex mutex;
  HttpFigures sum;
  std::string error;
  const auto began = Clock::now();
  const auto run = [&] {
    HttpFigures own;
    std::string why, buffer;
    auto fd = connect_to(load.port);
    if (!fd) why = fmt::format("nobody listens on 127.0.0.1:{}", load.port);
    for (auto before = Clock::now(); why.empty() && before - began < load.length;) {
      if (::send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(request.size())) {
        why = "the connection broke while sending";
        break;
      }
      const int status = read_response(fd->get(), buffer);
      const auto after = Clock::now();
      if (status == 0) {
        why = "the connection broke while reading";
        break;
      }
      ++(status == 200 ? own.ok : own.other);
      own.latency.record(after - before);
      before = after;
    }
    std::lock_guard lock(mutex);
    sum.latency.merge(own.latency);
    sum.ok += own.ok;
    sum.other += own.other;
    if (!why.empty()) error = why;
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t i = 0; i < load.callers; ++i) threads.emplace_back(run);
  }
  sum.took = Clock::now() - began;
  if (!error.empty()) return std::unexpected(error);
  return sum;
}

}  // namespace keelback::bench
