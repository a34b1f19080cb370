#include "support/leaks.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>

#include "base/sanitizer.h"
#include "os/process.h"
#include "support/waiting.h"

namespace keelback::test {
namespace {

using namespace std::chrono_literals;

template <typename Take>
void each_entry(const char* path, Take&& take) {
  DIR* directory = ::opendir(path);
  if (directory == nullptr) return;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    // Its own descriptor is in the list of descriptors; it ends with the list.
    if (name[0] == '.' || name == std::to_string(::dirfd(directory))) continue;
    take(std::string(name));
  }
  ::closedir(directory);
}

// Everything there is, by kind, number and what it stands for: a number that is used again for
// something else is something else.
std::vector<std::string> present() {
  // With the first thread of a program ThreadSanitizer starts one of its own, which stays.
  if constexpr (kSanitizer == "thread") std::thread([] {}).join();
  std::vector<std::string> all;
  each_entry("/proc/self/fd", [&](const std::string& name) {
    char target[PATH_MAX];
    const ssize_t size = ::readlink(("/proc/self/fd/" + name).c_str(), target, sizeof target);
    if (size < 0) return;
    std::string_view file(target, static_cast<std::size_t>(size));
    // Somebody else may remove the file of an inherited descriptor: it is the same file.
    if (constexpr std::string_view kRemoved = " (deleted)"; file.ends_with(kRemoved)) {
      file.remove_suffix(kRemoved.size());
    }
    all.push_back("descriptor " + name + ": " + std::string(file));
  });
  each_entry("/proc/self/task", [&](const std::string& name) { all.push_back("thread " + name); });
  for (const pid_t pid : os::children_of(::getpid())) {
    all.push_back("child " + std::to_string(pid));
  }
  each_entry("/dev/shm", [&](const std::string& name) {
    // Others use it too; what is ours would have our name. Behind it stands the number of the
    // process that made it. A test that runs beside this one is another process, and lives.
    if (name.find("keelback") == std::string::npos) return;
    const std::size_t number = name.find_first_of("0123456789");
    const long maker = number == name.npos ? 0 : std::strtol(name.c_str() + number, nullptr, 10);
    const auto living = [](pid_t pid) { return ::kill(pid, 0) == 0 || errno == EPERM; };
    if (maker > 1 && maker != ::getpid() && living(static_cast<pid_t>(maker))) return;
    all.push_back("/dev/shm/" + name);
  });
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:") != std::string::npos) all.push_back("mapping " + line);
  }
  std::ranges::sort(all);
  return all;
}

}  // namespace

Leaks::Leaks() : before_(present()) {}

std::vector<std::string> Leaks::found(std::chrono::nanoseconds patience) const {
  std::vector<std::string> left;
  eventually(
      [&] {
        left.clear();
        std::ranges::set_difference(present(), before_, std::back_inserter(left));
        return left.empty();
      },
      patience);
  return left;
}

void Leaks::expect_none() const {
  for (const std::string& leak : found(1s)) ADD_FAILURE() << "left behind: " << leak;
}

}  // namespace keelback::test
