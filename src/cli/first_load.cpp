#include "cli/first_load.h"

#include <fmt/format.h>

#include <string_view>

#include "cli/output.h"
#include "core/wording.h"

namespace keelback::cli {
namespace {

struct Hint {
  std::string_view sign;  // in the reason
  std::string_view text;
};
constexpr Hint kHints[] = {
    {"workers.start_timeout", "a slow import needs a longer workers.start_timeout"},
    {"not imported in time", "a slow import needs a longer workers.start_timeout"},
    {"memory_limit", "raise workers.memory_limit, or import less"},
    {"attempted relative import",
     "a file in a package is served by its module's name: keelback serve package.module"},
    {"ModuleNotFoundError",
     "install the module for the interpreter of workers.python, or put its directory into "
     "PYTHONPATH"},
    {"Address already in use",
     "another program has this port, or the application opens it in every worker: open it in a "
     "program of its own"},
    {"cannot run", "workers.python names the interpreter; keelback doctor looks at it"},
    {"could not be started as",
     "workers.python names the interpreter; keelback doctor looks at it"},
};

std::string_view hint_for(std::string_view reason) {
  for (const Hint& hint : kHints) {
    if (reason.find(hint.sign) != std::string_view::npos) return hint.text;
  }
  return {};
}

}  // namespace

std::string load_failure_text(const std::string& app, const Death& death) {
  std::string text = fmt::format("{} cannot be loaded: {}", app, core::describe(death));
  std::string_view words = death.stderr_tail;
  while (words.ends_with('\n')) words.remove_suffix(1);
  if (!words.empty()) text += "\nIts last words:\n" + indented(words, "    ");
  while (text.ends_with('\n')) text.pop_back();
  if (const std::string_view hint = hint_for(text); !hint.empty()) {
    text += fmt::format("\nHint: {}.", hint);
  }
  return text + "\nWith --wait-for-app the daemon keeps trying instead.";
}

}  // namespace keelback::cli
