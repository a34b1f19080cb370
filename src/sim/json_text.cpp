#include "sim/json_text.h"

#include <charconv>

namespace keelback::sim {
namespace {

bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// A cursor over the text; every step stays inside it.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  void skip_blanks() {
    while (at_ < text_.size() && blank(text_[at_])) ++at_;
  }
  bool end() const { return at_ >= text_.size(); }
  char peek() const { return end() ? '\0' : text_[at_]; }
  bool take(char c) {
    skip_blanks();
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  // The raw text of a string, quotes included; empty: it does not end.
  std::string_view string() {
    const std::size_t begin = at_++;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) return {};
    return text_.substr(begin, ++at_ - begin);
  }
  // The raw text of any value; empty: there is none.
  std::string_view value() {
    skip_blanks();
    const std::size_t begin = at_;
    std::size_t depth = 0;
    while (!end()) {
      const char c = peek();
      if (c == '"') {
        if (string().empty()) return {};
        if (depth == 0) break;
        continue;
      }
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') {
        if (depth == 0) break;  // closes the list around us
        --depth;
        ++at_;
        if (depth == 0) break;
        continue;
      }
      if (depth == 0 && (c == ',' || c == ':')) break;
      ++at_;
    }
    if (depth != 0) return {};
    std::string_view raw = text_.substr(begin, at_ - begin);
    while (!raw.empty() && blank(raw.back())) raw.remove_suffix(1);
    return raw;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<std::string_view> Arguments::find(std::size_t position, std::string_view name) const {
  for (std::size_t i = 0; i < count; ++i) {
    if (items[i].name.empty() ? i == position : items[i].name == name) return items[i].raw;
  }
  return std::nullopt;
}

std::optional<Arguments> read_arguments(std::string_view json) {
  Cursor cursor(json);
  Arguments out;
  const bool object = cursor.take('{');
  if (!object && !cursor.take('[')) return std::nullopt;
  const char close = object ? '}' : ']';
  if (!cursor.take(close)) {
    do {
      if (out.count == Arguments::kMax) return std::nullopt;
      Arguments::Argument& item = out.items[out.count++];
      if (object) {
        cursor.skip_blanks();
        if (cursor.peek() != '"') return std::nullopt;
        const std::string_view name = cursor.string();
        if (name.size() < 3 || !cursor.take(':')) return std::nullopt;
        item.name = name.substr(1, name.size() - 2);
      }
      item.raw = cursor.value();
      if (item.raw.empty()) return std::nullopt;
    } while (cursor.take(','));
    if (!cursor.take(close)) return std::nullopt;
  }
  cursor.skip_blanks();
  if (!cursor.end()) return std::nullopt;
  return out;
}

std::optional<std::int64_t> as_integer(std::string_view raw) {
  double number = 0;
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), number);
  if (error != std::errc{} || end != raw.data() + raw.size()) return std::nullopt;
  if (!(number > -9.0e18 && number < 9.0e18)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

}  // namespace keelback::sim
