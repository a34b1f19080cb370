// Socket pairs, and descriptors that travel over them.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "os/fd.h"
#include "os/result.h"

namespace keelback::os {

struct SocketPair {
  Fd ours;
  Fd theirs;
};
// AF_UNIX, SOCK_SEQPACKET, both ends closed on exec and blocking.
Result<SocketPair> make_seqpacket_pair();

// One packet, all of it or an error. MSG_NOSIGNAL always. kYes: a signal does not end the wait.
// kTimed (receiving only): waits at most for the time of set_receive_timeout(), and less if a
// signal comes; then EAGAIN.
enum class Wait : std::uint8_t { kNo, kYes, kTimed };
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
// EAGAIN is an error like others (Wait::kNo, Wait::kTimed).
Result<Packet> receive_packet(int socket, std::span<std::byte> buffer, Wait wait);
// Into several buffers, one after another.
Result<Packet> receive_packet(int socket, std::span<const iovec> parts, Wait wait);
// Descriptors that came with the packet are appended to `fds`, closed on exec.
Result<Packet> receive_packet_with_fds(int socket, std::span<std::byte> buffer,
                                       std::vector<Fd>& fds, Wait wait);

// How long a blocking receive waits; rounded up to the kernel's tick (4 ms). Infinite at first.
// Requires: timeout > 0.
Result<void> set_receive_timeout(int socket, Duration timeout);

// Ends reading: what has arrived can still be received, then comes the end of the stream. Wakes a
// blocked receiver.
void shutdown_reading(int socket);

struct Readiness {
  bool readable = false;  // or at the end
  bool writable = false;
};
// Blocks until the socket is readable (or at its end) or writable, but at most for `limit`, rounded
// up to a millisecond. Both flags are false if that time has passed.
Result<Readiness> wait_read_or_write(int socket, Duration limit);

}  // namespace keelback::os
