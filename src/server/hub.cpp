#include "server/hub.h"

#include <fmt/chrono.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "server/connection.h"
#include "server/peer.h"
#include "server/reply.h"

namespace keelback::server {
namespace {

using namespace std::chrono_literals;

constexpr int kAcceptBatch = 64;  // then the loop gets a turn
constexpr auto kAcceptPause = 100ms;
constexpr std::uint32_t kRefusalsASecond = 20;  // that are logged

// Best effort: the client may see a reset instead if its request is still on the way.
void refuse_connection(int fd, std::string_view date, std::string_view node) {
  const Response response =
      problem(503, "too_many_connections", "the server has as many connections as it may have");
  std::string out;
  append_head(out, {.status = response.status,
                    .keep_alive = false,
                    .content_type = response.content_type,
                    .content_length = response.body.size(),
                    .date = date,
                    .node = node});
  out += "Retry-After: 1\r\n\r\n";
  out += response.body;
  char scratch[4096];
  static_cast<void>(::recv(fd, scratch, sizeof scratch, MSG_DONTWAIT));
  static_cast<void>(::send(fd, out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

}  // namespace

Hub::Hub(boost::asio::io_context& loop_ref, host::Driver& driver_ref, ConfigPort& config_ref,
         Options options_value)
    : loop(loop_ref),
      driver(driver_ref),
      config(config_ref),
      options(std::move(options_value)),
      timer_(loop_ref) {}

Hub::~Hub() { close_acceptors(); }

void Hub::start(std::vector<Listener> listeners) {
  if (stopping_) return;
  for (Listener& listener : listeners) {
    const int fd = listener.fd();
    acceptors_.push_back(
        std::make_unique<Acceptor>(Acceptor{std::move(listener), {loop.get_executor(), fd}}));
    wait_for_clients(*acceptors_.back());
  }
}

void Hub::wait_for_clients(Acceptor& acceptor) {
  acceptor.descriptor.async_wait(
      boost::asio::posix::descriptor_base::wait_read,
      [self = shared_from_this(), &acceptor](const boost::system::error_code& error) {
        if (error || self->stopping_) return;
        self->accept_some(acceptor);
      });
}

Hub::Taken Hub::take_client(Acceptor& acceptor) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  const int fd = ::accept4(acceptor.descriptor.native_handle(), reinterpret_cast<sockaddr*>(&peer),
                           &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    admit(fd, acceptor.listener.door(), peer_name(peer));
    return Taken::kClient;
  }
  if (errno == EINTR || errno == ECONNABORTED) return Taken::kClient;
  // EMFILE, ENFILE, ENOBUFS, ENOMEM: the client waits in the backlog.
  return errno == EAGAIN ? Taken::kNone : Taken::kFailed;
}

void Hub::accept_some(Acceptor& acceptor) {
  for (int i = 0; i < kAcceptBatch; ++i) {
    const Taken taken = take_client(acceptor);
    if (taken == Taken::kClient) continue;
    if (taken == Taken::kNone) break;
    acceptor.paused_until = Clock::now() + kAcceptPause;
    arm_timer();
    return;
  }
  wait_for_clients(acceptor);
}

void Hub::admit(int fd, const Door& door, std::string peer) {
  if (connections_.size() >= options.connections_max && !make_room()) {
    count_rejected();
    refuse_connection(fd, date(), node);
    return;
  }
  int family = AF_UNIX;
  if (!door.unix_socket) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    socklen_t length = sizeof family;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0) family = AF_INET;
  }
  Socket socket(loop.get_executor());
  boost::system::error_code error;
  socket.assign(boost::asio::generic::stream_protocol(family, 0), fd, error);
  if (error) {
    ::close(fd);
    return;
  }
  auto connection =
      std::make_shared<Connection>(shared_from_this(), std::move(socket), door, std::move(peer));
  connections_.push_back(connection);
  connection->set_index(connections_.size() - 1);
  connection->start();
  arm_timer();
}

// A keep-alive connection is a courtesy, and who sends a request slowly must not keep out all
// others; a newcomer has a request.
bool Hub::make_room() {
  using GivesWay = Connection::GivesWay;
  const auto rank = [](const Connection& connection) {
    return std::pair(connection.gives_way(), connection.deadline());
  };
  const auto first = std::ranges::min_element(
      connections_, [&](const auto& a, const auto& b) { return rank(*a) < rank(*b); });
  if (first == connections_.end() || (*first)->gives_way() == GivesWay::kNever) return false;
  (*first)->close();
  return true;
}

void Hub::remove(Connection& connection) {
  const std::size_t index = connection.index();
  if (index >= connections_.size() || connections_[index].get() != &connection) return;
  std::swap(connections_[index], connections_.back());
  connections_[index]->set_index(index);
  // This may be the last owner: release it only after the vector is consistent again.
  const std::shared_ptr<Connection> keep = std::move(connections_.back());
  connections_.pop_back();
  if (stopping_ && connections_.empty()) finish_stop();
}

void Hub::log_refusal(const std::string& text) {
  if (!options.log) return;
  report_refusals(Clock::now());
  if (++refusals_ > kRefusalsASecond) {
    ++refusals_unlogged_;
    return;
  }
  options.log(LogLevel::kWarn, text);
}

void Hub::report_refusals(Clock::time_point now) {
  if (now < refusals_since_ + 1s) return;
  refusals_since_ = now;
  refusals_ = 0;
  const auto unlogged = std::exchange(refusals_unlogged_, 0);
  if (unlogged == 0) return;
  options.log(LogLevel::kWarn, fmt::format("{} more requests were refused.", unlogged));
}

void Hub::log_order(const std::string& text) {
  if (options.log) options.log(LogLevel::kInfo, text);
}

std::string_view Hub::date() {
  const std::time_t now = std::time(nullptr);
  if (now != date_second_) {
    date_second_ = now;
    date_ = fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", fmt::gmtime(now));
  }
  return date_;
}

void Hub::arm_timer() {
  if (timer_armed_) return;
  timer_armed_ = true;
  timer_.expires_after(options.tick);
  timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    self->timer_armed_ = false;
    if (!error) self->on_timer();
  });
}

void Hub::on_timer() {
  const auto now = Clock::now();
  for (std::size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) {
      // A tick may close the connection, which removes it from the list.
      const auto keep = connections_[i];
      keep->tick(now);
    }
  }
  bool paused = false;
  for (auto& acceptor : acceptors_) {
    if (acceptor->paused_until == Clock::time_point{}) continue;
    if (now >= acceptor->paused_until) {
      acceptor->paused_until = {};
      accept_some(*acceptor);
    } else {
      paused = true;
    }
  }
  if (stopping_ && now >= stop_at_) {
    while (!connections_.empty()) connections_.back()->close();
  }
  report_refusals(now);
  if (!connections_.empty() || paused || refusals_unlogged_ > 0) arm_timer();
}

void Hub::drain() { draining_ = true; }

void Hub::stop(Duration limit, std::move_only_function<void()> done) {
  const auto at = Clock::now() + limit;
  stop_at_ = stopping_ ? std::min(stop_at_, at) : at;  // a second stop() may be earlier
  draining_ = stopping_ = true;
  // Clients that the kernel has connected already hear that the server stops.
  for (auto& acceptor : acceptors_) {
    std::size_t left = options.connections_max;
    while (left > 0 && take_client(*acceptor) == Taken::kClient) --left;
  }
  close_acceptors();
  stopped_.push_back(std::move(done));
  for (std::size_t i = connections_.size(); i-- > 0;) {
    if (i < connections_.size()) connections_[i]->finish_soon();
  }
  if (limit <= Duration(0)) {
    while (!connections_.empty()) connections_.back()->close();
  }
  if (connections_.empty()) {
    finish_stop();
  } else {
    arm_timer();
  }
}

void Hub::finish_stop() {
  boost::asio::post(loop, [self = shared_from_this()] {
    self->timer_.cancel();
    self->over.store(true, std::memory_order_release);
    for (auto& done : std::exchange(self->stopped_, {})) done();
  });
}

// A wait's handler that has yet to run sees stopping_ and does not touch its acceptor.
void Hub::close_acceptors() {
  // The listener closes its own descriptor, and removes its own file.
  for (auto& acceptor : acceptors_) acceptor->descriptor.release();
  acceptors_.clear();
}

void Hub::stop_now() {
  stopping_ = draining_ = true;
  stopped_.clear();
  close_acceptors();
  while (!connections_.empty()) connections_.back()->close();
  timer_.cancel();
}

}  // namespace keelback::server
