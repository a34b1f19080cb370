#include "nodes/event_reader.h"

#include <algorithm>
#include <utility>

namespace keelback::nodes {

std::optional<StreamEvent> EventReader::next() {
  for (;;) {
    const std::size_t end = text_.find('\n', std::max(begin_, scanned_));
    if (end == std::string::npos) {
      text_.erase(0, begin_);
      begin_ = 0;
      scanned_ = text_.size();
      return std::nullopt;
    }
    std::string_view line = std::string_view(text_).substr(begin_, end - begin_);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin_ = scanned_ = end + 1;
    if (!line.empty()) {
      read_line(line);
    } else if (!event_.name.empty() || has_data_) {
      has_data_ = false;
      return std::exchange(event_, {});
    }
  }
}

void EventReader::read_line(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == 0) return;  // a comment
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == line.npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") {
    event_.name = value;
  } else if (field == "data") {
    if (std::exchange(has_data_, true)) event_.data += '\n';
    event_.data += value;
  }
}

}  // namespace keelback::nodes
