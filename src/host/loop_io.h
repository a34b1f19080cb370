// Descriptors on the loop. Everything here belongs to the loop thread (or to whoever destroys it
// after that thread has ended). A handler must not destroy the object that called it: post that.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "os/fd.h"
#include "os/process.h"

namespace keelback::host {

// Calls a function whenever a borrowed descriptor is readable, until destroyed or stopped.
class FdWatch {
 public:
  using Handler = std::move_only_function<void()>;
  // `fd` must outlive the watch.
  FdWatch(boost::asio::io_context& loop, int fd, Handler on_readable);
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  void stop();
  // Once, when the descriptor can be written to.
  void when_writable(Handler handler);

 private:
  void wait();

  boost::asio::posix::stream_descriptor descriptor_;
  Handler on_readable_;
  Handler on_writable_;
  bool stopped_ = false;
  std::shared_ptr<FdWatch*> self_;  // shared with the handlers in flight; nulled at the end
};

// Calls a function once the process is dead; `process` must outlive the watch. A bare FdWatch will
// not do: Boost.Asio gives a descriptor the record of one that was closed, and events of the same
// turn that were meant for the old one wake the new one. Who then reads finds nothing; but nobody
// is dead because of that.
std::unique_ptr<FdWatch> watch_death(boost::asio::io_context& loop, const os::Pidfd& process,
                                     FdWatch::Handler on_death);

// One end of a SOCK_SEQPACKET pair: sends without ever blocking, in order, from a bounded queue.
class PacketLink {
 public:
  static constexpr std::size_t kQueueMax = 4096;
  static constexpr std::size_t kPacketBytesMax = 256 << 10;
  using OnPacket = std::move_only_function<void(std::string_view packet)>;
  using OnEnd = std::move_only_function<void()>;  // once: the peer has closed, or is broken

  PacketLink(boost::asio::io_context& loop, os::Fd socket, OnPacket on_packet, OnEnd on_end);

  // Keeps `fds` until they are sent. False: the link has ended or its queue is full.
  [[nodiscard]] bool send(std::string packet, std::vector<os::Fd> fds = {});

 private:
  struct Waiting {
    std::string packet;
    std::vector<os::Fd> fds;
  };
  void receive();
  void flush();
  void end();

  os::Fd socket_;
  OnPacket on_packet_;
  OnEnd on_end_;
  std::deque<Waiting> queue_;
  std::string buffer_;
  bool ended_ = false;
  bool waiting_for_room_ = false;
  FdWatch watch_;
};

}  // namespace keelback::host
