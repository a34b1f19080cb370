#include "host/traceback.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace keelback::host {
namespace {

constexpr std::string_view kFile = "  File \"";
constexpr std::string_view kLine = "\", line ";

bool is_library(std::string_view path, std::string_view runtime) {
  if (path.starts_with('<')) return true;
  if (!runtime.empty() && path.starts_with(runtime)) return true;
  for (const std::string_view part : {"/site-packages/", "/dist-packages/", "/lib/python3"}) {
    if (path.find(part) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace

std::string place_of_error(std::string_view text, std::string_view runtime) {
  std::string place;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(kFile)) continue;
    const auto end = line.rfind(kLine);
    if (end == std::string_view::npos || end < kFile.size()) continue;
    const std::string_view path = line.substr(kFile.size(), end - kFile.size());
    std::string_view number = line.substr(end + kLine.size());
    number = number.substr(0, number.find_first_not_of("0123456789"));
    if (number.empty() || is_library(path, runtime)) continue;
    place = fmt::format("{}, line {}", path, number);
  }
  return place;
}

std::string with_place(std::string message, std::string_view text, std::string_view runtime) {
  if (message.find(", line ") != std::string::npos) return message;
  const std::string place = place_of_error(text, runtime);
  if (!place.empty()) message += fmt::format(" ({})", place);
  return message;
}

}  // namespace keelback::host
