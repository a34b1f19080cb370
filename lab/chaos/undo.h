// What takes a fault back, as one line of text: the warden's orders and the journal are made of it.
//   arm ID LEASE_MS KIND PID START_TIME RESOURCE SOFT HARD PATH
// A process is named by pid and start time together, so a number that changed hands is never hit.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace keelback::chaos {

struct Undo {
  std::uint64_t id = 0;
  std::uint64_t lease_ms = 0;  // the warden undoes it by itself after so long
  enum class Kind : std::uint8_t {
    kContinue,  // SIGCONT
    kLimit,     // the old soft and hard limit
    kUnlink,    // a file goes
    kRename,    // a file goes back to where it was: `path`, from `path` + kAside
    kKill,      // a process that the laboratory started, and its group
    kBind,      // the processors that a process may use: `path` lists them
    kRemove,    // a directory below kShared that the laboratory made, with the files in it
  } kind = Kind::kContinue;
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat
  int resource = 0;              // of kLimit: RLIMIT_…
  std::uint64_t soft = 0, hard = 0;
  std::string path;  // of kUnlink, kRename, kRemove, kBind
};
inline constexpr std::string_view kAside = ".aside";
// Where leaked shared memory lies; nothing else is removed with what is in it.
inline constexpr std::string_view kShared = "/dev/shm/keelback-chaos-";
// Such a place of another laboratory that still lives. It is no residue of this run.
bool is_of_another_laboratory(std::string_view path);

std::string to_line(const Undo& undo);
std::optional<Undo> parse_undo(std::string_view line);

// Does it; doing it twice is as good as once. Returns what was done, in words; `failed` begins the
// text if it could not be done. A process that is gone needs nothing.
struct Undone {
  bool ok = true;
  std::string text;
};
Undone perform(const Undo& undo);

// Undoes, last first, what a journal still holds; then removes it. Returns what was done, a line
// for each; one that begins with "failed:" was not, and the journal stays.
std::string undo_journal(const std::string& path);

}  // namespace keelback::chaos
