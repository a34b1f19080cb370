#include "cli/read_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace keelback::cli {
namespace {

constexpr std::size_t kPayloadMax = 1ULL << 30;  // the greatest calls.payload_max

}  // namespace

std::expected<std::string, std::string> read_all(std::FILE* file, const std::string& name) {
  std::string text;
  std::string piece(64 << 10, '\0');
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), file)) {
    text.append(piece, 0, got);
    if (text.size() > kPayloadMax) return std::unexpected(name + " is larger than 1GiB");
  }
  if (std::ferror(file) != 0) {
    return std::unexpected(fmt::format("{} cannot be read: {}", name, std::strerror(errno)));
  }
  return text;
}

std::expected<std::string, std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) return std::unexpected(fmt::format("{}: {}", path, std::strerror(errno)));
  return read_all(file.get(), path);
}

}  // namespace keelback::cli
