// What a machine happens to export changes no test: a GoogleTest program that this is linked into,
// and so everything that it starts, has the environment that is made here, before main().
// tests/support/environment.py does the same for the Python tests.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace keelback::test {
namespace {

// Other Pythons, other words in messages, settings of the user's own pool, a service manager that
// waits.
constexpr std::array<std::string_view, 21> kDropped = {"PYTHON",
                                                       "PYENV_",
                                                       "VIRTUAL_ENV",
                                                       "CONDA_",
                                                       "LC_",
                                                       "LANGUAGE",
                                                       "NOTIFY_SOCKET",
                                                       "LISTEN_",
                                                       "KEELBACK_TOKEN",
                                                       "KEELBACK_URL",
                                                       "KEELBACK_PYTHON_DIR",
                                                       "KEELBACK_WORKER",
                                                       "KEELBACK_ATTACHMENTS_",
                                                       "KEELBACK_BREAKER_",
                                                       "KEELBACK_CALLS_",
                                                       "KEELBACK_LOG_",
                                                       "KEELBACK_POOL_",
                                                       "KEELBACK_QUARANTINE_",
                                                       "KEELBACK_SERVER_",
                                                       "KEELBACK_SESSIONS_",
                                                       "KEELBACK_WORKERS_"};

bool settle() {
  std::vector<std::string> dropped;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view variable = *entry;
    for (const std::string_view start : kDropped) {
      if (!variable.starts_with(start)) continue;
      dropped.emplace_back(variable.substr(0, variable.find('=')));
      break;
    }
  }
  for (const std::string& name : dropped) ::unsetenv(name.c_str());
  ::setenv("LANG", "C.UTF-8", 1);
  const std::string python = std::filesystem::path(KEELBACK_TEST_PYTHON).parent_path();
  ::setenv("PATH",
           (python + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").c_str(), 1);
  return true;
}

const bool settled = settle();

}  // namespace
}  // namespace keelback::test
