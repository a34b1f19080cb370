// Whether this machine can run Keelback, and what would be better: one finding per fact.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"

namespace keelback::cli {

enum class Finding { kOk, kWarn, kFail };
std::string_view to_string(Finding finding);  // "ok", "warn", "fail"

struct Check {
  std::string name;  // a word or two: "kernel", "python"
  Finding finding = Finding::kOk;
  std::string found;   // what is there
  std::string advice;  // what to do; empty for ok
};

// Starts the interpreter and waits at most 20 s for it; reads /proc and /sys. If the interpreter
// was built without its GIL, imports `app` (empty: nothing) in another one, which may take as long
// as workers.start_timeout says.
std::vector<Check> examine_machine(const Settings& settings, const std::string& app);

// What became of the GIL while an application was imported: the JSON that python/keelback/gil.py
// writes.
Check gil_check(const std::string& app, std::string_view report);

// "6.1.0-13-amd64" is at least 5.10?
bool kernel_at_least(std::string_view release, int major, int minor);

}  // namespace keelback::cli
