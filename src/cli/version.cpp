// keelback version: what exactly this program is.
#include <boost/version.hpp>

#include <fmt/format.h>

#include <CLI/App.hpp>

#include "base/sanitizer.h"
#include "cli/output.h"

namespace keelback::cli {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "gcc " __VERSION__;
#endif

}  // namespace

void add_version(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      add_command(app, invocation, "version", "The version of this program", "keelback version");
  command->callback([&invocation] {
    invocation.run = [&invocation]() -> int {
      if (invocation.json) {
        print_json({{"version", KEELBACK_VERSION},
                    {"compiler", kCompiler},
                    {"boost", BOOST_LIB_VERSION},
                    {"sanitizer", kSanitizer}});
      } else {
        print(fmt::format("keelback {} ({}{}{})\n", KEELBACK_VERSION, kCompiler,
                          kSanitizer.empty() ? "" : ", sanitizer ", kSanitizer));
      }
      return kExitOk;
    };
  });
}

}  // namespace keelback::cli
