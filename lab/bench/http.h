// HTTP under load: our server on a port of its own, and callers of it. The same callers measure our
// server and the alternatives, so that their own cost divides out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <expected>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/line_process.h"
#include "host/driver.h"
#include "load/histogram.h"

namespace keelback::bench {

// A closed loop on 127.0.0.1: one keep-alive connection for each caller.
struct HttpLoad {
  std::uint16_t port = 0;
  std::uint32_t callers = 1;
  bool reconnect = false;  // a new connection for each call
  // False: one thread for all callers. It takes little of the processors that it measures on: with
  // many callers, most of what their threads do is to sleep and to wake. Not with `reconnect`.
  bool threads = true;
  Duration length{0};
  std::string function = "noop";
  std::string payload = "[1]";
};

struct HttpFigures {
  load::Histogram latency;
  std::uint64_t ok = 0;  // status 200
  std::uint64_t other = 0;
  Duration took{0};
  double per_second() const {
    return static_cast<double>(ok) / std::chrono::duration<double>(took).count();
  }
};

// Blocks for `length`. The error: nobody listens, or a connection broke.
std::expected<HttpFigures, std::string> run_http(const HttpLoad& load);

// All callers at once, once each: from the first request to the last answer. Before it each
// connection is opened and has `warm` answered. The error: as above, or an answer is not 200.
std::expected<Duration, std::string> http_wave(const HttpLoad& load, const std::string& warm);

// Sends calls over at most `connections` connections, each with a thread of its own. A call that
// finds no free connection waits, and its wait counts as service. Outcomes have only their kind.
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

// `keelback serve` on a free port of loopback, gone when this object is.
class ServeProcess {
 public:
  // `program serve app`. Blocks until it answers calls of that function.
  static std::expected<ServeProcess, std::string> start(const std::string& program,
                                                        const std::string& app,
                                                        const std::string& python, unsigned workers,
                                                        const std::string& function = "noop");
  std::uint16_t port() const { return port_; }

 private:
  ServeProcess(LineProcess process, std::uint16_t port)
      : process_(std::move(process)), port_(port) {}
  LineProcess process_;
  std::uint16_t port_;
};

// Until a call is answered with 200; the error is why not, after 30 s.
std::expected<void, std::string> wait_for_server(std::uint16_t port,
                                                 const std::string& function = "noop",
                                                 const std::string& payload = "[1]");

}  // namespace keelback::bench
