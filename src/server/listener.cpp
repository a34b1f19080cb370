#include "server/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "server/peer.h"

namespace keelback::server {
namespace {

constexpr int kBacklog = 1024;
constexpr std::string_view kUnix = "unix:";

std::string why(int error) { return std::strerror(error); }

// A descriptor for the length of a function.
class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  ~ScopedFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct HostPort {
  std::string host;
  std::string port;
};
std::expected<HostPort, std::string> split_host_port(std::string_view spec) {
  const auto bad = [&](std::string_view reason) {
    return std::unexpected(fmt::format(
        "server.listen '{}': {}; write host:port, [v6]:port or unix:/path", spec, reason));
  };
  const auto colon = spec.rfind(':');
  if (colon == std::string_view::npos) return bad("there is no port");
  std::string_view host = spec.substr(0, colon);
  const std::string_view port = spec.substr(colon + 1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number > 65535) {
    return bad("the port is not a number from 0 to 65535");
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad("an IPv6 address stands in brackets");
  }
  if (host.empty()) return bad("there is no host (0.0.0.0 is all of them)");
  return HostPort{std::string(host), std::string(port)};
}

// True: no process listens there. False: one does. Error: unknown.
std::expected<bool, int> is_stale(const sockaddr_un& address) {
  const ScopedFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return std::unexpected(errno);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return false;
  }
  if (errno == ECONNREFUSED) return true;
  return std::unexpected(errno);
}

// Removes a socket file on which no process listens, and nothing else.
std::expected<void, std::string> clear_path(std::string_view spec, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(address.sun_path, &status) != 0) {
    if (errno == ENOENT) return {};
    return std::unexpected(fmt::format("server.listen '{}': {}", spec, why(errno)));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return std::unexpected(
        fmt::format("server.listen '{}': there is a file that is not a socket", spec));
  }
  const auto stale = is_stale(address);
  if (!stale) {
    return std::unexpected(fmt::format("server.listen '{}': {}", spec, why(stale.error())));
  }
  if (!*stale) {
    return std::unexpected(fmt::format("server.listen '{}': another process listens there", spec));
  }
  if (::unlink(address.sun_path) != 0 && errno != ENOENT) {
    return std::unexpected(fmt::format("server.listen '{}': {}", spec, why(errno)));
  }
  return {};
}

// Gives the new file the permissions that the umask has removed. It uses a descriptor, so that a
// file that another process has put there meanwhile stays as it is. 0, or errno.
int add_permissions(const std::string& path, const struct stat& made, mode_t mode) {
  const ScopedFd file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (file.get() < 0) return errno;
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return errno;
  if (status.st_dev != made.st_dev || status.st_ino != made.st_ino) return EEXIST;
  const std::string name = fmt::format("/proc/self/fd/{}", file.get());
  return ::chmod(name.c_str(), mode) == 0 ? 0 : errno;
}

// Held while a path is checked and taken, so that two processes that start cannot both take it.
int lock_directory(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 && ::flock(fd, LOCK_EX) != 0) {
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

}  // namespace

Listener::Listener(Listener&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      endpoint_(std::move(other.endpoint_)),
      door_(other.door_),
      owns_file_(std::exchange(other.owns_file_, false)),
      device_(other.device_),
      inode_(other.inode_) {}

Listener::~Listener() {
  if (owns_file_) {
    struct stat status{};
    if (::lstat(endpoint_.path.c_str(), &status) == 0 && status.st_dev == device_ &&
        status.st_ino == inode_) {
      ::unlink(endpoint_.path.c_str());
    }
  }
  if (fd_ >= 0) ::close(fd_);
}

bool Listener::describe() {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return false;
  if (address.ss_family == AF_UNIX) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(address);
    const auto room = length - offsetof(sockaddr_un, sun_path);
    endpoint_.path.assign(local.sun_path, strnlen(local.sun_path, room));
    endpoint_.text = "unix:" + endpoint_.path;
    door_.unix_socket = true;
    return true;
  }
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    endpoint_.port = ntohs(v4.sin_port);
    endpoint_.text = fmt::format("{}:{}", text, endpoint_.port);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    endpoint_.port = ntohs(v6.sin6_port);
    endpoint_.text = fmt::format("[{}]:{}", text, endpoint_.port);
  } else {
    return false;
  }
  endpoint_.host = text;
  door_.loopback = is_loopback(address);
  return true;
}

std::expected<Listener, std::string> Listener::open(std::string_view spec, mode_t unix_mode) {
  if (spec.starts_with(kUnix)) {
    return open_unix(spec, std::string(spec.substr(kUnix.size())), unix_mode);
  }
  return open_tcp(spec);
}

std::expected<Listener, std::string> Listener::open_unix(std::string_view spec, std::string path,
                                                         mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      path.find('\0') != std::string::npos) {
    return std::unexpected(fmt::format("server.listen '{}': the path must have 1 to {} bytes", spec,
                                       sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto failed = [&](int error) {
    return std::unexpected(fmt::format("server.listen '{}': {}", spec, why(error)));
  };
  const ScopedFd lock(lock_directory(path));
  if (lock.get() < 0) return failed(errno);
  if (auto cleared = clear_path(spec, address); !cleared) {
    return std::unexpected(std::move(cleared.error()));
  }
  ScopedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return failed(errno);
  // On the socket before bind: the file is never there with other permissions (the umask can only
  // take more away), and the process-wide umask is left alone.
  if (::fchmod(fd.get(), mode) != 0) return failed(errno);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed(errno);
  }
  Listener listener;
  listener.fd_ = fd.release();
  listener.endpoint_.path = path;
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return failed(errno);
  listener.owns_file_ = true;
  listener.device_ = status.st_dev;
  listener.inode_ = status.st_ino;
  if ((status.st_mode & 07777) != mode) {
    if (const int error = add_permissions(path, status, mode); error != 0) return failed(error);
  }
  if (::listen(listener.fd_, kBacklog) != 0) return failed(errno);
  listener.endpoint_.text = fmt::format("unix:{}", path);
  listener.door_ = {.loopback = false, .trusted = true, .unix_socket = true};
  return listener;
}

std::expected<Listener, std::string> Listener::open_tcp(std::string_view spec) {
  const auto parts = split_host_port(spec);
  if (!parts) return std::unexpected(parts.error());
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(parts->host.c_str(), parts->port.c_str(), &hints, &found);
      error != 0) {
    return std::unexpected(fmt::format("server.listen '{}': {}", spec, gai_strerror(error)));
  }
  std::string error = "no address";
  std::optional<Listener> made;
  // "localhost" may be ::1 and 127.0.0.1; one port for both cannot be promised, so IPv4 goes first.
  for (const int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* entry = found; entry != nullptr && !made; entry = entry->ai_next) {
      if (entry->ai_family != family) continue;
      ScopedFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      const int on = 1;
      if (fd.get() < 0 || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
          (family == AF_INET6 &&
           ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
          ::bind(fd.get(), entry->ai_addr, entry->ai_addrlen) != 0 ||
          ::listen(fd.get(), kBacklog) != 0) {
        error = why(errno);
        continue;
      }
      Listener listener;
      listener.fd_ = fd.release();
      if (listener.describe()) made.emplace(std::move(listener));
    }
  }
  ::freeaddrinfo(found);
  if (!made) return std::unexpected(fmt::format("server.listen '{}': {}", spec, error));
  return std::move(*made);
}

std::expected<Listener, std::string> Listener::adopt(int fd) {
  int listening = 0;
  socklen_t length = sizeof listening;
  Listener listener;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || listening == 0) {
    return std::unexpected(fmt::format("inherited descriptor {} is not a listening socket", fd));
  }
  listener.fd_ = fd;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || !listener.describe()) {
    return std::unexpected(fmt::format("inherited descriptor {}: {}", fd, why(errno)));
  }
  return listener;
}

}  // namespace keelback::server
