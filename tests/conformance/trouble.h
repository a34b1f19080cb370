// What a test of outcomes needs beside them: a ledger that no crash can falsify, and trouble.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "conformance/driver_suite.h"

namespace keelback::test {

// A file to which functions of the application append lines, each in one write.
class Ledger {
 public:
  Ledger() {
    char name[] = "/tmp/keelback-ledger-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~Ledger() { std::filesystem::remove_all(directory_); }
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  std::string path() const { return directory_ + "/ledger"; }
  // In the order in which they were written.
  std::vector<std::string> in_order() const {
    std::vector<std::string> found;
    std::ifstream file(path());
    for (std::string line; std::getline(file, line);) found.push_back(line);
    return found;
  }
  // How often each was written.
  std::map<std::string, int> lines() const {
    std::map<std::string, int> found;
    for (const std::string& line : in_order()) ++found[line];
    return found;
  }
  void forget() { std::filesystem::remove(path()); }

 private:
  std::string directory_;
};

// Kills or recycles a worker every few milliseconds, until it has killed enough; and whoever runs
// the call that it is told of, as often as somebody does.
class Trouble {
 public:
  // More in so short a time would be met with the pauses of a crash loop.
  static constexpr int kKills = 24;

  Trouble(World& world, std::uint64_t seed) : thread_([this, &world, seed] { run(world, seed); }) {}
  ~Trouble() {
    stop_ = true;
    thread_.join();
  }
  int kills() const { return kills_; }
  void hunt(CallId call) { hunted_ = call.value; }
  void spare() { hunted_ = 0; }

 private:
  void run(World& world, std::uint64_t seed) {
    std::mt19937_64 chance(seed);
    while (!stop_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2 + chance() % 12));
      const auto workers = world.driver().workers();
      if (const std::uint64_t hunted = hunted_; hunted != 0) {
        for (const host::WorkerInfo& worker : workers) {
          if (worker.call.value == hunted) kill(worker);
        }
      }
      if (workers.empty() || kills_ >= kKills) continue;
      const host::WorkerInfo& worker = workers[chance() % workers.size()];
      if (chance() % 8 == 0) {
        world.driver().recycle(worker.worker.slot);
      } else if (kill(worker)) {
        ++kills_;
      }
    }
  }
  static bool kill(const host::WorkerInfo& worker) {
    // Since it was listed the pool may have let it go; its number is not reused so soon.
    return worker.pid > 0 && ::kill(static_cast<pid_t>(worker.pid), SIGKILL) == 0;
  }
  std::atomic<bool> stop_ = false;
  std::atomic<int> kills_ = 0;
  std::atomic<std::uint64_t> hunted_ = 0;
  std::thread thread_;
};

}  // namespace keelback::test
