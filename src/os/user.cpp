#include "os/user.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

namespace keelback::os {

Result<void> become_user(const User& user) {
  if (int error = fault::next()) return failure(error);
  if (::setgroups(user.groups.size(), user.groups.data()) < 0) return last_failure();
  if (::setresgid(user.gid, user.gid, user.gid) < 0) return last_failure();
  if (::setresuid(user.uid, user.uid, user.uid) < 0) return last_failure();
  return {};
}

void give_pipe(int fd, const User& user) {
  struct stat info{};
  if (::fstat(fd, &info) < 0 || !S_ISFIFO(info.st_mode)) return;
  static_cast<void>(!::fchown(fd, user.uid, user.gid));  // else it cannot be opened anew
}

Result<void> give_cgroup(const std::string& directory, const User& user) {
  for (const char* file : {"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"}) {
    if (::chown((directory + file).c_str(), user.uid, user.gid) < 0) return last_failure();
  }
  return {};
}

}  // namespace keelback::os
