// A way between two programs on the loopback that can be cut: connections stay, and no byte passes
// until it is mended. A new connection is taken and hears nothing.
//
// Threads: cut() and mend() from any thread; the bytes move on the thread of `loop`, where also the
// constructor and the destructor are called, or while it does not run.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>

namespace keelback::chaos {

class Relay {
 public:
  // To that port of the loopback. Throws boost::system::system_error: no port is free.
  Relay(boost::asio::io_context& loop, std::uint16_t to);

  std::uint16_t port() const { return port_; }
  void cut() { gate_->is_open = false; }
  void mend();
  // Bytes that waited for it to be mended, as far as they have come here.
  std::uint64_t held() const { return gate_->held; }

 private:
  struct Gate {
    explicit Gate(boost::asio::io_context& loop) : opened(loop) {
      opened.expires_at(boost::asio::steady_timer::time_point::max());
    }
    std::atomic<bool> is_open = true;
    std::atomic<std::uint64_t> held = 0;
    boost::asio::steady_timer opened;  // cancelled when it opens; of the loop's thread
    boost::asio::awaitable<void> pass(std::size_t bytes);
  };
  using Socket = boost::asio::ip::tcp::socket;
  struct Pair {
    Socket one, other;
  };

  boost::asio::awaitable<void> accept();
  static boost::asio::awaitable<void> connect(std::shared_ptr<Gate> gate,
                                              std::shared_ptr<Pair> pair, std::uint16_t to);
  static boost::asio::awaitable<void> pump(std::shared_ptr<Gate> gate, std::shared_ptr<Pair> pair,
                                           bool forth);

  boost::asio::io_context& loop_;
  std::shared_ptr<Gate> gate_;
  std::shared_ptr<boost::asio::ip::tcp::acceptor> acceptor_;
  const std::uint16_t to_;
  std::uint16_t port_ = 0;
};

}  // namespace keelback::chaos
