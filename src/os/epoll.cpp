#include "os/epoll.h"

#include <sys/epoll.h>

#include <algorithm>

namespace keelback::os {

Result<Epoll> Epoll::create() {
  if (int error = fault::next()) return failure(error);
  Epoll epoll;
  epoll.fd_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.fd_) return last_failure();
  return epoll;
}

Result<void> Epoll::add(int fd, std::uint64_t token) {
  if (int error = fault::next()) return failure(error);
  epoll_event event{};
  event.events = EPOLLONESHOT;
  event.data.u64 = token;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) < 0) return last_failure();
  // ONESHOT alone still reports EPOLLHUP and EPOLLERR, once; they count as readable.
  return {};
}

Result<void> Epoll::arm(int fd, std::uint64_t token, bool read, bool write) {
  if (int error = fault::next()) return failure(error);
  epoll_event event{};
  event.events = (read ? EPOLLIN : 0U) | (write ? EPOLLOUT : 0U) | EPOLLONESHOT;
  event.data.u64 = token;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event) < 0) return last_failure();
  return {};
}

void Epoll::remove(int fd) { ::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

Result<std::size_t> Epoll::ready(std::span<EpollEvent> events) {
  if (int error = fault::next()) return failure(error);
  epoll_event raw[64];
  const int capacity = static_cast<int>(std::min(std::size(raw), events.size()));
  int count = 0;
  while ((count = ::epoll_wait(fd_.get(), raw, capacity, 0)) < 0) {
    if (errno != EINTR) return last_failure();
  }
  for (int i = 0; i < count; ++i) {
    events[static_cast<std::size_t>(i)] = {
        raw[i].data.u64, (raw[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0,
        (raw[i].events & EPOLLOUT) != 0};
  }
  return static_cast<std::size_t>(count);
}

}  // namespace keelback::os
