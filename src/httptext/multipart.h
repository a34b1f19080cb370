// multipart/form-data (RFC 7578, RFC 2046) of bodies that lie in memory. Pure; fuzzed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelback::httptext {

// One part; everything but the names is borrowed from the body.
struct Part {
  std::string name;                     // of its Content-Disposition, unescaped
  std::optional<std::string> filename;  // likewise; of a file that somebody uploads
  std::string_view content_type;
  std::string_view dtype;                 // Keelback-Dtype
  std::optional<std::string_view> shape;  // Keelback-Shape
  std::string_view data;
};

// A boundary. `random`: of its own for each form, so that nobody can have put it into the bytes.
inline std::string form_boundary(std::string_view random) {
  return "keelback-" + std::string(random);
}

// The parameter of a Content-Type; empty: it has none.
std::string boundary_of(std::string_view content_type);

// The parts in order, at most `parts_max`. The error is a sentence.
std::expected<std::vector<Part>, std::string> parse_multipart(std::string_view body,
                                                              std::string_view boundary,
                                                              std::size_t parts_max);

// Parts of a form: 64 attachments, and the arguments or the result.
inline constexpr std::size_t kFormPartsMax = 65;

// "512, 512" after `shape`; empty: nothing. False: it is not that, or more than kExtentsMax
// extents.
bool read_shape(std::string_view text, std::vector<std::uint64_t>& shape);
inline constexpr std::size_t kExtentsMax = 16;

struct PartHead {
  std::string_view name;
  std::optional<std::string_view> filename = {};
  std::string_view content_type;
  std::string_view headers = {};  // further lines, each with its CRLF
};
// One part up to its data.
void append_part_head(std::string& out, std::string_view boundary, const PartHead& head);
void append_multipart_end(std::string& out, std::string_view boundary);

}  // namespace keelback::httptext
