#include "bench/line_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "os/process.h"

namespace keelback::bench {

std::expected<LineProcess, std::string> LineProcess::start(const std::vector<std::string>& argv,
                                                           Stderr where) {
  // Orders go through a socket: writing to it when the process is gone is an error and no SIGPIPE.
  int ends[2];
  auto answers = os::make_pipe();
  if (!answers || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return std::unexpected("no pipes are to be had");
  os::Fd ours(ends[0]);
  const os::Fd theirs(ends[1]);
  const os::Fd nowhere(where == Stderr::kNowhere ? ::open("/dev/null", O_WRONLY | O_CLOEXEC) : -1);
  const std::array<int, 3> fds{theirs.get(), answers->write.get(),
                               nowhere ? nowhere.get() : STDERR_FILENO};
  const auto pid = os::spawn(argv, fds);
  if (!pid) return std::unexpected(fmt::format("{} cannot be started", argv[0]));
  LineProcess process;
  process.pid_ = *pid;
  process.to_ = std::move(ours);
  process.from_ = std::move(answers->read);
  return process;
}

LineProcess& LineProcess::operator=(LineProcess&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    to_ = std::move(other.to_);
    from_ = std::move(other.from_);
    buffer_ = std::move(other.buffer_);
  }
  return *this;
}

void LineProcess::end() {
  to_.reset();
  from_.reset();
  if (pid_ < 0) return;
  if (auto handle = os::Pidfd::open(pid_)) {
    if (!handle->wait_dead(std::chrono::seconds(10)).value_or(false))
      (void)handle->send_signal(SIGKILL);
  }
  (void)os::reap_own_child(pid_);
  pid_ = -1;
}

std::expected<nlohmann::json, std::string> LineProcess::ask(const nlohmann::json& order) {
  const std::string text = order.dump() + "\n";
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::send(to_.get(), text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (n <= 0) return std::unexpected("the process is gone");
    at += static_cast<std::size_t>(n);
  }
  auto answer = next();
  if (!answer)
    return std::unexpected(fmt::format("'{}': {}", order.value("op", "?"), answer.error()));
  if (!answer->value("ok", false))
    return std::unexpected(answer->value("error", "it gave no reason"));
  return answer;
}

std::expected<nlohmann::json, std::string> LineProcess::next() {
  std::size_t end_of_line;
  while ((end_of_line = buffer_.find('\n')) == std::string::npos) {
    char chunk[65536];
    const auto n = os::read_some(from_.get(), chunk, sizeof chunk);
    if (!n || *n == 0) return std::unexpected("the process died");
    buffer_.append(chunk, *n);
  }
  auto answer = nlohmann::json::parse(buffer_.substr(0, end_of_line), nullptr, false);
  buffer_.erase(0, end_of_line + 1);
  if (!answer.is_object()) return std::unexpected("it printed something that is not a JSON object");
  return answer;
}

}  // namespace keelback::bench
