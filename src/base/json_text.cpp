#include "base/json_text.h"

#include <cstdint>
#include <cstring>
#include <vector>

namespace keelback {
namespace {

constexpr std::uint64_t kEach = 0x0101010101010101;
constexpr std::uint64_t kHigh = 0x8080808080808080;

// True if any of eight bytes is not a plain character of a string: a control character, a quote, a
// backslash, or outside of ASCII. May be true without cause, never false without.
bool any_special(const char* eight) {
  std::uint64_t word = 0;
  std::memcpy(&word, eight, sizeof word);
  const auto zero_in = [](std::uint64_t x) { return (x - kEach) & ~x & kHigh; };
  const std::uint64_t control = (word - 0x20 * kEach) & ~word & kHigh;
  return ((word & kHigh) | control | zero_in(word ^ ('"' * kEach)) |
          zero_in(word ^ ('\\' * kEach))) != 0;
}

bool is_json_digit(char c) { return c >= '0' && c <= '9'; }
bool is_json_hex(char c) { return is_json_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f'); }

class Checker {
 public:
  explicit Checker(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  bool run() {
    if (!begin_value()) return false;
    while (!open_.empty()) {
      if (!next_in_container()) return false;
    }
    skip_space();
    return at_ == end_;
  }

 private:
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  // A whole value, or an opened container of which nothing but the bracket is read.
  bool begin_value() {
    skip_space();
    if (at_ == end_) return false;
    switch (*at_) {
      case '{':
      case '[':
        open_.push_back(*at_++ == '{');
        first_ = true;
        return true;
      case '"':
        return string();
      case 't':
        return take_word("true");
      case 'f':
        return take_word("false");
      case 'n':
        return take_word("null");
      default:
        return number();
    }
  }

  // The end of the innermost container, or its next element up to where that is begun.
  bool next_in_container() {
    const bool is_object = open_.back();
    const bool first = first_;
    first_ = false;
    skip_space();
    if (take(is_object ? '}' : ']')) {
      open_.pop_back();
      return true;
    }
    if (!first) {
      if (!take(',')) return false;
      skip_space();
    }
    if (is_object) {
      if (!string()) return false;
      skip_space();
      if (!take(':')) return false;
    }
    return begin_value();
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (at_ != end_ && (*at_ | 32) == 'e') {
      ++at_;
      if (!take('-')) take('+');
      return digits();
    }
    return true;
  }
  bool digits() {
    if (at_ == end_ || !is_json_digit(*at_)) return false;
    while (at_ != end_ && is_json_digit(*at_)) ++at_;
    return true;
  }

  bool string() {
    if (!take('"')) return false;
    for (;;) {
      while (end_ - at_ >= 8 && !any_special(at_)) at_ += 8;
      if (at_ == end_) return false;
      const auto byte = static_cast<unsigned char>(*at_);
      if (byte >= 0x80) {
        if (!utf8()) return false;
      } else if (byte < 0x20) {
        return false;
      } else if (byte == '\\') {
        if (!escape()) return false;
      } else {
        ++at_;
        if (byte == '"') return true;
      }
    }
  }
  bool escape() {
    if (end_ - at_ < 2) return false;
    const char kind = at_[1];
    at_ += 2;
    if (kind != 'u') return std::string_view("\"\\/bfnrt").find(kind) != std::string_view::npos;
    if (end_ - at_ < 4) return false;
    for (int i = 0; i < 4; ++i) {
      if (!is_json_hex(*at_++)) return false;
    }
    return true;
  }
  // One character of two to four bytes: the shortest form, no surrogate, at most U+10FFFF.
  bool utf8() {
    const auto byte = [this](std::ptrdiff_t i) { return static_cast<unsigned char>(at_[i]); };
    const unsigned lead = byte(0);
    const std::ptrdiff_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || end_ - at_ < size) return false;
    for (std::ptrdiff_t i = 1; i < size; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return false;
    }
    if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F) ||
        (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) {
      return false;
    }
    at_ += size;
    return true;
  }

  const char* at_;
  const char* const end_;
  std::vector<bool> open_;  // the containers around at_, outermost first; true: an object
  bool first_ = false;      // nothing of the innermost one has been read
};

}  // namespace

bool is_json(std::string_view text) { return Checker(text).run(); }

bool json_nests_within(std::string_view text, std::size_t levels) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > levels) return false;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return true;
}

}  // namespace keelback
