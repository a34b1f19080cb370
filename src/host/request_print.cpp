#include "host/request_print.h"

#include <algorithm>

#include "base/hash.h"

namespace keelback::host {
namespace {

constexpr std::size_t kPieces = 32;
constexpr std::size_t kPieceBytes = 64;

}  // namespace

std::uint64_t quick_print(std::uint64_t base, const Attachments& attachments) {
  const auto mix = [&base](std::string_view bytes) { base = seeded_hash(bytes, base); };
  for (const Attachment& each : attachments) {
    mix(each.name);
    mix(each.dtype);
    mix(std::to_string(each.data.size()));
    mix(each.content_type);
    mix(each.filename);
    for (const std::uint64_t extent : each.shape) mix(std::to_string(extent));
    const std::string_view bytes = each.data.view();
    const std::size_t stride = std::max(bytes.size() / kPieces, kPieceBytes);
    for (std::size_t at = 0; at < bytes.size(); at += stride) mix(bytes.substr(at, kPieceBytes));
  }
  return base;
}

std::uint64_t full_print(std::uint64_t quick, const Attachments& attachments) {
  for (const Attachment& each : attachments) quick = seeded_hash(each.data.view(), quick);
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
