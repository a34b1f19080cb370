#include "server/peer.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/net_names.h"

namespace keelback::server {
namespace {

struct Ends {
  sockaddr_storage here{};
  sockaddr_storage there{};
};

std::optional<Ends> ends_of(int fd) {
  Ends ends;
  socklen_t here = sizeof ends.here;
  socklen_t there = sizeof ends.there;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&ends.here), &here) != 0 ||
      ::getpeername(fd, reinterpret_cast<sockaddr*>(&ends.there), &there) != 0) {
    return std::nullopt;
  }
  return ends;
}

// Port in network order and address words, as sock_diag wants them.
void copy_end(const sockaddr_storage& end, __be16& port, __be32 (&words)[4]) {
  if (end.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(end);
    port = v4.sin_port;
    words[0] = v4.sin_addr.s_addr;
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(end);
    port = v6.sin6_port;
    std::memcpy(words, &v6.sin6_addr, sizeof words);
  }
}

// Looks the other end up as a socket of this machine: our addresses swapped.
Peer ask_kernel(int netlink, const Ends& ends) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST;
  ask.request.sdiag_family = static_cast<__u8>(ends.here.ss_family);
  ask.request.sdiag_protocol = IPPROTO_TCP;
  ask.request.idiag_states = ~0U;
  copy_end(ends.there, ask.request.id.idiag_sport, ask.request.id.idiag_src);
  copy_end(ends.here, ask.request.id.idiag_dport, ask.request.id.idiag_dst);
  ask.request.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  ask.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(netlink, &ask, sizeof ask, 0) != static_cast<ssize_t>(sizeof ask)) {
    return Peer::kUnknown;
  }
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t size = ::recv(netlink, buffer, sizeof buffer, MSG_DONTWAIT);
  if (size < static_cast<ssize_t>(sizeof(nlmsghdr))) return Peer::kUnknown;
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (header->nlmsg_type == NLMSG_ERROR) {
    const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(header));
    // No such socket here. Over loopback that means: closed long ago.
    return error->error == -ENOENT && is_loopback(ends.there) ? Peer::kGone : Peer::kUnknown;
  }
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return Peer::kUnknown;
  const auto* answer = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  return answer->idiag_inode == 0 ? Peer::kGone : Peer::kThere;
}

}  // namespace

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.ss_family != AF_INET6) return false;
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

std::string peer_name(const sockaddr_storage& address) {
  NetAddress name;
  if (address.ss_family == AF_INET) {
    name.bytes[10] = name.bytes[11] = 0xFF;
    std::memcpy(name.bytes.data() + 12, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    std::memcpy(name.bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
  } else {
    return "unix";
  }
  return format_address(name);
}

Peer peer_of(int fd) {
  pollfd poll{.fd = fd, .events = 0, .revents = 0};
  if (::poll(&poll, 1, 0) > 0 && (poll.revents & (POLLERR | POLLHUP)) != 0) return Peer::kGone;
  const auto ends = ends_of(fd);
  if (!ends) return Peer::kGone;
  if (ends->here.ss_family == AF_UNIX) return Peer::kThere;
  if (ends->here.ss_family != AF_INET && ends->here.ss_family != AF_INET6) return Peer::kUnknown;
  const int netlink = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) return Peer::kUnknown;
  const Peer peer = ask_kernel(netlink, *ends);
  ::close(netlink);
  return peer;
}

}  // namespace keelback::server
