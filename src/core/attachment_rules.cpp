#include "core/attachment_rules.h"

#include <fmt/format.h>

#include <set>

#include "base/dtype.h"

namespace keelback::core {
namespace {

// docs/protocol.md, ATTACH.
constexpr std::size_t kCountMax = 64;
constexpr std::size_t kArgumentNameMax = 256;
constexpr std::size_t kDtypeMax = 32;
constexpr std::size_t kDimsMax = 16;

}  // namespace

std::uint64_t bytes_of(const Attachments& attachments) {
  std::uint64_t bytes = 0;
  for (const Attachment& each : attachments) bytes += each.data.size();
  return bytes;
}

std::string fault_of(const Attachments& attachments) {
  if (attachments.size() > kCountMax) {
    return fmt::format("A call carries at most {} attachments, not {}.", kCountMax,
                       attachments.size());
  }
  // Names as the function sees them: no name stands for the position.
  std::set<std::string> names;
  for (std::size_t i = 0; i < attachments.size(); ++i) {
    const Attachment& each = attachments[i];
    if (each.name.size() > kArgumentNameMax || each.dtype.size() > kDtypeMax ||
        each.shape.size() > kDimsMax) {
      return fmt::format(
          "An attachment's name has at most {} bytes, its dtype {}, its shape {} "
          "extents.",
          kArgumentNameMax, kDtypeMax, kDimsMax);
    }
    const auto [name, fresh] = names.insert(each.name.empty() ? std::to_string(i) : each.name);
    if (!fresh) return fmt::format("Two attachments are called \"{}\".", *name);
    if (std::string wrong = array_fault(*name, each.dtype, each.shape, each.data.size());
        !wrong.empty()) {
      return wrong;
    }
  }
  return "";
}

}  // namespace keelback::core
