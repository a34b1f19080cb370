#include "fakeworker/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/sanitizer.h"
#include "wire/messages.h"

namespace keelback::fakeworker {
namespace {

// More frames than this behind a stream, or in front of a slab, are a mistake.
constexpr std::size_t kQueueMax = 1024;

// A descriptor that somebody else made non-blocking is waited for.
void wait_for(int fd, short events) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  ::poll(&waiting, 1, -1);
}

}  // namespace

Channel::Channel(int fd, std::function<void()> gone)
    : fd_(fd),
      gone_(std::move(gone)),
      decoder_(wire::Link::kWorkerData, UINT32_MAX),
      packet_(wire::kPacketMax, '\0') {}

void Channel::fail() {
  gone_();
  ::_exit(1);
}

void Channel::read() {
  if (queue_.size() > kQueueMax) fail();
  const std::span<char> room = decoder_.room();
  iovec parts[2] = {{room.data(), room.size()}, {packet_.data(), packet_.size()}};
  msghdr message{};
  message.msg_iov = room.empty() ? &parts[1] : parts;
  message.msg_iovlen = room.empty() ? 1 : 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  ssize_t got = 0;
  // ThreadSanitizer holds signals back while a program waits in recvmsg, but not while it polls.
  if constexpr (kSanitizer == "thread") wait_for(fd_, POLLIN);
  for (;;) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
    if (got >= 0) break;
    if (errno == EAGAIN) {
      wait_for(fd_, POLLIN);
    } else if (errno != EINTR) {
      fail();
    }
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof(number));
    fds_.push_back(number);
  }
  if (got == 0 || (message.msg_flags & MSG_TRUNC) != 0) fail();
  const std::size_t bytes = static_cast<std::size_t>(got);
  const std::size_t direct = std::min(bytes, room.size());
  decoder_.filled(direct);
  decoder_.feed({packet_.data(), bytes - direct});
  while (true) {
    const auto frame = decoder_.next();
    if (!frame) fail();
    if (!*frame) return;
    const wire::Header header = (*frame)->header;
    queue_.push_back({header, decoder_.take_body()});
  }
}

Received Channel::next() {
  while (queue_.empty()) read();
  Received first = std::move(queue_.front());
  queue_.pop_front();
  return first;
}

Received Channel::next_of(wire::Type type) {
  for (;;) {
    const auto found = std::ranges::find_if(
        queue_, [type](const Received& received) { return received.header.type == type; });
    if (found != queue_.end()) {
      Received first = std::move(*found);
      queue_.erase(found);
      return first;
    }
    read();
  }
}

int Channel::take_fd() {
  if (fds_.empty()) return -1;
  const int fd = fds_.front();
  fds_.pop_front();
  return fd;
}

std::uint64_t Channel::take_credit(std::uint64_t call) {
  std::uint64_t items = 0;
  std::erase_if(queue_, [&](const Received& received) {
    if (received.header.type != wire::Type::kCredit) return false;
    if (received.header.call == call) {
      if (const auto credit = wire::decode_credit(received.frame())) items += *credit;
    }
    return true;  // one of a stream that is over means nothing any more
  });
  return items;
}

std::optional<Heard> Channel::take_outcome(std::uint64_t request) {
  std::optional<Heard> heard;
  bool broken = false;
  std::erase_if(queue_, [&](const Received& received) {
    if (received.header.type != wire::Type::kOutcome) return false;
    const auto outcome = wire::decode_outcome(received.frame());
    if (!outcome) {
      broken = true;
    } else if (outcome->request == request) {
      heard = Heard{outcome->request, outcome->ok, std::string(outcome->json)};
    }
    return true;
  });
  if (broken) fail();
  return heard;
}

void Channel::send(std::span<const Out> frames) {
  const std::lock_guard lock(sending_);
  for (const Out& frame : frames) write(frame.head, frame.payload);
}

void Channel::send(std::string_view head, std::string_view payload) {
  const std::lock_guard lock(sending_);
  write(head, payload);
}

void Channel::write(std::string_view head, std::string_view payload) {
  for (wire::Packets plan(head, payload); !plan.done(); plan.sent()) {
    const wire::Packets::Packet packet = plan.packet();
    iovec parts[2];
    for (std::size_t i = 0; i < packet.count; ++i) {
      parts[i] = {const_cast<char*>(packet.parts[i].data()), packet.parts[i].size()};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = packet.count;
    while (::sendmsg(fd_, &message, MSG_NOSIGNAL) < 0) {
      if (errno == EAGAIN) {
        wait_for(fd_, POLLOUT);
      } else if (errno != EINTR) {
        fail();
      }
    }
  }
}

}  // namespace keelback::fakeworker
