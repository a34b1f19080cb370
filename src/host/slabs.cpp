#include "host/slabs.h"

#include <cstring>
#include <utility>

#include "base/check.h"
#include "os/clock.h"

namespace keelback::host {
namespace {

std::string slab_frame(const wire::SlabMessage& message) {
  std::string frame;
  wire::append_slab(frame, message);
  return frame;
}

}  // namespace

void Slabs::attach(std::uint64_t call, const Attachments& attachments, bool inlined,
                   std::vector<SlabNews>& news, std::string& frames) {
  if (!inlined) shelf_.begin_call();
  for (const Attachment& attachment : attachments) {
    const std::uint64_t bytes = attachment.data.size();
    wire::AttachmentMessage message{.call = call,
                                    .bytes = bytes,
                                    .shape = attachment.shape,
                                    .dtype = attachment.dtype,
                                    .name = attachment.name,
                                    .filename = attachment.filename,
                                    .content_type = attachment.content_type};
    if (bytes >= wire::kSlabFrom && !inlined) {
      std::vector<std::uint32_t> dropped;
      const auto place = shelf_.place(os::monotonic_now(), bytes, dropped);
      Dropped gone;
      drop(dropped, news, gone);
      for (const auto& each : gone) each->empty();
      std::shared_ptr<os::Slab> slab;
      if (place) slab = place->fresh ? make(*place, news) : slabs_.at(place->slab);
      if (slab != nullptr) {
        std::memcpy(slab->data(), attachment.data.data(), bytes);
        message.slab = place->slab;
      }
    }
    // The core has admitted names, shapes and sizes.
    CHECK(wire::append_attachment_head(frames, wire::Type::kAttach, message));
    if (message.slab == 0) frames.append(attachment.data.view());
  }
}

std::shared_ptr<os::Slab> Slabs::make(const SlabShelf::Place& place, std::vector<SlabNews>& news) {
  auto made = os::Slab::create(place.bytes);
  if (!made) {
    shelf_.forget(place.slab);
    return nullptr;
  }
  news.push_back({slab_frame({wire::SlabOp::kComing, place.slab, place.bytes}), {}});
  news.push_back({slab_frame({wire::SlabOp::kHere, place.slab, place.bytes}), made->take_fd()});
  auto slab = std::make_shared<os::Slab>(std::move(*made));
  slabs_.emplace(place.slab, slab);
  return slab;
}

void Slabs::grow(std::uint64_t bytes, std::vector<SlabNews>& news) {
  if (const auto place = shelf_.grow(os::monotonic_now(), bytes);
      place && make(*place, news) != nullptr)
    return;
  news.push_back({slab_frame({.op = wire::SlabOp::kNone}), {}});
}

std::shared_ptr<const os::Slab> Slabs::result(const wire::AttachmentMessage& message) {
  if (!shelf_.used(os::monotonic_now(), message.slab, message.offset, message.bytes))
    return nullptr;
  return slabs_.at(message.slab);
}

bool Slabs::keep(std::uint32_t slab) {
  if (!shelf_.keep(slab)) return false;
  slabs_.erase(slab);  // our mapping; the worker has its own
  return true;
}

bool Slabs::freed(std::uint32_t slab) { return shelf_.freed(slab); }

void Slabs::drop_unused_since(Time limit, std::vector<SlabNews>& news, Dropped& out) {
  drop(shelf_.drop_unused_since(limit), news, out);
}

// Nobody uses them, so their pages may go before the worker has heard of it.
void Slabs::drop(const std::vector<std::uint32_t>& ids, std::vector<SlabNews>& news, Dropped& out) {
  for (const std::uint32_t id : ids) {
    const auto found = slabs_.find(id);
    CHECK(found != slabs_.end());
    out.push_back(std::move(found->second));
    slabs_.erase(found);
    news.push_back({slab_frame({wire::SlabOp::kGone, id, 0}), {}});
  }
}

void Slabs::clear() {
  shelf_.clear();
  slabs_.clear();
}

}  // namespace keelback::host
