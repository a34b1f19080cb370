#include "httptext/multipart.h"

#include <fmt/format.h>

#include <charconv>
#include <iterator>
#include <optional>

#include "httptext/percent.h"
#include "httptext/same_word.h"

namespace keelback::httptext {
namespace {

constexpr std::size_t kBoundaryMax = 70;         // RFC 2046
constexpr std::size_t kPartHeaderMax = 8 << 10;  // bytes, of one part

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The parameter `key` of "value; a=b; c=\"d\"", quotes and their escapes resolved.
std::optional<std::string> parameter(std::string_view text, std::string_view key) {
  std::size_t at = text.find(';');
  while (at != std::string_view::npos) {
    text.remove_prefix(at + 1);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = trim(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    text = trim(text);
    std::string value;
    if (text.starts_with('"')) {
      std::size_t end = 1;
      for (; end < text.size() && text[end] != '"'; ++end) {
        const char next = end + 1 < text.size() ? text[end + 1] : ' ';
        if (text[end] == '\\' && (next == '"' || next == '\\')) ++end;
        value += text[end];
      }
      if (end >= text.size()) return std::nullopt;
      text.remove_prefix(end + 1);
    } else {
      value = trim(text.substr(0, text.find(';')));
    }
    if (same_word(name, key)) return value;
    at = text.find(';');
  }
  return std::nullopt;
}

// What browsers write for a quote and for line ends in a name.
std::string unescape(std::string text) {
  for (const auto& [escaped, plain] : {std::pair{"%22", "\""}, {"%0D", "\r"}, {"%0A", "\n"}}) {
    for (std::size_t at = 0; (at = text.find(escaped, at)) != text.npos; ++at) {
      text.replace(at, 3, plain);
    }
  }
  return text;
}
std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"') {
      out += "%22";
    } else if (c == '\r') {
      out += "%0D";
    } else if (c == '\n') {
      out += "%0A";
    } else {
      if (c == '\\') out += c;
      out += c;
    }
  }
  return out;
}

// The file name of a Content-Disposition. RFC 7578 forbids `filename*`, but clients use it for
// names that are not ASCII.
std::expected<std::optional<std::string>, std::string> filename_of(std::string_view disposition) {
  constexpr std::string_view kCharset = "utf-8''";
  if (const auto extended = parameter(disposition, "filename*")) {
    const std::string_view text = *extended;
    auto name =
        text.size() >= kCharset.size() && same_word(text.substr(0, kCharset.size()), kCharset)
            ? percent_decode(text.substr(kCharset.size()))
            : std::nullopt;
    if (!name) return std::unexpected("a part's filename* is not UTF-8''…");
    return name;
  }
  auto name = parameter(disposition, "filename");
  if (name) name = unescape(std::move(*name));
  return name;
}

// The fields of a part's header. The error: which one is wrong.
std::optional<std::string> read_fields(std::string_view header, Part& part, bool& named) {
  while (!header.empty()) {
    const std::size_t end = header.find("\r\n");
    const std::string_view line = header.substr(0, end);
    header.remove_prefix(end == std::string_view::npos ? header.size() : end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return "a line of a part's header is no field";
    const std::string_view field = trim(line.substr(0, colon));
    const std::string_view value = trim(line.substr(colon + 1));
    if (same_word(field, "Content-Disposition")) {
      auto name = parameter(value, "name");
      if (!name) return "a part's Content-Disposition has no name";
      part.name = unescape(std::move(*name));
      named = true;
      auto filename = filename_of(value);
      if (!filename) return std::move(filename.error());
      part.filename = std::move(*filename);
    } else if (same_word(field, "Content-Type")) {
      part.content_type = value;
    } else if (same_word(field, "Keelback-Dtype")) {
      part.dtype = value;
    } else if (same_word(field, "Keelback-Shape")) {
      part.shape = value;
    } else if (same_word(field, "Content-Transfer-Encoding") && !same_word(value, "binary") &&
               !same_word(value, "8bit") && !same_word(value, "7bit")) {
      return "a part's bytes come as they are, not in a Content-Transfer-Encoding";
    }
  }
  return std::nullopt;
}

}  // namespace

std::string boundary_of(std::string_view content_type) {
  auto boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->size() > kBoundaryMax) return "";
  return std::move(*boundary);
}

std::expected<std::vector<Part>, std::string> parse_multipart(std::string_view body,
                                                              std::string_view boundary,
                                                              std::size_t parts_max) {
  const std::string delimiter = "\r\n--" + std::string(boundary);
  const std::string_view first = std::string_view(delimiter).substr(2);
  std::size_t at = 0;
  if (!body.starts_with(first)) {  // a preamble, which means nothing
    at = body.find(delimiter);
    if (at == std::string_view::npos) {
      return std::unexpected("the multipart body has no part with the boundary of its header");
    }
    at += 2;
  }
  at += first.size();
  std::vector<Part> parts;
  for (;;) {
    const std::string_view rest = body.substr(at);
    if (rest.starts_with("--")) return parts;
    const std::size_t line_end = rest.find("\r\n");
    if (line_end == std::string_view::npos || !trim(rest.substr(0, line_end)).empty()) {
      return std::unexpected("a boundary of the multipart body does not end its line");
    }
    if (parts.size() == parts_max) {
      return std::unexpected(fmt::format("the multipart body has more than {} parts", parts_max));
    }
    at += line_end + 2;
    const std::size_t header_end = body.substr(at).starts_with("\r\n")
                                       ? at
                                       : body.substr(0, at + kPartHeaderMax).find("\r\n\r\n", at);
    if (header_end == std::string_view::npos) {
      return std::unexpected("a part of the multipart body has no end of its header");
    }
    Part part;
    bool named = false;
    const bool empty = header_end == at;
    if (auto wrong = read_fields(body.substr(at, header_end - at), part, named)) {
      return std::unexpected(std::move(*wrong));
    }
    if (!named) return std::unexpected("a part of the multipart body has no name");
    const std::size_t data = header_end + (empty ? 2 : 4);
    const std::size_t end = body.find(delimiter, data);
    if (end == std::string_view::npos) {
      return std::unexpected("the multipart body ends within a part");
    }
    part.data = body.substr(data, end - data);
    parts.push_back(std::move(part));
    at = end + delimiter.size();
  }
}

bool read_shape(std::string_view text, std::vector<std::uint64_t>& shape) {
  while (!text.empty()) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    std::uint64_t extent = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), extent);
    if (error != std::errc() || shape.size() == kExtentsMax) return false;
    shape.push_back(extent);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    while (text.starts_with(' ')) text.remove_prefix(1);
    if (text.empty()) return true;
    if (!text.starts_with(',')) return false;
    text.remove_prefix(1);
    if (text.empty()) return false;
  }
  return true;
}

void append_part_head(std::string& out, std::string_view boundary, const PartHead& head) {
  auto to = std::back_inserter(out);
  if (!out.empty()) out += "\r\n";
  fmt::format_to(to, "--{}\r\nContent-Disposition: form-data; name=\"{}\"", boundary,
                 escape(head.name));
  if (head.filename) fmt::format_to(to, "; filename=\"{}\"", escape(*head.filename));
  fmt::format_to(to, "\r\nContent-Type: {}\r\n{}\r\n", head.content_type, head.headers);
}

void append_multipart_end(std::string& out, std::string_view boundary) {
  fmt::format_to(std::back_inserter(out), "\r\n--{}--\r\n", boundary);
}

}  // namespace keelback::httptext
