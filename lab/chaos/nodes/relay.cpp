#include "chaos/nodes/relay.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace keelback::chaos {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kPiece = 64 << 10;

tcp::endpoint loopback(std::uint16_t port) { return {asio::ip::make_address("127.0.0.1"), port}; }

}  // namespace

Relay::Relay(asio::io_context& loop, std::uint16_t to)
    : loop_(loop),
      gate_(std::make_shared<Gate>(loop)),
      acceptor_(std::make_shared<tcp::acceptor>(loop, loopback(0))),
      to_(to),
      port_(acceptor_->local_endpoint().port()) {
  asio::co_spawn(loop_, accept(), asio::detached);
}

void Relay::mend() {
  gate_->is_open = true;
  asio::post(loop_, [gate = gate_] { gate->opened.cancel(); });
}

asio::awaitable<void> Relay::Gate::pass(std::size_t bytes) {
  if (!is_open) held += bytes;
  while (!is_open) {
    error_code ignored;  // cancelled: look again
    co_await opened.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

asio::awaitable<void> Relay::accept() {
  // The relay may go while this waits: what is used is held here.
  const auto acceptor = acceptor_;
  const auto gate = gate_;
  asio::io_context& loop = loop_;
  const std::uint16_t to = to_;
  for (;;) {
    error_code ec;
    tcp::socket one =
        co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec) co_return;
    auto pair = std::make_shared<Pair>(Pair{std::move(one), tcp::socket(loop)});
    asio::co_spawn(loop, connect(gate, std::move(pair), to), asio::detached);
  }
}

asio::awaitable<void> Relay::connect(std::shared_ptr<Gate> gate, std::shared_ptr<Pair> pair,
                                     std::uint16_t to) {
  co_await gate->pass(0);
  error_code ec;
  co_await pair->other.async_connect(loopback(to), asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return;  // both are closed, as if nobody listened
  pair->one.set_option(tcp::no_delay(true), ec);
  pair->other.set_option(tcp::no_delay(true), ec);
  asio::co_spawn(pair->one.get_executor(), pump(gate, pair, true), asio::detached);
  asio::co_spawn(pair->one.get_executor(), pump(gate, pair, false), asio::detached);
}

asio::awaitable<void> Relay::pump(std::shared_ptr<Gate> gate, std::shared_ptr<Pair> pair,
                                  bool forth) {
  Socket& from = forth ? pair->one : pair->other;
  Socket& to = forth ? pair->other : pair->one;
  std::vector<char> bytes(kPiece);
  for (;;) {
    error_code ec;
    const std::size_t n = co_await from.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ec));
    co_await gate->pass(n);
    if (!ec) {
      co_await asio::async_write(to, asio::buffer(bytes, n),
                                 asio::redirect_error(asio::use_awaitable, ec));
    }
    if (!ec) continue;
    to.shutdown(tcp::socket::shutdown_send, ec);
    from.shutdown(tcp::socket::shutdown_receive, ec);
    co_return;
  }
}

}  // namespace keelback::chaos
