#include "chaos/warden.h"

#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "host/install.h"
#include "os/process.h"

namespace keelback::chaos {
namespace {

constexpr int kAnswerMs = 5000;

}  // namespace

Warden::Warden(Warden&& other) noexcept
    : socket_(std::move(other.socket_)),
      pid_(std::exchange(other.pid_, 0)),
      last_(other.last_),
      armed_(std::move(other.armed_)) {}

Warden& Warden::operator=(Warden&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(pid_, other.pid_);
  std::swap(last_, other.last_);
  std::swap(armed_, other.armed_);
  return *this;
}

Warden::~Warden() {
  socket_.reset();
  if (pid_ != 0) static_cast<void>(os::reap_own_child(pid_));
}

std::expected<Warden, std::string> Warden::start(const std::string& journal) {
  const std::string program = host::find_program("keelback-warden");
  if (program.empty()) return std::unexpected("keelback-warden is not installed");
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return std::unexpected(std::strerror(errno));
  }
  os::Fd ours(ends[0]), theirs(ends[1]);
  const auto null = os::open_null();
  if (!null) return std::unexpected(null.error().message());
  const int fds[] = {null->get(), null->get(), 2, theirs.get()};
  const auto pid = os::spawn({program, journal}, fds);
  if (!pid) return std::unexpected("keelback-warden: " + pid.error().message());
  Warden warden;
  warden.socket_ = std::move(ours);
  warden.pid_ = *pid;
  return warden;
}

std::expected<std::string, std::string> Warden::ask(const std::string& packet) {
  if (::send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
    return std::unexpected("the warden is gone");
  }
  pollfd answer{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&answer, 1, kAnswerMs) <= 0) return std::unexpected("the warden does not answer");
  char text[1024];
  const ssize_t got = ::recv(socket_.get(), text, sizeof(text), 0);
  if (got <= 0) return std::unexpected("the warden is gone");
  return std::string(text, static_cast<std::size_t>(got));
}

std::expected<std::uint64_t, std::string> Warden::arm(Undo undo) {
  undo.id = ++last_;
  const auto answer = ask(to_line(undo));
  if (!answer) return std::unexpected(answer.error());
  if (!answer->starts_with("ok ")) return std::unexpected("the warden refused: " + *answer);
  armed_[undo.id] = undo;
  return undo.id;
}

std::expected<std::string, std::string> Warden::undo(std::uint64_t id) {
  const auto found = armed_.find(id);
  if (found == armed_.end()) return "it was undone already";
  const Undo record = found->second;
  armed_.erase(found);
  const auto answer = ask("undo " + std::to_string(id));
  if (answer && answer->starts_with("undone ")) return answer;
  const Undone done = perform(record);
  if (done.ok) return done.text + " (" + (answer ? *answer : answer.error()) + ")";
  return std::unexpected(done.text);
}

}  // namespace keelback::chaos
