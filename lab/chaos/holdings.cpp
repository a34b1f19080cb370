#include "chaos/holdings.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "os/process.h"

namespace keelback::chaos {

std::optional<Holdings> holdings_of(pid_t pid, std::string_view shared_path) {
  const auto stat = os::read_stat(pid);
  if (!stat) return std::nullopt;
  Holdings out{.threads = stat->threads};
  if (const auto descriptors = os::descriptors_of(pid)) out.descriptors = descriptors->size();
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    if (line.find(shared_path) == line.npos) continue;
    char* dash = nullptr;
    const std::uint64_t from = std::strtoull(line.c_str(), &dash, 16);
    if (dash == nullptr || *dash != '-') continue;
    ++out.segments;
    out.shared_bytes += std::strtoull(dash + 1, nullptr, 16) - from;
  }
  return out;
}

}  // namespace keelback::chaos
