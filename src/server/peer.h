// Tells whether a client has gone or has only closed its sending side. Both look the same to
// read(): end of the stream. A client that has closed one side still waits for its reply.
#pragma once

#include <sys/socket.h>

#include <string>

namespace keelback::server {

enum class Peer {
  kThere,    // proved: its socket is open
  kGone,     // proved: reset, or no process has its socket open
  kUnknown,  // a client on another machine: only an answer to something that is sent would tell
};

// Call it after read() has found the end of the stream. For a Unix socket the kernel knows
// (POLLHUP). For TCP on this machine the kernel is asked for the socket at the other end
// (sock_diag): its inode is 0 when its last descriptor is closed. Takes a few microseconds; never
// blocks.
Peer peer_of(int fd);

// "192.0.2.1", "2001:db8::1"; "unix" for a Unix socket.
std::string peer_name(const sockaddr_storage& address);

// 127.0.0.0/8 and ::1, also as IPv4 in IPv6.
bool is_loopback(const sockaddr_storage& address);

}  // namespace keelback::server
