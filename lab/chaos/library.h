// The scenarios that come with the program; the table is made at build time from scenarios/*.toml.
#pragma once

#include <string_view>
#include <vector>

namespace keelback::chaos {

struct LibraryEntry {
  std::string_view name;
  std::string_view text;
};
const std::vector<LibraryEntry>& library();  // by name

}  // namespace keelback::chaos
