// What strangers send as a multipart body. The first line is the boundary. Beyond "does not crash":
// every part lies inside of the body, and what is written from the parts reads back as the same.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "httptext/multipart.h"

namespace {

using namespace keelback::httptext;

constexpr std::size_t kPartsMax = 8;

void write_back(const std::vector<Part>& parts) {
  // A boundary that no data has: longer than all of them.
  std::size_t longest = 0;
  for (const Part& part : parts) longest = std::max(longest, part.data.size());
  if (longest > 60) return;
  const std::string boundary(longest + 1, 'b');
  std::string body;
  for (const Part& part : parts) {
    append_part_head(
        body, boundary,
        {.name = part.name, .filename = part.filename.value_or("f"), .content_type = "a/b"});
  }
  if (parts.empty()) return;
  append_multipart_end(body, boundary);
  const auto again = parse_multipart(body, boundary, kPartsMax);
  CHECK(again && again->size() == parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Part& part = (*again)[i];
    CHECK(part.data.empty() && part.content_type == "a/b");
    CHECK(part.filename == parts[i].filename.value_or("f"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = text.find('\n');
  const std::string type(text.substr(0, line));
  const std::string_view body =
      line == std::string_view::npos ? std::string_view() : text.substr(line + 1);
  const std::string boundary = boundary_of(type);
  CHECK(boundary.size() <= 70);
  if (boundary.empty()) return 0;
  const auto parts = parse_multipart(body, boundary, kPartsMax);
  if (!parts) {
    CHECK(!parts.error().empty());
    return 0;
  }
  CHECK(parts->size() <= kPartsMax);
  for (const Part& part : *parts) {
    CHECK(part.data.empty() || (part.data.data() >= body.data() &&
                                part.data.data() + part.data.size() <= body.data() + body.size()));
    CHECK(part.data.find("\r\n--" + boundary) == std::string_view::npos);
    std::vector<std::uint64_t> shape;
    static_cast<void>(read_shape(part.shape.value_or(""), shape));
    CHECK(shape.size() <= 16);
  }
  write_back(*parts);
  return 0;
}
