// What a worker prints, line by line: the last lines kept for a post-mortem, and a bounded stream
// of lines for the log. Pure: fed with bytes and times.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace keelback::host {

// Bytes read from a process's pipe in one go: what a pipe holds at most, so that one read takes the
// last of a dead process's words.
inline constexpr std::size_t kLogPerTurn = 64 << 10;

class LogLines {
 public:
  static constexpr std::size_t kTailLines = 64;
  static constexpr std::size_t kTailBytes = 8 << 10;
  static constexpr std::size_t kLineBytes = 4 << 10;  // a longer line is cut into several
  // Behind each piece of a long line but the last. No character of UTF-8 is cut in two.
  static constexpr std::string_view kGoesOn = " [the line goes on]";
  static constexpr std::uint32_t kLinesPerSecond = 100;
  static constexpr std::uint32_t kBurst = 200;
  // Of lines that are too many the last ones are held: they come with the mark, so that the log has
  // what was said at the end of a flood.
  static constexpr std::size_t kHeld = 10;

  // Appends to `out` the complete lines that may be logged at `now`; counts the others.
  void feed(Time now, std::string_view bytes, std::vector<std::string>& out);
  // The writer is gone: an unfinished line is one.
  void finish(Time now, std::vector<std::string>& out);

  // The thread in which the last fatal error came that Python's faulthandler has written down; 0:
  // none. Numbered as in the marks.
  std::uint64_t fatal_thread() const { return fatal_thread_; }
  // The last lines, in order, each ending in a newline; at most kTailLines and kTailBytes.
  std::string tail() const;
  // Lines, and pieces of long ones, that were not logged because there were too many.
  std::uint64_t dropped() const { return dropped_; }
  // For a mark in the log: what has become of lines that were too many since it was last asked.
  struct Flood {
    std::uint64_t dropped = 0;
    std::vector<std::string> held;  // to be logged behind the mark
  };
  Flood take_flood();

 private:
  void cut(Time now, std::vector<std::string>& out);
  void take(Time now, std::string_view line, std::vector<std::string>& out);
  void note_fatal(std::string_view line);

  std::string partial_;
  std::deque<std::string> tail_;
  std::size_t tail_bytes_ = 0;
  double allowance_ = kBurst;
  Time last_{};
  std::deque<std::string> held_;
  std::uint64_t dropped_ = 0;
  std::uint64_t reported_ = 0;
  bool is_fatal_ = false;  // the report of a fatal error has begun
  std::uint64_t fatal_thread_ = 0;
};

// The mark that lines leave which the log did not take.
std::string dropped_text(std::string_view who, std::uint64_t lines);

}  // namespace keelback::host
