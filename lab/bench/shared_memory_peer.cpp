#include "bench/shared_memory_peer.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "os/process.h"
#include "os/socket.h"

namespace keelback::bench {
namespace {

constexpr std::size_t kPage = 4096;

[[noreturn]] void answer(int socket, char* shared, char* own, std::size_t bytes) {
  char what = 0;
  while (::read(socket, &what, 1) == 1) {
    std::memcpy(own, shared, bytes);
    if (what == 'e') std::memcpy(shared, own, bytes);
    if (::write(socket, &what, 1) != 1) break;
  }
  ::_exit(0);
}

}  // namespace

std::expected<SharedMemoryPeer, std::string> SharedMemoryPeer::start(std::size_t bytes) {
  SharedMemoryPeer peer;
  auto shared = os::Slab::create((bytes + kPage - 1) / kPage * kPage);
  auto ends = os::make_seqpacket_pair();
  if (!shared || !ends) return std::unexpected("no shared memory or no socket pair is to be had");
  peer.shared_ = std::move(*shared);
  std::string own(bytes, '\0');  // the child's; fork makes it a copy
  peer.child_ = ::fork();
  if (peer.child_ < 0) return std::unexpected("no process is to be had");
  if (peer.child_ == 0) {
    ends->ours.reset();  // else it would never see the end
    answer(ends->theirs.get(), peer.shared_.data(), own.data(), bytes);
  }
  peer.socket_ = std::move(ends->ours);
  return peer;
}

SharedMemoryPeer::SharedMemoryPeer(SharedMemoryPeer&& other) noexcept
    : shared_(std::move(other.shared_)),
      socket_(std::move(other.socket_)),
      child_(std::exchange(other.child_, -1)) {}

SharedMemoryPeer::~SharedMemoryPeer() {
  socket_.reset();  // end of file ends it
  if (child_ > 0) (void)os::reap_own_child(child_);
}

bool SharedMemoryPeer::echo(const std::string& source, std::string& back) {
  if (!exchange(source, 'e')) return false;
  std::memcpy(back.data(), shared_.data(), source.size());
  return true;
}

bool SharedMemoryPeer::exchange(const std::string& source, char what) {
  std::memcpy(shared_.data(), source.data(), source.size());
  return ::write(socket_.get(), &what, 1) == 1 && ::read(socket_.get(), &what, 1) == 1;
}

}  // namespace keelback::bench
