#include "host/worker_user.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace keelback::host {

std::expected<os::User, std::string> find_worker_user(const std::string& name) {
  os::User user;
  if (name.empty()) return user;
  if (::geteuid() != 0) {
    return std::unexpected(fmt::format(
        "workers.user is {}: only a daemon that root has started can run workers as somebody else",
        name));
  }
  std::vector<char> text(1 << 16);
  passwd entry{};
  passwd* found = nullptr;
  uid_t uid = 0;
  const char* end = name.data() + name.size();
  const auto number = std::from_chars(name.data(), end, uid);
  if (number.ec == std::errc() && number.ptr == end) {
    ::getpwuid_r(uid, &entry, text.data(), text.size(), &found);
  } else {
    ::getpwnam_r(name.c_str(), &entry, text.data(), text.size(), &found);
  }
  if (found == nullptr) {
    return std::unexpected(fmt::format("workers.user is {}: there is no such user", name));
  }
  if (entry.pw_uid == 0) {
    return std::unexpected(fmt::format("workers.user is {}: that is root", name));
  }
  user = {.uid = entry.pw_uid,
          .gid = entry.pw_gid,
          .groups = {},
          .name = entry.pw_name,
          .home = entry.pw_dir};
  int count = 1024;
  user.groups.resize(static_cast<std::size_t>(count));
  ::getgrouplist(entry.pw_name, entry.pw_gid, user.groups.data(), &count);
  user.groups.resize(static_cast<std::size_t>(std::clamp(count, 0, 1024)));
  return user;
}

void add_user(std::vector<std::string>& environment, const os::User& user) {
  if (!user) return;
  const auto put = [&](std::string_view name, std::string_view value) {
    std::erase_if(environment, [&](const std::string& entry) { return entry.starts_with(name); });
    environment.push_back(std::string(name) + std::string(value));
  };
  put("HOME=", user.home);
  put("USER=", user.name);
  put("LOGNAME=", user.name);
}

}  // namespace keelback::host
