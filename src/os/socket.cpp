#include "os/socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace keelback::os {
namespace {

bool is_would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

Result<void> send_message(int socket, const msghdr& message, Wait wait) {
  if (int error = fault::next()) return failure(error);
  const int flags = MSG_NOSIGNAL | (wait == Wait::kYes ? 0 : MSG_DONTWAIT);
  for (;;) {
    if (::sendmsg(socket, &message, flags) >= 0) return {};
    if (errno == EINTR) continue;
    return is_would_block(errno) ? failure(EAGAIN) : last_failure();
  }
}

Result<Packet> receive_message(int socket, msghdr& message, Wait wait) {
  if (int error = fault::next()) return failure(error);
  const int flags = MSG_CMSG_CLOEXEC | (wait == Wait::kNo ? MSG_DONTWAIT : 0);
  for (;;) {
    const ssize_t got = ::recvmsg(socket, &message, flags);
    if (got >= 0) {
      return Packet{static_cast<std::size_t>(got), (message.msg_flags & MSG_TRUNC) != 0};
    }
    if (errno == EINTR && wait != Wait::kTimed) continue;
    return is_would_block(errno) || errno == EINTR ? failure(EAGAIN) : last_failure();
  }
}

}  // namespace

Result<SocketPair> make_seqpacket_pair() {
  if (int error = fault::next()) return failure(error);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return last_failure();
  return SocketPair{Fd(ends[0]), Fd(ends[1])};
}

Result<void> send_packet(int socket, std::span<const iovec> parts, Wait wait) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  return send_message(socket, message, wait);
}

Result<void> send_packet(int socket, std::string_view packet, Wait wait) {
  const iovec part{const_cast<char*>(packet.data()), packet.size()};
  return send_packet(socket, std::span(&part, 1), wait);
}

Result<void> send_packet_with_fds(int socket, std::string_view packet, std::span<const int> fds,
                                  Wait wait) {
  CHECK(fds.size() <= kFdsMax);
  iovec part{const_cast<char*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdsMax)] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  return send_message(socket, message, wait);
}

Result<Packet> receive_packet(int socket, std::span<std::byte> buffer, Wait wait) {
  const iovec part{buffer.data(), buffer.size()};
  return receive_packet(socket, std::span(&part, 1), wait);
}

Result<Packet> receive_packet(int socket, std::span<const iovec> parts, Wait wait) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  return receive_message(socket, message, wait);
}

Result<Packet> receive_packet_with_fds(int socket, std::span<std::byte> buffer,
                                       std::vector<Fd>& fds, Wait wait) {
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdsMax)];
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  auto packet = receive_message(socket, message, wait);
  if (!packet) return packet;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t bytes = header->cmsg_len - CMSG_LEN(0);
    for (std::size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + at, sizeof(int));
      fds.emplace_back(number);
    }
  }
  return packet;
}

Result<void> set_receive_timeout(int socket, Duration timeout) {
  if (int error = fault::next()) return failure(error);
  const auto us = std::chrono::ceil<std::chrono::microseconds>(timeout).count();
  const timeval value{us / 1'000'000, us % 1'000'000};
  if (::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) < 0) {
    return last_failure();
  }
  return {};
}

void shutdown_reading(int socket) { ::shutdown(socket, SHUT_RD); }

Result<Readiness> wait_read_or_write(int socket, Duration limit) {
  if (int error = fault::next()) return failure(error);
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
  pollfd entry{socket, POLLIN | POLLOUT, 0};
  const int most = std::numeric_limits<int>::max();
  if (::poll(&entry, 1, static_cast<int>(std::clamp<std::int64_t>(ms, 0, most))) < 0) {
    return errno == EINTR ? Result<Readiness>(Readiness{}) : last_failure();
  }
  return Readiness{(entry.revents & (POLLIN | POLLHUP | POLLERR)) != 0,
                   (entry.revents & POLLOUT) != 0};
}

}  // namespace keelback::os
