// A small blocking HTTP/1.1 client for loopback, and a pool of its connections as a way to send an
// open loop's calls. The same client measures our server and the alternatives, so that its own cost
// divides out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <expected>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "host/driver.h"
#include "os/fd.h"

namespace keelback::bench {

// One keep-alive connection. Not thread-safe.
class HttpConnection {
 public:
  // To 127.0.0.1. The error is a sentence.
  static std::expected<HttpConnection, std::string> open(std::uint16_t port);
  // Sends the bytes of one request and reads its response; the status, 0 if the connection broke.
  int exchange(std::string_view request);

 private:
  explicit HttpConnection(os::Fd socket) : socket_(std::move(socket)) {}
  os::Fd socket_;
  std::string buffer_;
};

// POST of a JSON body. session: empty for none.
std::string http_request(std::uint16_t port, const std::string& path, const std::string& body,
                         const std::string& session);

// Sends calls over at most `connections` connections, each with a thread of its own; a call that
// finds none free waits, and its wait counts as service. Outcomes know their kind only.
class HttpSender {
 public:
  HttpSender(std::uint16_t port, std::uint32_t connections);
  ~HttpSender();  // waits for calls on the wire; those that still wait end as not_ready
  HttpSender(const HttpSender&) = delete;
  HttpSender& operator=(const HttpSender&) = delete;

  void send(Call&& call, host::OnOutcome&& done);

 private:
  struct Waiting {
    Call call;
    host::OnOutcome done;
  };
  void serve();

  std::uint16_t port_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;  // guarded by mutex_
  bool closed_ = false;          // guarded by mutex_
  std::vector<std::jthread> threads_;
};

}  // namespace keelback::bench
