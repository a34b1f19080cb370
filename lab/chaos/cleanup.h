// The third line of defence, behind the laboratory's own undoing and the warden's: journals that
// lie about because both were killed.
#pragma once

#include <string>
#include <vector>

namespace keelback::chaos {

struct Cleaned {
  std::string journal;
  bool busy = false;  // its warden lives: nothing was touched
  std::string text;   // what was undone, a line each; empty: nothing was in force
};

// The journals of these run directories and, where none is given, of every scratch directory of
// ours in the temporary directory. A journal whose warden lives is left alone. Blocks for
// milliseconds.
std::vector<Cleaned> clean_up(const std::vector<std::string>& directories);

}  // namespace keelback::chaos
