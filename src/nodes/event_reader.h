// Server-sent events, fed as bytes in any pieces. Comments are dropped. The inverse of
// server::append_event; a line end in the data comes out as "\n". Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace keelback::nodes {

struct StreamEvent {
  std::string name;
  std::string data;
};

class EventReader {
 public:
  void feed(std::string_view bytes) { text_ += bytes; }
  // The next event that is whole; nullopt: more bytes are needed.
  std::optional<StreamEvent> next();
  // Bytes of events that are not whole, or that nobody has taken.
  std::size_t held() const {
    return text_.size() - begin_ + event_.name.size() + event_.data.size();
  }

 private:
  void read_line(std::string_view line);

  std::string text_;
  std::size_t begin_ = 0;    // what comes before is used
  std::size_t scanned_ = 0;  // no line ends between begin_ and this
  StreamEvent event_;        // its lines so far
  bool has_data_ = false;
};

}  // namespace keelback::nodes
