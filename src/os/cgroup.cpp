#include "os/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "os/fd.h"
#include "os/process.h"

namespace keelback::os {
namespace {

// The n-th word, from 0 on.
std::string_view word(std::string_view line, int n) {
  for (; n > 0; --n) line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
  return line.substr(0, line.find(' '));
}

std::vector<std::string> directories_in(const std::string& path) {
  std::vector<std::string> found;
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") {
      found.push_back(path + "/" + entry->d_name);
    }
  }
  ::closedir(directory);
  return found;
}

}  // namespace

std::string cgroup_directory(std::string_view mounts, std::string_view path) {
  // "id parent major:minor root place options… - type source options"
  while (!mounts.empty()) {
    const std::size_t end = std::min(mounts.find('\n'), mounts.size());
    const std::string_view line = mounts.substr(0, end);
    mounts.remove_prefix(std::min(end + 1, mounts.size()));
    const std::size_t dash = line.find(" - ");
    if (dash == line.npos || !line.substr(dash + 3).starts_with("cgroup2 ")) continue;
    const std::string_view root = word(line, 3);
    std::string_view below = path;
    if (root != "/") {
      const bool inside =
          below.starts_with(root) && (below.size() == root.size() || below[root.size()] == '/');
      if (!inside) continue;
      below.remove_prefix(root.size());
    }
    if (below == "/") below = "";
    return std::string(word(line, 4)) + std::string(below);
  }
  return {};
}

Result<std::string> own_cgroup() {
  const auto self = read_text_file("/proc/self/cgroup");
  if (!self) return std::unexpected(self.error());
  const auto mounts = read_text_file("/proc/self/mountinfo");
  if (!mounts) return std::unexpected(mounts.error());
  const auto path = cgroup_path(*self, "");
  std::string directory = path ? cgroup_directory(*mounts, *path) : std::string();
  if (directory.empty()) return failure(ENOTSUP);
  return directory;
}

Result<void> write_cgroup(const std::string& directory, std::string_view file,
                          std::string_view text) {
  if (int error = fault::next()) return failure(error);
  const Fd fd(::open((directory + "/" + std::string(file)).c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return last_failure();
  const ssize_t put = ::write(fd.get(), text.data(), text.size());
  if (put < 0) return last_failure();
  return {};
}

Result<void> enter_cgroup(const CgroupPlace& place) {
  if (::mkdir(place.directory.c_str(), 0755) < 0 && errno != EEXIST) return last_failure();
  for (const auto& [file, text] : place.settings) {
    if (auto done = write_cgroup(place.directory, file, text); !done) return done;
  }
  return write_cgroup(place.directory, "cgroup.procs", "0");
}

bool has_controller(const std::string& directory, std::string_view controller) {
  const auto text = read_text_file(directory + "/cgroup.controllers");
  if (!text) return false;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find_first_of(" \n"), rest.size());
    if (rest.substr(0, end) == controller) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

Result<void> kill_cgroup(const std::string& directory) {
  return write_cgroup(directory, "cgroup.kill", "1");
}

bool remove_cgroup(const std::string& directory) {
  for (const std::string& below : directories_in(directory)) remove_cgroup(below);
  return ::rmdir(directory.c_str()) == 0 || errno == ENOENT;
}

bool end_cgroup(const std::string& directory, int milliseconds) {
  for (;; --milliseconds) {
    // Again and again: a process that was on its way in is there by now.
    static_cast<void>(kill_cgroup(directory));
    if (remove_cgroup(directory)) return true;
    if (milliseconds <= 0) return false;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace keelback::os
