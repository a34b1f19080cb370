#include "host/log_lines.h"

#include <algorithm>

namespace keelback::host {

void LogLines::feed(Time now, std::string_view bytes, std::vector<std::string>& out) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::size_t room = kLineBytes - partial_.size();
    const std::size_t taken = std::min(std::min(end, bytes.size()), room);
    partial_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
    const bool newline = !bytes.empty() && bytes.front() == '\n';
    if (newline) bytes.remove_prefix(1);
    if (newline || partial_.size() == kLineBytes) {
      take(now, partial_, out);
      partial_.clear();
    }
  }
}

void LogLines::finish(Time now, std::vector<std::string>& out) {
  if (!partial_.empty()) take(now, partial_, out);
  partial_.clear();
}

void LogLines::take(Time now, std::string_view line, std::vector<std::string>& out) {
  tail_.emplace_back(line);
  tail_bytes_ += line.size() + 1;
  while (tail_.size() > kTailLines || tail_bytes_ > kTailBytes) {
    tail_bytes_ -= tail_.front().size() + 1;
    tail_.pop_front();
  }
  const std::chrono::duration<double> since = now - last_;
  last_ = now;
  allowance_ = std::min<double>(kBurst, allowance_ + since.count() * kLinesPerSecond);
  if (allowance_ < 1) {
    ++dropped_;
    return;
  }
  allowance_ -= 1;
  out.emplace_back(line);
}

std::string LogLines::tail() const {
  std::string text;
  text.reserve(tail_bytes_);
  for (const std::string& line : tail_) text.append(line).push_back('\n');
  return text;
}

}  // namespace keelback::host
