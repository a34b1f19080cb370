// Has the client gone, or has it only closed its sending side? Both look the same to read(): end of
// stream. A half-closed client still waits for its reply.
#pragma once

#include <sys/socket.h>

#include <string>

namespace keelback::server {

enum class Peer {
  kThere,    // proved: its socket is open
  kGone,     // proved: reset, or nobody holds its socket any more
  kUnknown,  // a remote client: only something sent to it could tell
};

// Ask after read() said end of stream. Unix sockets: the kernel says (POLLHUP). TCP on this
// machine: the kernel is asked for the socket at the other end (sock_diag), whose inode is 0 once
// its last descriptor is closed. A few microseconds; never blocks.
Peer peer_of(int fd);

// "192.0.2.1", "2001:db8::1"; "unix" for a Unix socket.
std::string peer_name(const sockaddr_storage& address);

// 127.0.0.0/8 and ::1, also as IPv4 in IPv6.
bool is_loopback(const sockaddr_storage& address);

}  // namespace keelback::server
