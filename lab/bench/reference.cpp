#include "bench/reference.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "os/process.h"
#include "os/socket.h"

namespace keelback::bench {
namespace {

using Clock = std::chrono::steady_clock;

// The body is 38 bytes, as in the measurements that the targets come from. Never change this text:
// every stored baseline is a ratio to it.
constexpr const char* kLoop = R"(import json, os
while True:
    data = os.read(0, 65536)
    if not data:
        break
    os.write(0, json.dumps(json.loads(data)).encode())
)";
constexpr std::string_view kBody = R"({"name": "Ada", "values": [1, 2, 3, 4]})";

}  // namespace

std::expected<ReferenceEcho, std::string> ReferenceEcho::start(const std::string& python) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return std::unexpected("no socket pair is to be had");
  os::Fd ours(ends[0]), theirs(ends[1]);
  const std::array<int, 3> fds{theirs.get(), STDERR_FILENO, STDERR_FILENO};
  // By env(1), because `python` may be a name to be looked up in PATH.
  const auto pid = os::spawn({"/usr/bin/env", python, "-S", "-c", kLoop}, fds);
  if (!pid) return std::unexpected(python + " cannot be started");
  ReferenceEcho echo;
  echo.socket_ = std::move(ours);
  echo.pid_ = *pid;
  theirs.reset();
  if (echo.run(std::chrono::milliseconds(1)).empty())
    return std::unexpected(python + " does not answer");
  return echo;
}

ReferenceEcho::ReferenceEcho(ReferenceEcho&& other) noexcept
    : socket_(std::move(other.socket_)), pid_(std::exchange(other.pid_, -1)) {}

ReferenceEcho::~ReferenceEcho() {
  socket_.reset();  // end of file ends it
  if (pid_ > 0) (void)os::reap_own_child(pid_);
}

std::vector<Duration> ReferenceEcho::run(Duration length) {
  std::vector<Duration> times;
  char buffer[4096];
  const auto end = Clock::now() + length;
  for (auto before = Clock::now(); before < end;) {
    if (::write(socket_.get(), kBody.data(), kBody.size()) != static_cast<ssize_t>(kBody.size()))
      break;
    if (::read(socket_.get(), buffer, sizeof buffer) <= 0) break;
    const auto after = Clock::now();
    times.push_back(after - before);
    before = after;
  }
  std::ranges::sort(times);
  return times;
}

}  // namespace keelback::bench
