// Socket pairs, and descriptors that travel over them.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace keelback::os {

struct SocketPair {
  Fd ours;
  Fd theirs;
};
// AF_UNIX, SOCK_SEQPACKET, both ends closed on exec and blocking.
Result<SocketPair> make_seqpacket_pair();

// One packet, all of it or an error. MSG_NOSIGNAL always; EINTR is taken for nothing.
enum class Wait : bool { kNo, kYes };
Result<void> send_packet(int socket, std::span<const iovec> parts, Wait wait);
Result<void> send_packet(int socket, std::string_view packet, Wait wait);
// The packet with `fds` beside it (at most kFdsMax).
inline constexpr std::size_t kFdsMax = 16;
Result<void> send_packet_with_fds(int socket, std::string_view packet, std::span<const int> fds,
                                  Wait wait);

struct Packet {
  std::size_t size = 0;    // 0: the peer has closed (nobody here sends empty packets)
  bool truncated = false;  // it was larger than the buffer
};
// EAGAIN is an error like others (Wait::kNo).
Result<Packet> receive_packet(int socket, std::span<std::byte> buffer, Wait wait);
// Into several buffers, one after another.
Result<Packet> receive_packet(int socket, std::span<const iovec> parts, Wait wait);
// Descriptors that came with the packet are appended to `fds`, closed on exec.
Result<Packet> receive_packet_with_fds(int socket, std::span<std::byte> buffer,
                                       std::vector<Fd>& fds, Wait wait);

// Nobody reads any more: what has arrived can still be received, then comes the end. Wakes a
// blocked receiver.
void shutdown_reading(int socket);

struct Readiness {
  bool readable = false;  // or at the end
  bool writable = false;
};
// Blocks until the socket is readable (or at its end) or writable.
Result<Readiness> wait_read_or_write(int socket);

}  // namespace keelback::os
