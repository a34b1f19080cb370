#include "core/attachment_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/dtype.h"
#include "base/hash.h"

namespace keelback::core {
namespace {

// docs/protocol.md, ATTACH.
constexpr std::size_t kCountMax = 64;
constexpr std::size_t kArgumentNameMax = 256;
constexpr std::size_t kDtypeMax = 32;
constexpr std::size_t kDimsMax = 16;
constexpr std::size_t kContentTypeMax = 256;
constexpr std::size_t kFilenameMax = 1024;
constexpr std::uint64_t kMix = 0x9e3779b97f4a7c15ULL;

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 32 && c < 127; });
}

}  // namespace

std::uint64_t bytes_of(const Attachments& attachments) {
  std::uint64_t bytes = 0;
  for (const Attachment& each : attachments) bytes += each.data.size();
  return bytes;
}

std::uint64_t kinds_of(const Attachments& attachments) {
  std::uint64_t kinds = 0;
  for (const Attachment& each : attachments) {
    kinds = seeded_hash(each.dtype, seeded_hash(each.name, kinds + 1));
    for (const std::uint64_t extent : each.shape) kinds = multiply_and_fold(kinds ^ extent, kMix);
    kinds = multiply_and_fold(kinds ^ each.shape.size(), kMix);
    // Of plain bytes only those of one length would stack.
    if (each.dtype.empty()) kinds = multiply_and_fold(kinds ^ each.data.size(), kMix);
  }
  return kinds;
}

std::string fault_of(const Attachments& attachments) {
  if (attachments.size() > kCountMax) {
    return fmt::format("A call carries at most {} attachments, not {}.", kCountMax,
                       attachments.size());
  }
  for (std::size_t i = 0; i < attachments.size(); ++i) {
    const Attachment& each = attachments[i];
    if (each.name.size() > kArgumentNameMax || each.dtype.size() > kDtypeMax ||
        each.shape.size() > kDimsMax) {
      return fmt::format(
          "An attachment's name has at most {} bytes, its dtype {}, its shape {} "
          "extents.",
          kArgumentNameMax, kDtypeMax, kDimsMax);
    }
    if (each.filename.size() > kFilenameMax || each.content_type.size() > kContentTypeMax ||
        !is_printable(each.content_type)) {
      return fmt::format(
          "An attachment's file name has at most {} bytes, its content type {} printable "
          "characters of ASCII.",
          kFilenameMax, kContentTypeMax);
    }
    // Named as the function sees it: no name stands for the position.
    const std::string name = each.name.empty() ? std::to_string(i) : each.name;
    std::string wrong = array_fault(name, each.dtype, each.shape, each.data.size());
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace keelback::core
