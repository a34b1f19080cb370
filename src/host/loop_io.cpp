#include "host/loop_io.h"

#include <utility>

#include "os/socket.h"

namespace keelback::host {
namespace {
// Packets taken in one go; then others have their turn.
constexpr int kLinkPacketsPerTurn = 64;
}  // namespace

FdWatch::FdWatch(boost::asio::io_context& loop, int fd, Handler on_readable)
    : descriptor_(loop, fd),
      on_readable_(std::move(on_readable)),
      self_(std::make_shared<FdWatch*>(this)) {
  wait();
}

FdWatch::~FdWatch() {
  *self_ = nullptr;
  static_cast<void>(descriptor_.release());  // cancels; the descriptor is not ours to close
}

void FdWatch::stop() {
  stopped_ = true;
  boost::system::error_code ignored;
  descriptor_.cancel(ignored);
}

void FdWatch::wait() {
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [self = self_](const boost::system::error_code& error) {
                           if (*self == nullptr || error || (*self)->stopped_) return;
                           (*self)->on_readable_();
                           if (*self != nullptr && !(*self)->stopped_) (*self)->wait();
                         });
}

void FdWatch::when_writable(Handler handler) {
  on_writable_ = std::move(handler);
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_write,
                         [self = self_](const boost::system::error_code& error) {
                           if (*self == nullptr || error || (*self)->stopped_) return;
                           std::exchange((*self)->on_writable_, nullptr)();
                         });
}

std::unique_ptr<FdWatch> watch_death(boost::asio::io_context& loop, const os::Pidfd& process,
                                     FdWatch::Handler on_death) {
  return std::make_unique<FdWatch>(
      loop, process.get(), [&process, on_death = std::move(on_death)]() mutable {
        const auto dead = process.wait_dead(std::chrono::milliseconds(0));
        if (!dead || *dead) on_death();
      });
}

PacketLink::PacketLink(boost::asio::io_context& loop, os::Fd socket, OnPacket on_packet,
                       OnEnd on_end)
    : socket_(std::move(socket)),
      on_packet_(std::move(on_packet)),
      on_end_(std::move(on_end)),
      watch_(loop, socket_.get(), [this] { receive(); }) {}

bool PacketLink::send(std::string packet, std::vector<os::Fd> fds) {
  if (ended_ || queue_.size() >= kQueueMax) return false;
  queue_.push_back({std::move(packet), std::move(fds)});
  if (!waiting_for_room_) flush();
  return !ended_;
}

void PacketLink::flush() {
  waiting_for_room_ = false;
  while (!queue_.empty()) {
    const Waiting& next = queue_.front();
    std::vector<int> numbers;
    for (const os::Fd& fd : next.fds) numbers.push_back(fd.get());
    const auto sent = os::send_packet_with_fds(socket_.get(), next.packet, numbers, os::Wait::kNo);
    if (!sent && sent.error().value() == EAGAIN) {
      waiting_for_room_ = true;
      watch_.when_writable([this] { flush(); });
      return;
    }
    // A broken link ends by its reading side, on the loop and not from within send().
    queue_.pop_front();
  }
}

void PacketLink::receive() {
  if (buffer_.empty()) buffer_.resize(kPacketBytesMax);
  for (int turn = 0; turn < kLinkPacketsPerTurn; ++turn) {
    const auto packet = os::receive_packet(
        socket_.get(), std::as_writable_bytes(std::span(buffer_)), os::Wait::kNo);
    if (!packet && packet.error().value() == EAGAIN) return;
    if (!packet || packet->size == 0 || packet->truncated) return end();
    on_packet_(std::string_view(buffer_).substr(0, packet->size));
    if (ended_) return;
  }
}

void PacketLink::end() {
  ended_ = true;
  queue_.clear();
  watch_.stop();
  if (auto on_end = std::exchange(on_end_, nullptr)) on_end();
}

}  // namespace keelback::host
