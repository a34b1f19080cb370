// The groups of the kernel that workers live in, one each: docs/security.md, Descendants.
#pragma once

#include <string>

#include "base/id.h"
#include "base/settings.h"
#include "os/cgroup.h"
#include "os/user.h"

namespace keelback::host {

class WorkerCgroups {
 public:
  WorkerCgroups() = default;  // there are none
  // Makes the directory for those of this pool, after what dead supervisors have left beside it is
  // gone. `owner`: owner_of_this_process(). May take some milliseconds.
  WorkerCgroups(const Settings& settings, const std::string& owner, const os::User& user);

  // Empty: there are none, and why_not() says why.
  const std::string& directory() const { return directory_; }
  const std::string& why_not() const { return why_not_; }
  // What the settings ask for and this machine does not allow; empty: nothing.
  std::string missing(const Settings& settings) const;
  os::CgroupPlace place_of(WorkerId worker, const Settings& settings) const;
  // Another user may move its processes only within what belongs to it: its zygotes live there,
  // too.
  os::CgroupPlace place_of_zygote(std::uint64_t number) const;

 private:
  void allow_limits(const std::string& parent, const std::string& name);

  std::string directory_;
  std::string why_not_;
  bool given_ = false;   // the directory is another user's
  bool memory_ = false;  // memory.max can be set
  bool processes_ = false;
};

}  // namespace keelback::host
