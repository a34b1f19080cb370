// What all connections share, and the acceptors that make them. Used on the driver's loop thread
// only, without a lock.
#pragma once

#include <atomic>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "host/driver.h"
#include "server/config_port.h"
#include "server/late_names.h"
#include "server/listener.h"
#include "server/metrics.h"
#include "server/options.h"

namespace keelback::server {

class Connection;

using Clock = std::chrono::steady_clock;
using Executor = boost::asio::io_context::executor_type;
using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol, Executor>;

// Shared by the server, its connections and the handlers that wait in the loop; the last of them
// frees it. Driver and configuration outlive the server and are not used after it has stopped.
class Hub : public std::enable_shared_from_this<Hub> {
 public:
  Hub(boost::asio::io_context& loop_ref, host::Driver& driver_ref, ConfigPort& config_ref,
      Options options_value);
  ~Hub();

  void start(std::vector<Listener> listeners);
  void drain();  // from now on every reply closes its connection
  // Closes listeners and idle connections; `done` once no connection is left, at `limit` by force.
  void stop(Duration limit, std::move_only_function<void()> done);
  void stop_now();  // everything, at once

  void remove(Connection& connection);
  // For the log, with the client's name: requests that were refused for want of the token (warn; of
  // many a few each second, and how many more there were), and what operators order.
  void log_refusal(const std::string& text);
  void log_order(const std::string& text);
  std::string_view date();  // for the Date header; renewed every second
  bool draining() const { return draining_; }
  bool stopping() const { return stopping_; }
  std::size_t connections() const { return connections_.size(); }
  void count_rejected() { http_rejected.fetch_add(1, std::memory_order_relaxed); }

  boost::asio::io_context& loop;  // shared with the driver
  host::Driver& driver;
  ConfigPort& config;
  const Options options;
  CallDurations durations;
  std::atomic<std::uint64_t> http_rejected{0};  // read by any thread
  std::atomic<bool> over{false};  // a stop() has been carried out: nothing is left to do
  std::unordered_map<std::string, CallId> named_calls;  // Keelback-Call, while in flight
  LateNames late_names;
  // Open requests of Python code, and the client that each was asked of.
  std::unordered_map<std::uint64_t, Connection*> host_requests;
  ProvidedCounts provided;
  std::vector<std::string> names;  // hosts of server.listen
  std::string node;                // what this node is called; empty: it is in no cluster
  std::uint64_t buffered = 0;      // bytes of bodies being read

 private:
  struct Acceptor {
    Listener listener;
    boost::asio::posix::basic_stream_descriptor<Executor> descriptor;
    Clock::time_point paused_until{};  // out of descriptors: try again then
  };
  void wait_for_clients(Acceptor& acceptor);
  enum class Taken { kClient, kNone, kFailed };  // kClient: perhaps there are more
  Taken take_client(Acceptor& acceptor);
  void accept_some(Acceptor& acceptor);
  void admit(int fd, const Door& door, std::string peer);
  bool make_room();
  void report_refusals(Clock::time_point now);
  void arm_timer();
  void on_timer();
  void finish_stop();
  void close_acceptors();

  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::shared_ptr<Connection>> connections_;
  boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor> timer_;
  bool timer_armed_ = false;
  bool draining_ = false;
  bool stopping_ = false;
  Clock::time_point stop_at_{};
  std::vector<std::move_only_function<void()>> stopped_;
  Clock::time_point refusals_since_{};
  std::uint32_t refusals_ = 0;  // in the second that began then
  std::uint64_t refusals_unlogged_ = 0;
  std::time_t date_second_ = 0;
  std::string date_;
};

}  // namespace keelback::server
