// Control groups, version 2: directories of a kernel's file system. Whoever is in one, and all that
// it starts, can be killed at once, and bounded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/result.h"

namespace keelback::os {

// A group that a process enters when it starts. The directory is made by who enters it.
struct CgroupPlace {
  std::string directory;                                      // empty: none
  std::vector<std::pair<std::string, std::string>> settings;  // {"pids.max", "64"}
  bool required = false;                                      // no process without its group
};

// The directory of the group that this process is in.
Result<std::string> own_cgroup();
// The text of /proc/self/mountinfo, and the path of a group in that of /proc/self/cgroup. Empty:
// there is no such file system, or the group is not below what is mounted.
std::string cgroup_directory(std::string_view mounts, std::string_view path);
Result<void> write_cgroup(const std::string& directory, std::string_view file,
                          std::string_view text);
// Makes the directory and moves this process there. It may wait for a grace period of the kernel:
// milliseconds.
Result<void> enter_cgroup(const CgroupPlace& place);
// Whether the controller can be set in this group's directory.
bool has_controller(const std::string& directory, std::string_view controller);
// Everything in it and below. Needs Linux 5.14.
Result<void> kill_cgroup(const std::string& directory);
// The directory, and all below. False: somebody lives there, or it is not ours.
bool remove_cgroup(const std::string& directory);
// kill_cgroup(), and remove_cgroup() until it works, for at most `milliseconds`.
bool end_cgroup(const std::string& directory, int milliseconds);

}  // namespace keelback::os
