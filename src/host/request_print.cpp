#include "host/request_print.h"

#include <algorithm>

#include "host/fingerprint.h"

namespace keelback::host {
namespace {

constexpr std::size_t kPieces = 32;
constexpr std::size_t kPieceBytes = 64;

}  // namespace

std::uint64_t quick_print(std::uint64_t base, const Attachments& attachments) {
  for (const Attachment& each : attachments) {
    base = mix(mix(mix(base, each.name), each.dtype), std::to_string(each.data.size()));
    base = mix(mix(base, each.content_type), each.filename);
    for (const std::uint64_t extent : each.shape) base = mix(base, std::to_string(extent));
    const std::string_view bytes = each.data.view();
    const std::size_t stride = std::max(bytes.size() / kPieces, kPieceBytes);
    for (std::size_t at = 0; at < bytes.size(); at += stride) {
      base = mix(base, bytes.substr(at, kPieceBytes));
    }
  }
  return base;
}

std::uint64_t full_print(std::uint64_t quick, const Attachments& attachments) {
  for (const Attachment& each : attachments) quick = mix(quick, each.data.view());
  return quick;
}

void SuspectPrints::add(std::uint64_t quick) {
  if (!prints_.insert(quick).second) return;
  order_.push_back(quick);
  if (order_.size() <= kMax) return;
  prints_.erase(order_.front());
  order_.pop_front();
}

}  // namespace keelback::host
