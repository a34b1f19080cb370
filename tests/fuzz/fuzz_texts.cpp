// The bounds that stand in front of the libraries for JSON and TOML. The first byte says what the
// rest is: j JSON, t TOML. Beyond "does not crash": is_json() says what the library says, and what
// toml_too_deep() lets pass can be parsed and destroyed on a small stack.
#include <toml++/toml.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "base/json_text.h"
#include "base/toml_nesting.h"

namespace {

using namespace keelback;

void json(std::string_view text) {
  const bool ours = is_json(text);
  const bool theirs = nlohmann::json::accept(text);
  // It skips a byte order mark, and takes a NUL for the end.
  if (theirs && (text.starts_with("\xEF\xBB\xBF") || text.find('\0') != text.npos)) return;
  CHECK(ours || !theirs);
  // Alone the escape of a surrogate is JSON for us, as it is for Python. So is 1e999.
  if (ours && !theirs)
    CHECK(text.find("\\u") != text.npos || text.find_first_of("eE") != text.npos);
  if (!ours) CHECK(parse_json<nlohmann::json>(text).is_discarded() || theirs);
  if (json_nests_within(text, kJsonNestingMax) && theirs) {
    CHECK(!parse_json<nlohmann::json>(text)
               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
               .empty());
  }
}

std::size_t depth_of(const toml::node& node) {
  std::size_t deepest = 0;
  if (const auto* table = node.as_table()) {
    for (const auto& [key, inner] : *table) deepest = std::max(deepest, depth_of(inner));
  } else if (const auto* array = node.as_array()) {
    for (const auto& inner : *array) deepest = std::max(deepest, depth_of(inner));
  }
  return deepest + 1;
}

void toml_text(std::string_view text) {
  if (toml_too_deep(text)) return;
  try {
    CHECK(depth_of(toml::parse(text)) <= kTomlKeyDotsMax * (kTomlBracketsMax + 2) + 2);
  } catch (const toml::parse_error&) {
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'j') json(text);
  if (data[0] == 't') toml_text(text);
  return 0;
}
