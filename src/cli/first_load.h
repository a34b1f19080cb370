// The message for an application that cannot be loaded when `keelback serve` starts.
#pragma once

#include <string>

#include "keelback/outcome.h"

namespace keelback::cli {

// The application, the reason (with its place, if that is known), what it printed last, and what
// to do: several lines.
std::string load_failure_text(const std::string& app, const Death& death);

}  // namespace keelback::cli
