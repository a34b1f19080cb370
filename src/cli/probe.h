// One short program run for its output.
#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <vector>

namespace keelback::cli {

struct ProgramOutput {
  int status = 0;   // exit code, or 128 + the signal that ended it
  std::string out;  // at most 64 KiB of each
  std::string err;
};
// Searches argv[0] on PATH. Kills the program when the time is over. The error is one sentence.
std::expected<ProgramOutput, std::string> run_program(const std::vector<std::string>& argv,
                                                      std::chrono::milliseconds limit);

}  // namespace keelback::cli
