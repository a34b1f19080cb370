// multipart/form-data (RFC 7578, RFC 2046) of bodies that lie in memory. Pure; fuzzed.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelback::server {

// One part; everything but the name is borrowed from the body.
struct Part {
  std::string name;  // of its Content-Disposition, unescaped
  std::string_view content_type;
  std::string_view dtype;                 // Keelback-Dtype
  std::optional<std::string_view> shape;  // Keelback-Shape
  std::string_view data;
};

// The parameter of a Content-Type; empty: it has none.
std::string boundary_of(std::string_view content_type);

// The parts in order, at most `parts_max`. The error is a sentence.
std::expected<std::vector<Part>, std::string> parse_multipart(std::string_view body,
                                                              std::string_view boundary,
                                                              std::size_t parts_max);

// One part up to its data; `headers` are further lines, each with its CRLF.
void append_part_head(std::string& out, std::string_view boundary, std::string_view name,
                      bool is_file, std::string_view content_type, std::string_view headers);
void append_multipart_end(std::string& out, std::string_view boundary);

}  // namespace keelback::server
