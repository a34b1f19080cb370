#include "bench/http.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <utility>

#include "load/http.h"
#include "load/soon.h"

namespace keelback::bench {
namespace {

using Clock = std::chrono::steady_clock;
using load::HttpConnection;

// The first outcome that has this status; several outcomes may share one.
OutcomeKind kind_of(int status) {
  for (int kind = 0; kind < kOutcomeKinds; ++kind) {
    if (http_status(static_cast<OutcomeKind>(kind)) == status)
      return static_cast<OutcomeKind>(kind);
  }
  return OutcomeKind::kNotReady;
}

std::string request_of(const HttpLoad& load, const std::string& payload) {
  return load::http_request("POST", "/v1/call/" + load.function, payload);
}

}  // namespace

std::expected<Duration, std::string> http_wave(const HttpLoad& load, const std::string& warm) {
  const std::string first = request_of(load, warm), request = request_of(load, load.payload);
  std::vector<HttpConnection> connections;
  const auto answered = [](HttpConnection& connection) -> std::expected<void, std::string> {
    const int status = connection.receive().status;
    if (status == 200) return {};
    return std::unexpected(status == 0 ? "a connection broke" : fmt::format("status {}", status));
  };
  for (std::uint32_t i = 0; i < load.callers; ++i) {
    auto opened = HttpConnection::open(load.port);
    if (!opened) return std::unexpected(opened.error());
    if (!opened->send(first)) return std::unexpected("a connection broke");
    if (auto ok = answered(*opened); !ok) return std::unexpected(ok.error());
    connections.push_back(std::move(*opened));
  }
  const auto began = Clock::now();
  for (HttpConnection& connection : connections) {
    if (!connection.send(request)) return std::unexpected("a connection broke");
  }
  for (HttpConnection& connection : connections) {
    if (auto ok = answered(connection); !ok) return std::unexpected(ok.error());
  }
  return Clock::now() - began;
}

namespace {

std::expected<HttpFigures, std::string> run_in_one_thread(const HttpLoad& load) {
  const std::string request = request_of(load, load.payload);
  struct Caller {
    HttpConnection connection;
    Clock::time_point sent;
  };
  std::vector<Caller> callers;
  const os::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (std::uint32_t i = 0; i < load.callers; ++i) {
    auto opened = HttpConnection::open(load.port);
    if (!opened) return std::unexpected(opened.error());
    epoll_event event{.events = EPOLLIN, .data = {.u32 = i}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, opened->fd(), &event) != 0)
      return std::unexpected("a connection cannot be watched");
    callers.push_back({std::move(*opened), {}});
  }
  HttpFigures figures;
  const auto began = Clock::now();
  const auto send = [&](Caller& caller, Clock::time_point now) {
    caller.sent = now;
    return caller.connection.send(request);
  };
  for (Caller& caller : callers) {
    if (!send(caller, Clock::now())) return std::unexpected("a connection broke");
  }
  for (std::size_t waiting = callers.size(); waiting > 0;) {
    std::array<epoll_event, 64> events;
    const int ready = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < ready; ++i) {
      Caller& caller = callers[events[static_cast<std::size_t>(i)].data.u32];
      const int status = caller.connection.receive().status;
      const auto now = Clock::now();
      if (status == 0) return std::unexpected("the connection broke");
      ++(status == 200 ? figures.ok : figures.other);
      figures.latency.record(now - caller.sent);
      if (now - began >= load.length) {
        --waiting;
      } else if (!send(caller, now)) {
        return std::unexpected("the connection broke");
      }
    }
  }
  figures.took = Clock::now() - began;
  return figures;
}

}  // namespace

std::expected<HttpFigures, std::string> run_http(const HttpLoad& load) {
  if (!load.threads) return run_in_one_thread(load);
  const std::string request = request_of(load, load.payload);
  std::mutex mutex;
  HttpFigures sum;
  std::string error;
  const auto began = Clock::now();
  const auto run = [&] {
    HttpFigures own;
    std::string why;
    std::optional<HttpConnection> connection;
    for (auto before = Clock::now(); before - began < load.length;) {
      if (!connection || load.reconnect) {
        auto opened = HttpConnection::open(load.port);
        if (!opened) {
          why = opened.error();
          break;
        }
        connection = std::move(*opened);
      }
      const int status = connection->exchange(request).status;
      const auto after = Clock::now();
      if (status == 0) {
        why = "the connection broke";
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
    const std::string request = load::http_request("POST", "/v1/call/" + next.call.function,
                                                   next.call.payload, next.call.session);
    const int status = connection ? connection->exchange(request).status : 0;
    if (status == 0) connection.reset();
    Outcome outcome;
    outcome.kind = kind_of(status);
    next.done(std::move(outcome));
  }
}

std::expected<ServeProcess, std::string> ServeProcess::start(const std::string& program,
                                                             const std::string& app,
                                                             const std::string& python,
                                                             unsigned workers,
                                                             const std::string& function) {
  // On stderr it says where it listens, for people; what goes wrong comes as JSON too.
  auto process = LineProcess::start(
      {program, "serve", app, "--json", "--workers", std::to_string(workers), "--listen",
       "127.0.0.1:0", "--set", "workers.python=" + python, "--set", "log.level=warn"},
      LineProcess::Stderr::kNowhere);
  if (!process) return std::unexpected(process.error());
  const auto announced = process->next();
  if (!announced) return std::unexpected("serve: " + announced.error());
  if (!announced->contains("listening")) return std::unexpected("serve: " + announced->dump());
  const std::string address = (*announced)["listening"][0];
  const auto port =
      static_cast<std::uint16_t>(std::atoi(address.substr(address.rfind(':') + 1).c_str()));
  if (auto up = wait_for_server(port, function); !up) return std::unexpected(up.error());
  return ServeProcess(std::move(*process), port);
}

std::expected<void, std::string> wait_for_server(std::uint16_t port, const std::string& function,
                                                 const std::string& payload) {
  std::string why;
  const auto answers = [&] {
    const auto figures = run_http({.port = port,
                                   .length = std::chrono::milliseconds(5),
                                   .function = function,
                                   .payload = payload});
    why = figures ? "it answers with errors" : figures.error();
    return figures && figures->ok > 0;
  };
  if (load::soon(answers, std::chrono::seconds(30), std::chrono::milliseconds(10))) return {};
  return std::unexpected(fmt::format("port {}: {}", port, why));
}

}  // namespace keelback::bench
