#include "fakeworker/attachments.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace keelback::fakeworker {

Attachments::~Attachments() {
  for (const auto& [id, slab] : slabs_) ::munmap(slab.data, slab.bytes);
}

bool Attachments::map(const wire::SlabMessage& message, int fd) {
  if (fd < 0) return false;
  void* data = ::mmap(nullptr, message.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (data == MAP_FAILED) return false;
  return slabs_.try_emplace(message.slab, Slab{static_cast<char*>(data), message.bytes}).second;
}

bool Attachments::unmap(std::uint32_t slab) {
  const auto found = slabs_.find(slab);
  if (found == slabs_.end()) return false;
  ::munmap(found->second.data, found->second.bytes);
  slabs_.erase(found);
  return true;
}

std::optional<Carried> Attachments::read(const wire::AttachmentMessage& message) const {
  Carried carried{.name = std::string(message.name),
                  .filename = std::string(message.filename),
                  .content_type = std::string(message.content_type),
                  .dtype = std::string(message.dtype),
                  .shape = message.shape,
                  .bytes = std::string(message.inlined),
                  .slab = message.slab,
                  .offset = message.offset};
  if (message.slab != 0) {
    const auto found = slabs_.find(message.slab);
    if (found == slabs_.end() || found->second.kept ||
        message.offset + message.bytes > found->second.bytes) {
      return std::nullopt;
    }
    carried.bytes.assign(found->second.data + message.offset, message.bytes);
  }
  return carried;
}

bool Attachments::look_on(const Carried& carried) {
  if (carried.slab == 0) return false;
  const std::lock_guard lock(looking_);
  looked_at_ = carried.slab;
  seen_ = {slabs_.at(carried.slab).data + carried.offset, carried.bytes.size()};
  return true;
}

std::string_view Attachments::seen() const {
  const std::lock_guard lock(looking_);
  return seen_;
}

void Attachments::look_away() {
  const std::lock_guard lock(looking_);
  seen_ = {};
}

std::string Attachments::notes() {
  const std::lock_guard lock(looking_);
  std::string frames;
  if (looked_at_ == 0) return frames;
  Slab& slab = slabs_.at(looked_at_);
  if (!slab.kept) {
    slab.kept = true;
    wire::append_slab_note(frames, wire::Type::kSlabKept, 0, looked_at_);
  } else if (seen_.empty()) {
    wire::append_slab_note(frames, wire::Type::kSlabFreed, 0, looked_at_);
    unmap(std::exchange(looked_at_, 0));
  }
  return frames;
}

std::optional<Attachments::Room> Attachments::room(std::uint64_t bytes,
                                                   const std::vector<std::uint32_t>& used) const {
  std::optional<Room> best;
  std::uint64_t best_bytes = UINT64_MAX;
  for (const auto& [id, slab] : slabs_) {
    if (slab.kept || id == looked_at_ || slab.bytes < bytes || slab.bytes >= best_bytes) continue;
    if (std::ranges::find(used, id) != used.end()) continue;
    best = Room{id, slab.data};
    best_bytes = slab.bytes;
  }
  return best;
}

}  // namespace keelback::fakeworker
