#include "cli/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace keelback::cli {
namespace {

constexpr std::size_t kOutputMax = 64 << 10;
using Clock = std::chrono::steady_clock;

class Pipe {
 public:
  Pipe() { ok_ = ::pipe2(ends_.data(), O_CLOEXEC) == 0; }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  bool ok() const { return ok_; }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_end(std::size_t end) {
    if (ends_[end] >= 0) ::close(std::exchange(ends_[end], -1));
  }

 private:
  std::array<int, 2> ends_ = {-1, -1};
  bool ok_ = false;
};

// Reads both pipes to their ends; false: the time is over.
bool collect(Pipe& out, Pipe& err, ProgramOutput& output, Clock::time_point end) {
  std::array<Pipe*, 2> pipes = {&out, &err};
  std::array<std::string*, 2> texts = {&output.out, &output.err};
  while (out.read_end() >= 0 || err.read_end() >= 0) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    std::array<pollfd, 2> polled = {pollfd{out.read_end(), POLLIN, 0},
                                    pollfd{err.read_end(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), static_cast<int>(left.count())) < 0 &&
        errno != EINTR) {
      return false;
    }
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      std::array<char, 4096> piece{};
      const ssize_t got = ::read(polled[i].fd, piece.data(), piece.size());
      if (got <= 0) {
        pipes[i]->close_end(0);
      } else if (texts[i]->size() < kOutputMax) {
        texts[i]->append(piece.data(), static_cast<std::size_t>(got));
      }
    }
  }
  return true;
}

}  // namespace

std::expected<ProgramOutput, std::string> run_program(const std::vector<std::string>& argv,
                                                      std::chrono::milliseconds limit) {
  Pipe out, err;
  if (!out.ok() || !err.ok()) return std::unexpected(std::string(std::strerror(errno)));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.write_end(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, err.write_end(), 2);
  std::vector<char*> arguments;
  for (const std::string& word : argv) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = 0;
  const int error =
      ::posix_spawnp(&pid, argv[0].c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return std::unexpected(fmt::format("{} cannot be started: {}", argv[0], std::strerror(error)));
  }
  out.close_end(1);
  err.close_end(1);
  ProgramOutput output;
  const bool finished = collect(out, err, output, Clock::now() + limit);
  if (!finished) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!finished) {
    return std::unexpected(fmt::format("{} did not end within {} ms", argv[0], limit.count()));
  }
  output.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

}  // namespace keelback::cli
