// The user that the application runs as, if it is another one: docs/security.md, Another user.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "os/user.h"

namespace keelback::host {

// The user of `name` (or number) and its groups; no user for an empty name. The error is a
// sentence.
std::expected<os::User, std::string> find_worker_user(const std::string& name);

// What such a user finds in its environment: HOME, USER and LOGNAME.
void add_user(std::vector<std::string>& environment, const os::User& user);

}  // namespace keelback::host
