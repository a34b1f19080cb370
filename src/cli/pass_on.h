// Commands that another program of ours carries out: the help of this one lists them, and when one
// is chosen this process becomes the other program, with the same arguments.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace keelback::cli {

struct PassedOn {
  std::vector<std::string_view> command;  // its words after "keelback": {"bench", "peers"}
  const char* description;
  const char* program;  // "keelback-lab"
  const char* remedy;   // what to do where that program is not installed
};

// The laboratories, as their own program describes itself, too.
inline constexpr const char* kChaosDescription =
    "The chaos laboratory: faults that are proved, losses that are explained";
inline constexpr const char* kBenchDescription =
    "The performance laboratory: measure, compare two builds, measure against alternatives";
inline constexpr const char* kPeersDescription =
    "The same function on the alternatives a user would pick, in the same run";

// Lists the command's last word below `parent`.
void add_passed_on(CLI::App& parent, const PassedOn& command);
// If the arguments choose one of `commands`: does not return, or returns an exit code after it has
// said on stderr why the program could not be started. Else nullopt.
std::optional<int> pass_on(std::span<const PassedOn> commands, int argc, char** argv);

}  // namespace keelback::cli
