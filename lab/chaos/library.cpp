#include "chaos/library.h"

#include <algorithm>

#include "chaos/scenario.h"

namespace keelback::chaos {

std::vector<std::string> library_names() {
  std::vector<std::string> names;
  for (const LibraryEntry& each : library()) names.emplace_back(each.name);
  return names;
}

std::optional<std::string> library_text(std::string_view name) {
  const auto found = std::ranges::find(library(), name, &LibraryEntry::name);
  if (found == library().end()) return std::nullopt;
  return std::string(found->text);
}

}  // namespace keelback::chaos
