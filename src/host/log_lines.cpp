#include "host/log_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "base/utf8.h"

namespace keelback::host {
void LogLines::feed(Time now, std::string_view bytes, std::vector<std::string>& out) {
  while (!bytes.empty()) {
    if (bytes.front() == '\n') {
      take(now, partial_, out);
      partial_.clear();
      bytes.remove_prefix(1);
      continue;
    }
    if (partial_.size() == kLineBytes) cut(now, out);  // and more of it follows
    const std::size_t room = kLineBytes - partial_.size();
    const std::size_t taken = std::min({bytes.find('\n'), bytes.size(), room});
    partial_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
  }
}

// The first piece of what is there goes; the beginning of a character stays for the next one.
void LogLines::cut(Time now, std::vector<std::string>& out) {
  const std::size_t kept = unfinished_character(partial_);
  std::string piece = partial_.substr(0, partial_.size() - kept);
  piece += kGoesOn;
  take(now, piece, out);
  partial_.erase(0, partial_.size() - kept);
}

LogLines::Flood LogLines::take_flood() {
  Flood flood{dropped_ - std::exchange(reported_, dropped_), {}};
  flood.held.assign(std::make_move_iterator(held_.begin()), std::make_move_iterator(held_.end()));
  held_.clear();
  return flood;
}

void LogLines::finish(Time now, std::vector<std::string>& out) {
  if (!partial_.empty()) take(now, partial_, out);
  partial_.clear();
}

// "Fatal Python error: Segmentation fault", and somewhere after it "Current thread
// 0x00007f1c9a7fe6c0 (most recent call first):".
void LogLines::note_fatal(std::string_view line) {
  constexpr std::string_view kFatal = "Fatal Python error: ", kThread = "Current thread 0x";
  if (line.find(kFatal) != std::string_view::npos) {  // behind a line that is not ended, too
    is_fatal_ = true;
    fatal_thread_ = 0;
  } else if (is_fatal_ && line.starts_with(kThread)) {
    line.remove_prefix(kThread.size());
    std::uint64_t thread = 0;
    const auto end = std::from_chars(line.data(), line.data() + line.size(), thread, 16);
    is_fatal_ = false;
    if (end.ec == std::errc{}) fatal_thread_ = thread;
  }
}

void LogLines::take(Time now, std::string_view line, std::vector<std::string>& out) {
  note_fatal(line);
  tail_.emplace_back(line);
  tail_bytes_ += line.size() + 1;
  while (tail_.size() > kTailLines || tail_bytes_ > kTailBytes) {
    tail_bytes_ -= tail_.front().size() + 1;
    tail_.pop_front();
  }
  const std::chrono::duration<double> since = now - last_;
  last_ = now;
  allowance_ = std::min<double>(kBurst, allowance_ + since.count() * kLinesPerSecond);
  // Nothing overtakes what is held.
  if (allowance_ < 1 || !held_.empty()) {
    held_.emplace_back(line);
    if (held_.size() <= kHeld) return;
    held_.pop_front();
    ++dropped_;
    return;
  }
  allowance_ -= 1;
  out.emplace_back(line);
}

std::string dropped_text(std::string_view who, std::uint64_t lines) {
  return fmt::format("{} wrote more than {} lines a second: {} are not in this log.", who,
                     LogLines::kLinesPerSecond, lines);
}

std::string LogLines::tail() const {
  std::string text;
  text.reserve(tail_bytes_);
  for (const std::string& line : tail_) text.append(line).push_back('\n');
  return text;
}

}  // namespace keelback::host
