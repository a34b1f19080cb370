// Another user of this machine, whom root can become.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "os/result.h"

namespace keelback::os {

struct User {
  uid_t uid = 0;  // 0: nobody is meant
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name;
  std::string home;
  explicit operator bool() const { return uid != 0; }
};

// For good: groups, then group, then user, and with it every capability.
Result<void> become_user(const User& user);
// What `fd` names belongs to the user, who can then open it anew. Only pipes need that.
void give_pipe(int fd, const User& user);
// The directory and the files by which processes are moved.
Result<void> give_cgroup(const std::string& directory, const User& user);

}  // namespace keelback::os
