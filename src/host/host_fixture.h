// What the host's tests share: a pool of its own for each test, and proof that nothing is left of
// it.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "host/host.h"
#include "os/process.h"
#include "support/leaks.h"
#include "support/waiting.h"

namespace keelback::host {

using namespace std::chrono_literals;

using test::eventually;
inline const auto kPatience = 20s * test::stretch();

inline constexpr const char* kApp = R"py(
import ctypes, os, signal, subprocess, sys, time
import keelback

@keelback.function
def greet(name):
    return f"Hello, {name}!"

@keelback.function
def pid():
    return os.getpid()

@keelback.function(idempotent=True)
def twice(x):
    return 2 * x

@keelback.function
def echo(text):
    return text

@keelback.function
def sleep(seconds):
    time.sleep(seconds)

@keelback.function
def hold_gil():
    # A lock taken twice: waits in C with the GIL held, and no signal ends that.
    lock = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)

@keelback.function
def die(how):
    print("last words", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))

@keelback.function
def leave_behind():
    plain = subprocess.Popen(["sleep", "1000"])
    session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    daemon = subprocess.run(["sh", "-c", "(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)"],
                            stdout=subprocess.PIPE, text=True)
    read, write = os.pipe()
    if os.fork() == 0:  # daemonised the old way: fork, setsid, fork
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.write(write, str(os.getpid()).encode())
        time.sleep(1000)
    return [plain.pid, session.pid, int(daemon.stdout), int(os.read(read, 20))]

@keelback.function
def flood(lines):
    for i in range(lines):
        print("line", i)

@keelback.function(stream=True)
def count(n):
    for i in range(n):
        yield i

@keelback.function
def threads():
    return len(os.listdir("/proc/self/task"))
)py";

// A pool of its own for each test, and proof that nothing of it is left.
class HostTest : public ::testing::Test {
 protected:
  HostTest() {
    directory_ = std::filesystem::temp_directory_path() /
                 ("keelback-host-test-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
    config_.loop = &loop_;
    config_.settings.pool.workers = 2;
    config_.settings.calls.grace = 1s;
    config_.logger =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>());
  }
  ~HostTest() override {
    host_.reset();
    leaks_.expect_none();
    std::filesystem::remove_all(directory_);
  }

  Driver& start(const std::string& app = kApp) {
    write_app(app);
    config_.app = path();
    auto host = Host::start(config_);
    EXPECT_TRUE(host) << host.error().message;
    host_ = std::move(*host);
    return *host_;
  }
  std::string path() const { return (directory_ / "app.py").string(); }
  void write_app(const std::string& app) const { std::ofstream(path()) << app; }
  Outcome call(const std::string& function, const std::string& payload = "[]",
               std::optional<std::chrono::nanoseconds> deadline = 20s) {
    return host_->call({.function = function, .payload = payload, .deadline = deadline});
  }
  std::vector<pid_t> pids() {
    std::vector<pid_t> found;
    for (const WorkerInfo& worker : host_->workers()) {
      if (worker.pid != 0) found.push_back(static_cast<pid_t>(worker.pid));
    }
    return found;
  }
  std::uint32_t ready() { return host_->info().stats.workers.ready; }

  EventLoop loop_;
  test::Leaks leaks_;  // but for the loop
  HostConfig config_;
  std::unique_ptr<Driver> host_;
  std::filesystem::path directory_;
};

inline bool is_alive(pid_t pid) {
  const auto stat = os::read_stat(pid);
  return stat && stat->state != 'Z' && stat->state != 'X';
}

// The numbers in a JSON list of numbers.
inline std::vector<pid_t> numbers_in(const std::string& json) {
  std::vector<pid_t> numbers;
  for (std::size_t at = 0; at < json.size();) {
    const std::size_t digit = json.find_first_of("0123456789", at);
    if (digit == std::string::npos) break;
    std::size_t length = 0;
    numbers.push_back(static_cast<pid_t>(std::stol(json.substr(digit), &length)));
    at = digit + length;
  }
  return numbers;
}

}  // namespace keelback::host
